"""Predictions: hand counts of experts and latent attention, methods as streams, memory, machines in groups."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeway.core.errors import MachineError, MethodError, ModelError, RequestError
from ridgeway.models.config import Experts, LatentAttention, ModelConfig
from ridgeway.models.known import find_outline
from ridgeway.roofline.cost import CostModel
from ridgeway.roofline.decoding import (
    DECODINGS,
    Autoregressive,
    BlockDiffusion,
    Lookahead,
    MaskedDiffusion,
    SelfSpeculative,
    Speculative,
    parse_decoding,
)
from ridgeway.roofline.experts import distinct_experts
from ridgeway.roofline.hardware import machine
from ridgeway.roofline.improvement import improvements
from ridgeway.roofline.precision import PRECISIONS, precision
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.shape import QueryShape
from ridgeway.roofline.sweep import sweep_points
from ridgeway.roofline.workload import Workload

PLAIN = ModelConfig("llama", 8, 2, 4, 2, 4, 12, 10, 64, 1e-5, 1e4)
MIXTURE = replace(PLAIN, experts=Experts(count=6, active=2, intermediate=5, shared_intermediate=3, first=1))
LATENT = replace(PLAIN, latent=LatentAttention(rank=6, rope_dim=2, key_dim=4, value_dim=3, query_rank=5))
LLAMA = find_outline("llama-3.1-8b")


def counted(config, shapes, **options):
    return CostModel.predicted(config, 2.0, machine("h100"), **options).count(shapes)


def predictor(name="llama-3.1-8b", weights="bf16", on="h100", **options):
    outline = find_outline(name)
    return Predictor(outline.name, outline.config, machine(on), weights, **options)


def test_one_row_of_a_mixture_reads_and_multiplies_the_chosen_experts_only():
    cost = counted(MIXTURE, [QueryShape(1)])
    attention = 2 * (4 * 4) * 8 + 2 * (2 * 4) * 8 + 8
    plain_mlp, mixture = 3 * 12 * 8 + 8, 6 * 8 + 2 * 3 * 5 * 8 + 3 * 3 * 8 + 8
    assert cost.weight_bytes == 2 * (2 * attention + plain_mlp + mixture + 8 + 10 * 8 + 8)
    assert cost.expert_spread_bytes == 0
    assert cost.matrix_flops == 2 * (2 * (attention - 8) + plain_mlp - 8 + mixture - 8)


def test_the_floor_of_a_mixture_lets_all_rows_agree_and_the_estimate_does_not():
    cost = counted(MIXTURE, [QueryShape(1)] * 4, expert_skew=0.0)
    one_expert = 2 * 3 * 5 * 8
    uniform = 6 * (1 - (1 - 2 / 6) ** 4)
    assert cost.expert_spread_bytes == round((uniform - 2) * one_expert)
    agreeing = counted(MIXTURE, [QueryShape(1)]).weight_bytes + 3 * 2 * 8  # three more rows of the embedding
    assert cost.least_bytes - cost.kv_bytes == agreeing


def test_an_executor_may_say_how_many_experts_were_touched():
    model = CostModel.predicted(MIXTURE, 2.0, machine("h100"))
    told = model.count([QueryShape(1)] * 4, experts_touched=3)
    assert told.expert_spread_bytes == 2 * 3 * 5 * 8


@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 300), st.floats(0, 3))
def test_distinct_experts_lie_between_the_floor_and_the_uniform_figure(more, active, rows, skew):
    experts = Experts(active + more, active, 1)
    uniform = experts.count * (1 - (1 - active / experts.count) ** rows)
    found = distinct_experts(experts, rows, skew)
    assert active - 1e-9 <= found <= uniform + 1e-6
    assert distinct_experts(experts, 1, skew) == pytest.approx(active)
    assert distinct_experts(experts, rows, 0.0) == pytest.approx(uniform)


def test_latent_attention_caches_one_vector_and_takes_the_cheaper_way_to_attend():
    one = counted(LATENT, [QueryShape(1, cached=9)])
    slot = (6 + 2) * 2
    assert one.kv_read_bytes == 2 * 10 * slot
    assert one.kv_write_bytes == 2 * slot
    compressed, plain = 2 * 4 * (2 * 6 + 2), 2 * 4 * (4 + 2 + 3)
    decompress = 2 * 6 * 4 * (4 + 3)
    assert one.attention_flops == 2 * min(10 * compressed, 10 * plain + 9 * decompress) == 2 * 10 * compressed
    many = counted(LATENT, [QueryShape(40)])
    assert many.attention_flops == 2 * 820 * plain  # nothing is cached, so nothing needs decompressing twice
    matrices = 5 * 8 + 4 * 6 * 5 + 8 * 8 + 4 * 7 * 6 + 8 * 12 + 3 * 12 * 8
    assert one.matrix_flops == 2 * 2 * matrices


def test_deepseek_caches_what_its_paper_says():
    assert predictor("deepseek-v3", "fp8").cost_model.slot_bytes * 61 == 61 * 576 * 2


def test_a_method_costs_what_its_streams_do():
    work = Workload(prompt=100, output=11)
    found = predictor().predict(work, Speculative(3, 0.5, 0.25))
    model = predictor().cost_model
    rounds = 10 / 1.875
    draft, verify = (model.count([QueryShape(rows, 105, reads=rows)]) for rows in (1, 4))
    assert found.decode.cost.flops == pytest.approx(rounds * (3 * 0.25 * draft.flops + verify.flops), rel=0.01)
    assert found.passes == pytest.approx(rounds)
    assert found.decode.streams == pytest.approx(4 * rounds)


def test_self_speculation_streams_only_the_layers_that_draft():
    half, whole = (predictor().predict(Workload(), SelfSpeculative(kept=kept)) for kept in (0.5, 1.0))
    assert half.decode.cost.weight_bytes < 0.8 * whole.decode.cost.weight_bytes


def test_lookahead_pays_rows_for_tokens():
    found = predictor().predict(Workload(), Lookahead(window=5, ngram=3, guesses=5, acceptance=0.5, every=2))
    expected = 1 + 2 - (0.5**5 + 0.75**5)
    assert found.tokens_per_forward == pytest.approx((2 - 1 + expected) / 2)
    assert found.rows / found.passes == pytest.approx((5 + 5) * 2)


def test_a_fused_commit_spares_a_stream_per_block():
    fused, apart = (
        predictor().predict(Workload(64, 256), BlockDiffusion(32, 4, fused_commit=f)) for f in (True, False)
    )
    assert (fused.passes, apart.passes) == (8 * 8, 8 * 9)


def test_masked_diffusion_shows_nothing_before_the_end():
    found = predictor().predict(Workload(64, 256), MaskedDiffusion(steps=32))
    assert found.floor.first_token == pytest.approx(found.floor.answer)
    assert found.tokens_per_forward == 8


@given(
    st.sampled_from(sorted(DECODINGS)),
    st.integers(1, 2000),
    st.integers(1, 500),
    st.integers(1, 256),
    st.sampled_from(["bf16", "4-bit", "llm.int8"]),
)
def test_no_estimate_beats_its_floor_and_everything_is_json(name, prompt, output, batch, weights):
    found = predictor(weights=weights).predict(Workload(prompt, output, batch, price=1.0), DECODINGS[name]())
    assert found.estimate.per_token >= found.floor.per_token
    assert found.slowest.per_token >= found.estimate.per_token >= found.fastest.per_token * 0.999
    assert 0 <= found.wasted < 1
    assert 0 < found.roof_fraction <= 1
    assert json.loads(json.dumps(found.as_json()))["method"] == name


def test_llm_int8_multiplies_nearly_all_in_int8():
    plain, mixed = (predictor(weights=name).cost_model for name in ("int8", "llm.int8"))
    cost = plain.count([QueryShape(4096)])
    ratio = mixed.compute_seconds(cost) / plain.compute_seconds(cost)
    assert ratio == pytest.approx(0.999 + 0.001 * 1978 / 989)


def test_packed_weights_are_multiplied_in_16_bits():
    assert predictor(weights="4-bit").cost_model.arithmetic == "bf16"
    assert predictor(weights="int8", on="rtx-3090").cost_model.arithmetic == "bf16"  # it has no int8 rate here


def test_the_bits_of_a_whole_file_are_those_that_llama_cpp_states():
    for name, bits in {
        "Q4_K_M": 4.89,
        "Q4_K_S": 4.67,
        "Q5_K_M": 5.70,
        "Q6_K": 6.56,
        "Q8_0": 8.5,
        "IQ4_XS": 4.46,
    }.items():
        held = sum(precision(name).held_bytes(LLAMA.config).values())
        assert 8 * held / LLAMA.config.parameters == pytest.approx(bits, rel=0.012), name


def test_a_batch_that_does_not_fit_is_told_the_largest_that_does():
    found = predictor(on="l4")
    most = found.predict(Workload()).capacity.largest_batch
    found.check_fits(Workload(concurrency=most))
    with pytest.raises(RequestError, match=f"room for {most} requests"):
        found.check_fits(Workload(concurrency=most + 1))
    with pytest.raises(RequestError, match="does not fit"):
        predictor("llama-3.1-70b", on="l4").check_fits(Workload())


def test_several_devices_add_up_but_talk():
    one = machine("h100")
    four = one.times(4)
    assert four.memory_bandwidth == 4 * one.memory_bandwidth
    assert four.usable_bytes == 4 * one.usable_bytes
    outline = find_outline("llama-3.1-70b")
    alone = Predictor(outline.name, outline.config, machine("b200"), "bf16").cost_model
    grouped = Predictor(outline.name, outline.config, machine("b200").times(4), "bf16").cost_model
    cost = grouped.count([QueryShape(1)])
    assert grouped.floor(cost) == pytest.approx(alone.floor(cost) / 4)
    assert grouped.estimate(cost).seconds > alone.estimate(cost).seconds / 4 + 2 * 80 * 4e-6


def test_the_cost_of_an_hour_is_shared_by_all_tokens_of_it():
    found = predictor().predict(Workload(price=3.6, concurrency=4))
    assert found.estimate.dollars == pytest.approx(3.6 / 3600 / found.estimate.served * 1e6)
    assert predictor().predict(Workload()).estimate.dollars is None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Speculative(acceptance=1.2), "acceptance=1.2: expected 0 to 1"),
        (lambda: Speculative(draft_length=0), "draft_length"),
        (lambda: BlockDiffusion(block=4, tokens_per_step=8), "at most 4"),
        (lambda: parse_decoding("speculativ"), "did you mean"),
        (lambda: parse_decoding("speculative:accept=1"), "did you mean acceptance"),
        (lambda: parse_decoding("autoregressive:kv_cache=maybe"), "on or off"),
    ],
)
def test_impossible_assumptions_are_refused(make, says):
    with pytest.raises(MethodError, match=says):
        make()


def test_impossible_workloads_are_refused():
    for wrong in ({"prompt": 0}, {"concurrency": 0}, {"price": -1}, {"output": 4, "ends": 5}, {"reserved": 7}):
        with pytest.raises(RequestError):
            Workload(**wrong)


def test_assumptions_can_be_written():
    assert parse_decoding("speculative:acceptance=0.8,draft_length=6") == Speculative(6, 0.8)
    assert parse_decoding("autoregressive:kv_cache=off") == Autoregressive(kv_cache=False)
    assert parse_decoding("masked-diffusion:steps=9") == MaskedDiffusion(9)


def test_unknown_precisions_and_rates_that_are_not_there_are_refused():
    with pytest.raises(ModelError, match="did you mean"):
        precision("bf61")
    with pytest.raises(MachineError, match="has no fp32 rate"):
        predictor(on="i7-12700h")
    assert PRECISIONS["4-bit"] is precision("INT4")


def test_a_sweep_doubles_counts_and_divides_shares():
    assert [v for v, *_ in sweep_points("batch=1..12", Workload(), Autoregressive())] == [1, 2, 4, 8, 12]
    shares = [method.acceptance for _, _, method in sweep_points("acceptance=0..1", Workload(), Speculative())]
    assert shares[0] == 0
    assert shares[-1] == 1
    assert len(shares) == 11
    for wrong in ("bach=1..2", "batch=9..1", "batch=x", "batch=1.5,2"):
        with pytest.raises(RequestError):
            sweep_points(wrong, Workload(), Autoregressive())


def test_what_would_help_is_ordered_and_computed():
    found = improvements(LLAMA, machine("h100"), "bf16", Workload())
    gains = [item.gain for item in found]
    assert gains == sorted(gains, reverse=True)
    assert any("at once" in item.text for item in found)
    again = predictor().predict(Workload(concurrency=8)).estimate.total / predictor().predict(Workload()).estimate.total
    assert next(item.gain for item in found if "8 requests" in item.text) == pytest.approx(again)


def test_what_a_predictor_kept_of_a_stream_is_what_it_would_count_anew():
    """Block diffusion asks with trees, speculation with a share: neither may be taken for the other."""
    used, method = predictor(), BlockDiffusion(block=16)
    for other in (None, Speculative(15), BlockDiffusion(block=32), MaskedDiffusion()):
        for batch in (1, 8):
            used.predict(Workload(128, 128, batch), other)
    work = Workload(128, 128)
    assert used.predict(work, method) == predictor().predict(work, method)
    assert used.predict(work) == predictor().predict(work)
