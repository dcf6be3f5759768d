"""Validation: the law recovers what made the data, devices are left out, rows are read or refused with a reason."""

import csv
from importlib.resources import as_file, files

import numpy as np
import pytest

from ridgeway.core.errors import RidgewayError
from ridgeway.models.known import find_outline
from ridgeway.roofline.hardware import machine
from ridgeway.roofline.law import Sample, default_law, fit, groups
from ridgeway.roofline.measured_rows import Measurement, Refusal, read_rows
from ridgeway.roofline.precision import precision
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.reach import Fitted, Parts
from ridgeway.roofline.shape import QueryShape
from ridgeway.roofline.validation import Validation, fit_shipped, validate

COLUMNS = [
    "id", "model", "total_params_b", "active_params_b", "precision", "hardware", "n_devices", "engine",
    "decode_method", "batch", "prompt_len", "output_len", "metric", "tok_s", "speedup_vs_ar",
]  # fmt: skip


def table(tmp_path, *rows, columns=COLUMNS):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        for number, row in enumerate(rows):
            plain = {
                "id": number, "model": "Llama-3-8B", "precision": "F16", "hardware": "RTX 4090 24GB", "n_devices": 1,
                "engine": "llama.cpp b6918", "decode_method": "ar", "batch": 1, "prompt_len": 0, "output_len": 128,
                "metric": "decode_tok_s tg128", "tok_s": 50.0,
            }  # fmt: skip
            writer.writerow(plain | row)
    return path


def test_the_law_finds_the_factors_that_made_the_data():
    rng = np.random.default_rng(0)
    true = Fitted(60e-6, 1.25, 1.4, 3.0, 1.7, 2.0, 20e-6, 0.0)
    found = groups(machine("rtx-4090"), precision("Q4_0"), "llama.cpp")
    samples = []
    for n in range(120):
        layers, streamed, answers = rng.integers(16, 80), rng.uniform(1e-4, 2e-2, 5), rng.integers(1, 300)
        parts = Parts(layers, *streamed, answers)
        samples.append(Sample(parts, found, true.seconds(parts), f"device {n % 12}"))
    law = fit(samples)
    assert list(vars(law.fitted(found)).values())[1:6] == pytest.approx(list(vars(true).values())[1:6], rel=0.1)
    assert [law.seconds(sample) for sample in samples] == pytest.approx([s.seconds for s in samples], rel=0.06)


def test_one_wild_row_does_not_bend_the_law():
    found = groups(machine("rtx-4090"), precision("fp16"), "llama.cpp")
    samples = [Sample(Parts(32, b), found, 1e-3 + 1.2 * b, "a") for b in np.linspace(1e-3, 2e-2, 40)]
    wild = [*samples, Sample(Parts(32, 0.01), found, 0.5, "a")]
    assert fit(wild).seconds(samples[20]) == pytest.approx(fit(samples).seconds(samples[20]), rel=0.03)


def test_unpacking_hides_behind_the_reading_or_hides_it():
    factors = Fitted(0, 1, 0, 0, 0, 1, 0, 0)
    assert factors.seconds(Parts(weights=3, unpacked=1)) == pytest.approx(3, rel=0.01)
    assert factors.seconds(Parts(weights=1, unpacked=3)) == pytest.approx(3, rel=0.01)
    assert 1 < factors.seconds(Parts(weights=1, unpacked=1)) < 1.2


def decode_seconds(name: str, weights: str, where: str, rows: int = 1, **options) -> float:
    outline = find_outline(name)
    reach = default_law().reach(machine(where), precision(weights), **options)
    model = Predictor(name, outline.config, machine(where), weights, reach=reach).cost_model
    return model.estimate(model.count([QueryShape(1, 100)] * rows)).seconds


def test_packed_weights_are_slow_to_unpack_where_vector_units_are_few():
    """An M1 Max has the memory of an M3 Max and half of its vector units; 16-bit weights need no unpacking."""
    packed, plain = (
        decode_seconds("llama-3.1-8b", weights, "m1-max-32", engine="llama.cpp")
        / decode_seconds("llama-3.1-8b", weights, "m3-max-40c", engine="llama.cpp")
        for weights in ("Q4_K_M", "fp16")
    )
    assert plain == pytest.approx(1, abs=0.02)
    assert packed > 1.3


