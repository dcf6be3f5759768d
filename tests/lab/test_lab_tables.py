"""The page's numbers are the cost model's, at every stop of its sliders, in three digits."""

import json
import random
import re
from itertools import product

import pytest

from ridgeway.core.errors import MachineError, MethodError, ModelError, RequestError
from ridgeway.lab.catalog import Catalog, Subject
from ridgeway.lab.figures import BATCHING, DIFFUSION, DRAFTING, FIGURES, PASSES, ROOFLINE, WALL
from ridgeway.lab.page import exported_page
from ridgeway.lab.runs import points_of_reports
from ridgeway.lab.table import three_digits
from ridgeway.roofline.decoding import BlockDiffusion, MaskedDiffusion, Speculative
from ridgeway.roofline.drafting import drafting
from ridgeway.roofline.workload import Workload

CATALOG = Catalog()
H100 = CATALOG.predictor(Subject("8b", "h100", "bf16"))


def at(table, column, **position):
    """The value where these sliders stand."""
    places = list(product(*table.axes.values()))
    return table.columns[column].values[places.index(tuple(position[name] for name in table.axes))]


def test_the_default_state_is_62_thousand_by_arithmetic_and_209_by_memory():
    facts = WALL.table(H100, {}).facts
    assert facts["by_arithmetic"] == 61_800
    assert facts["by_memory"] == 209
    assert facts["ratio"] == facts["ridge"] == 295


@pytest.mark.parametrize("subject", [("8b", "h100", "bf16"), ("qwen3-30b-a3b", "mi300x", "4-bit")])
def test_every_figure_agrees_with_the_predictor_to_rounding(subject):
    predictor = CATALOG.predictor(Subject(*subject))
    passes, batching = PASSES.table(predictor, {}), BATCHING.table(predictor, {})
    drafts = DRAFTING.table(predictor, {"acceptance": 0.8, "cost": 0.1})
    filled = DIFFUSION.table(predictor, {"answer": 256})
    found = predictor.predict(Workload(2048, 64))
    assert at(passes, "prefill_intensity", prompt=2048, output=64) == three_digits(found.prefill.cost.intensity)
    assert at(passes, "decode_seconds", prompt=2048, output=64) == three_digits(found.decode.seconds)
    found = predictor.predict(Workload(4096 - 256, 256, 32))
    assert at(batching, "total", context=4096, batch=32) == three_digits(found.estimate.total)
    assert at(batching, "kv_share", context=4096, batch=32) == three_digits(found.capacity.kv_share)
    assert at(batching, "largest_batch", context=4096, batch=32) == found.capacity.largest_batch
    judged = drafting(predictor, Workload(512, 256, 16), Speculative(6, 0.8, 0.1))
    assert at(drafts, "speedup", at_once=16, length=6) == three_digits(judged.speedup)
    assert at(drafts, "best_length", at_once=16, length=6) == judged.best_length
    assert at(drafts, "verdict", at_once=16, length=6) == judged.verdict
    work = Workload(512, 256, ends=128)
    for name, method in (("masked", MaskedDiffusion(64)), ("block", BlockDiffusion(32, 4))):
        found = predictor.predict(work, method)
        here = {"block": 32, "per_step": 4, "ends": 0.5}
        assert at(filled, f"{name}_passes", **here) == round(found.passes)
        assert at(filled, f"{name}_wasted", **here) == three_digits(found.wasted)
        assert at(filled, f"{name}_regime", **here) == found.regime


def test_an_early_end_spares_passes_of_blocks_but_not_of_whole_answers():
    table = DIFFUSION.table(H100, {"answer": 512})
    early, late = ({"block": 32, "per_step": 2, "ends": share} for share in (0.25, 1.0))
    assert at(table, "block_passes", **early) == at(table, "block_passes", **late) / 4
    assert at(table, "masked_passes", **early) == at(table, "masked_passes", **late)
    assert at(table, "masked_wasted", **early) > at(table, "masked_wasted", **late)