def test_attention_that_is_no_kernel_of_its_own_reads_keys_for_every_query_head():
    config = find_outline("llama-3.1-8b").config
    parts = []
    for flash in (True, False):
        law = default_law().fitted(groups(machine("rtx-3090"), precision("fp16"), "llama.cpp", flash))
        model = Predictor("x", config, machine("rtx-3090"), "fp16").cost_model
        near, far = (model.parts(model.count([QueryShape(1, context)])) for context in (100, 8000))
        parts.append(law.seconds(far) - law.seconds(near))
    assert parts[1] > 2 * parts[0]


def test_products_of_experts_are_as_small_as_the_rows_that_choose_them():
    """2,048 rows are many, but an expert of gpt-oss-120b sees some tens of them."""
    outline = find_outline("gpt-oss-120b")
    model = Predictor("x", outline.config, machine("h100"), "mxfp4").cost_model
    parts = model.parts(model.count([QueryShape(2048)]))
    assert parts.few > 0.2 * parts.many
    dense = Predictor("x", find_outline("llama-3.1-8b").config, machine("h100")).cost_model
    assert dense.parts(dense.count([QueryShape(2048)])).few == 0


def test_a_device_is_judged_without_its_own_rows(tmp_path):
    """Rows of a device that say nonsense change what is predicted for others, and not for itself."""
    odd = {"hardware": "TPU v5e", "precision": "bf16", "engine": "vllm", "tok_s": 1.0}
    alone = validate(table(tmp_path, odd)).judged[0].predicted
    many = validate(table(tmp_path, odd, *({**odd, "prompt_len": n, "tok_s": 0.9} for n in range(100, 900, 100))))
    assert many.judged[0].predicted == pytest.approx(alone, rel=1e-6)


def test_rows_that_come_with_ridgeway_are_not_taken_twice(tmp_path):
    row = {"hardware": "RTX 3090", "tok_s": 47.4}
    once = validate(table(tmp_path, row)).judged[0].predicted
    assert validate(table(tmp_path, row, row)).judged[0].predicted == pytest.approx(once, rel=1e-6)


def test_the_stored_coefficients_are_the_fit_of_the_stored_rows():
    law, stored = fit_shipped(), default_law()
    assert set(law.corrections) == set(stored.corrections)
    for name, values in law.corrections.items():
        assert stored.corrections[name] == pytest.approx(values, abs=2e-3), name
    assert (stored.low, stored.high) == pytest.approx((law.low, law.high), abs=2e-3)


def test_what_ridgeway_ships_is_predicted_well_from_other_devices():
    """The figures of docs/predictions.md; a change that makes predictions worse fails here."""
    with as_file(files("ridgeway.roofline") / "measured.csv") as path:
        result = validate(path)
    assert result.gate is not None
    assert result.gate.median <= 0.08
    assert result.gate.p90 <= 0.25
    assert result.coverage >= 0.90


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"hardware": "RTX 3070 mobile"}, "not in the table"),
        ({"hardware": ""}, "hardware is not stated"),
        ({"precision": ""}, "precision is not stated"),
        ({"precision": "Q3_K_XXL"}, "is not known"),
        ({"model": "Some-MoE", "total_params_b": "50", "active_params_b": "5"}, "mixture of experts"),
        ({"model": "Nobody"}, "parameters are not stated"),
        ({"metric": "overall speedup"}, "drafts are not known"),
        ({"metric": "overall speedup", "decode_method": "EAGLE", "speedup_vs_ar": "2"}, "tokens per forward"),
        ({"tok_s": "fast"}, "no rate"),
        ({"batch": "some"}, "is no number"),
        ({"decode_method": "EAGLE"}, "draft's cost"),
        ({"decode_method": "prefill", "metric": "prefill_tok_s", "prompt_len": ""}, "prompt length"),
        ({"hardware": "Graviton4"}, "has no fp32 rate"),
    ],
)
def test_a_row_that_cannot_be_predicted_says_why(tmp_path, row, reason):
    result = validate(table(tmp_path, row))
    assert not result.judged
    assert reason in next(iter(result.reasons))


def test_a_refused_row_of_the_gate_lowers_the_coverage(tmp_path):
    result = validate(table(tmp_path, {}, {"hardware": "RTX 3070 mobile"}))
    assert result.coverage == 0.5
    assert not result.passes


def test_a_row_that_beats_the_floor_is_listed(tmp_path):
    result = validate(table(tmp_path, {"tok_s": 70.0}, {"tok_s": 55.0}))
    assert [item.row.id for item in result.beat_floor] == ["0"]


def test_a_row_too_fast_for_its_prompts_is_named_and_counts(tmp_path):
    """64 prompts of 2,000 tokens take an H100 0.9 s at its peak; 100 steps of 11 ms leave no room for them."""
    row = {
        "hardware": "H100", "precision": "fp8", "engine": "vllm 0.12.0", "batch": 64, "prompt_len": 2000,
        "output_len": 100, "decode_method": "ar-batched (continuous)", "metric": "decode_tok_s_per_user",
    }  # fmt: skip
    result = validate(table(tmp_path, row | {"tok_s": 90}, row | {"tok_s": 30}))
    assert [item.row.id for item in result.spared_prompts] == ["0"]
    assert len(result.gated) == 2
    assert result.gate_without_spared.rows == 1


@pytest.mark.parametrize(("engine", "itemsize"), [("vllm 0.12.0", 2), ("vllm 0.18.0", 1), ("TensorRT-LLM 1.0", 1)])
def test_engines_read_a_checkpoint_s_width_of_keys_from_some_version_on(tmp_path, engine, itemsize):
    said = {"model": "nvidia/Llama-3.1-8B-Instruct-FP8", "precision": "fp8", "hardware": "H100", "engine": engine}
    row = read_rows(table(tmp_path, said))[0]
    assert isinstance(row, Measurement)
    assert row.kv_itemsize == itemsize


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("h200_sxm", "h200"),
        ("A100 SXM 80GB (330 W cap)", "a100"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("4080 16GB", "rtx-4080"),
        ("M2 Ultra 76-Core GPU 192GB", "m2-ultra-76"),
        ("Apple M3 Max 40-Core GPU 64GB", "m3-max-40c"),
        ("GB10 / DGX Spark", "gb10"),
        ("Ryzen AI Max+ 395", "strix-halo"),
    ],
)
def test_many_spellings_name_one_machine(tmp_path, said, key):
    row = read_rows(table(tmp_path, {"hardware": said}))[0]
    assert isinstance(row, Measurement)
    assert row.device == key


def test_mixtures_and_several_devices_do_not_count_for_the_gate(tmp_path):
    result = validate(
        table(
            tmp_path,
            {"model": "Mixtral-8x7B", "active_params_b": "12.9", "hardware": "H100"},
            {"n_devices": 2, "hardware": "H100"},
        )
    )
    assert len(result.judged) == 2
    assert not result.gated
    assert {group.name for group in result.folds()} == {
        "decode, mixture of experts, one device",
        "decode, dense, several devices",
    }


def test_a_table_that_is_none_is_refused(tmp_path):
    with pytest.raises(RidgewayError, match="cannot be read"):
        read_rows(tmp_path / "absent.csv")
    with pytest.raises(RidgewayError, match="has no column"):
        read_rows(table(tmp_path, {}, columns=["id", "model"]))


def test_nothing_judged_passes_no_gate():
    empty = Validation((), (Refusal("1", "because", gated=True),))
    assert not empty.passes
    assert empty.coverage == 0


SPEEDUPS = ["method", "target_model", "hardware", "batch_or_concurrency", "speedup_x", "accept", "notes"]


def test_speed_ups_are_judged_from_tokens_per_pass(tmp_path):
    """A free draft gains nearly its tokens; one that costs five passes of a layer and a head gains less."""
    row = {"target_model": "Vicuna-7B", "hardware": "A100 80GB", "batch_or_concurrency": "1", "notes": "fp16, pytorch"}
    free = row | {"method": "PLD", "speedup_x": "1.66", "accept": "1.75 tok/step"}
    costly = row | {"method": "EAGLE", "speedup_x": "2.1", "accept": "3.58 tok/step"}
    absurd = row | {"method": "PLD", "speedup_x": "3", "accept": "2 tok/step"}
    result = validate(table(tmp_path, free, costly, absurd, row | {"method": "Medusa", "accept": ""}, columns=SPEEDUPS))
    gains = [item.predicted / item.row.tokens for item in result.judged]
    assert 0.9 < gains[0] <= 1
    assert 0.6 < gains[1] < 0.9
    assert [item.row.rate for item in result.beat_floor] == [3]
    assert not result.gated
    assert len(result.refused) == 1