def test_the_roof_is_the_machines():
    facts = ROOFLINE.table(H100, {}).facts
    assert (facts["peak"], facts["bandwidth"], facts["ridge"]) == (989e12, 3350e9, 295)
    assert [point["name"] for point in facts["points"]] == ["decode, one request", "self-speculative", "lookahead"]


@pytest.mark.parametrize(
    ("subject", "error", "nearest"),
    [
        (("llama-3.1-8", "h100", "bf16"), ModelError, "llama-3.1-8b"),
        (("8b", "h10", "bf16"), MachineError, "h100"),
        (("8b", "h100", "int7"), ModelError, "int8"),
        (("../secret/config.json", "h100", "bf16"), ModelError, "no such model"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_ones(subject, error, nearest):
    with pytest.raises(error, match=re.escape(nearest)):
        CATALOG.predictor(Subject(*subject))


def test_a_slider_that_makes_no_sense_is_refused():
    with pytest.raises(MethodError, match=r"acceptance=1\.2: expected 0 to 1"):
        DRAFTING.table(H100, {"acceptance": 1.2, "cost": 0.1})
    with pytest.raises(RequestError, match="no slider 'acceptence'; did you mean acceptance"):
        DRAFTING.table(H100, {"acceptence": 0.2, "cost": 0.1})
    with pytest.raises(RequestError, match="cost is missing"):
        DRAFTING.table(H100, {"acceptance": 0.2})


def test_every_known_machine_with_a_rate_and_every_known_model_can_be_chosen():
    models = [row["name"] for row in CATALOG.described_models()]
    machines = [row["name"] for row in CATALOG.described_machines()]
    assert {"8b", "smollm2-135m", "deepseek-v3"} <= set(models)
    assert {"this", "h100", "tpu-v5e"} <= set(machines)
    for model, machine in zip(
        random.Random(0).sample(models, 8), random.Random(1).sample(machines[1:], 8), strict=True
    ):
        assert WALL.table(CATALOG.predictor(Subject(model, machine, "bf16")), {}).facts["by_memory"] > 0


def test_files_of_ones_own_can_be_chosen_by_name(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('name = "my card"\n[memory]\nphysical = 24\nbandwidth = 800\n[peaks]\nbf16 = 100\n')
    catalog = Catalog()
    assert catalog.enter_machine(str(file)) == "my card"
    assert "my card" in [row["name"] for row in catalog.described_machines()]
    assert catalog.predictor(Subject("1b", "my card", "bf16")).machine.memory_bandwidth == 800e9


def test_an_export_that_would_be_too_large_says_how_much_fits(monkeypatch):
    monkeypatch.setattr("ridgeway.lab.page.FIGURES", {"batching": BATCHING})
    subjects = [Subject("8b", machine, "bf16") for machine in ("h100", "l4", "a100")]
    one = exported_page(CATALOG, subjects[:1])
    monkeypatch.setattr("ridgeway.lab.page.LARGEST", len(one) + 1000)
    assert exported_page(CATALOG, subjects[:1]) == one
    with pytest.raises(RequestError, match="holds about 1 combination of model, machine and precision, not 3"):
        exported_page(CATALOG, subjects)


def test_reports_of_runs_become_points():
    report = {
        "method": "ar",
        "model": "SmolLM2",
        "machine": "here",
        "bound": "memory",
        "decode_tokens_per_second": 166.04,
        "decode": {
            "intensity": 2.8123,
            "flops": 4e10,
            "achieved": {"flops_per_second": 4.5e10},
            "estimated_seconds": {"seconds": 0.8},
        },
    }
    (point,) = points_of_reports(json.dumps(report) + "\n", "runs.json")
    assert point["intensity"] == 2.81
    assert point["expected_flops_per_second"] == 5e10
    with pytest.raises(RequestError, match=r"runs\.json, line 2: not a report"):
        points_of_reports(json.dumps(report) + '\n{"method": 1}\n', "runs.json")


def test_sliders_of_two_figures_never_share_a_name():
    names = [name for figure in FIGURES.values() for name in (*figure.chosen, *figure.within)]
    assert sorted(set(names)) == sorted(names)
