"""Each number and claim of the article, computed by the cost model that judges real runs.

Feroz Khan, "The Memory Wall Is Strangling Your LLM", Data Science Collective, May 2026. Where the article rounds or
errs, the test's docstring says so.
"""

import pytest

from ridgeway.models.known import find_outline, outline_of_parameters
from ridgeway.roofline.advice import Plain
from ridgeway.roofline.decoding import (
    Autoregressive,
    BlockDiffusion,
    MaskedDiffusion,
    Speculative,
    expected_tokens,
)
from ridgeway.roofline.hardware import machine
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.shape import QueryShape
from ridgeway.roofline.workload import Workload

H100 = machine("h100")
EIGHT_BILLION = outline_of_parameters(8e9)
LLAMA = find_outline("llama-3.1-8b")


def of(outline, precision="bf16", on=H100, **options):
    return Predictor(outline.name, outline.config, on, precision, **options)


def wall():
    return Plain.of(of(EIGHT_BILLION).cost_model, requests=1, context=0)


def predict(method=None, outline=LLAMA, **workload):
    return of(outline).predict(Workload(**workload), method)


# The wall


def test_arithmetic_alone_would_allow_62_thousand_tokens_per_second():
    """The article takes 1 PFLOP/s over 16 GFLOP per token: 62,500, printed as 62,000. The dense rate is 989 TFLOP/s."""
    per_token = wall().cost.flops
    assert per_token == pytest.approx(16e9, rel=0.001)
    assert 1e15 / per_token == pytest.approx(62_500, rel=0.001)
    assert wall().arithmetic == pytest.approx(61_812, rel=0.001)


def test_memory_allows_about_200():
    """3,350 GB/s over 16 GB are 209, which the article writes as ~200."""
    assert wall().memory == pytest.approx(3350 / 16, rel=0.001)
    assert round(wall().memory) == 209


def test_their_ratio_is_the_ridge_about_295():
    """The article says 200x: 62,000 over 300, the upper end of what it saw. The ceilings themselves are 295 apart,
    which is the ridge: with 16-bit weights a token takes as many FLOPs as bytes.
    """
    assert wall().arithmetic / wall().memory == pytest.approx(295, abs=1)
    assert H100.ridge("bf16") == pytest.approx(295, abs=1)


def test_a_token_moves_16_gigabytes():
    assert wall().cost.weight_bytes == pytest.approx(16e9, rel=0.001)
    assert wall().cost.activation_bytes < 0.001 * wall().cost.bytes


def test_a_thousand_tokens_are_a_thousand_weight_transfers():
    answer = predict(outline=EIGHT_BILLION, prompt=1, output=1001)
    assert answer.passes == pytest.approx(1000)
    assert answer.decode.cost.weight_bytes == pytest.approx(1000 * 16e9, rel=0.001)


def test_an_h100_has_80_gb_at_3350_gb_per_second_and_50_mb_on_the_chip():
    """The 50 MB that the article calls SRAM are the L2 cache. Registers and shared memory come on top; no model of use
    fits into them either.
    """
    assert H100.memory_bytes / 2**30 == 80
    assert H100.memory_bandwidth == 3350e9
    assert H100.cache_bytes == 50e6
    assert H100.compute("bf16") == 989e12
    assert of(find_outline("smollm2-135m")).cost_model.weight_bytes > 5 * H100.cache_bytes


# Decode and prefill


def test_intensity_of_decoding_does_not_depend_on_the_length_of_the_answer():
    """But for what attention adds: a few per cent of FLOPs and bytes, both of them."""
    short, long = predict(prompt=128, output=16), predict(prompt=128, output=2048)
    assert long.intensity == pytest.approx(short.intensity, rel=0.05)
    assert short.intensity == pytest.approx(1.0, rel=0.05)
    assert short.regime == long.regime == "memory"


def test_intensity_of_prefill_grows_with_the_prompt():
    """Linearly, as long as the weights are what is moved; activations and K/V bend it for thousands of tokens."""
    intensities = {n: predict(prompt=n, output=1).prefill.cost.intensity for n in (16, 32, 64, 128)}
    for n in (16, 32, 64):
        assert intensities[2 * n] / intensities[n] == pytest.approx(2, rel=0.08)
    assert intensities[128] / intensities[16] == pytest.approx(8, rel=0.15)


def test_prefill_is_compute_bound_for_prompts_above_the_ridge_only():
    """The article says prefill is compute-bound; a prompt of 100 tokens on an H100 is not yet."""
    assert predict(prompt=2048, output=1).prefill.bound == "compute"
    model = of(LLAMA).cost_model
    assert model.bound(model.count([QueryShape(100)])) == "memory"


# K/V and batching


def test_batch_64_has_64_times_the_intensity_until_kv_takes_over():
    one, many = (predict(prompt=1, output=2, concurrency=n) for n in (1, 64))
    assert many.intensity / one.intensity == pytest.approx(64, rel=0.08)  # activations take some
    one, many = (predict(prompt=8000, output=192, concurrency=n) for n in (1, 64))
    assert many.intensity / one.intensity < 20
    assert many.decode.cost.kv_bytes > many.decode.cost.weight_bytes


def test_throughput_saturates_where_kv_is_most_of_the_traffic():
    rates = [predict(prompt=8000, output=192, concurrency=n).floor.total for n in (1, 16, 256, 4096)]
    assert rates[1] / rates[0] > 4
    assert rates[3] / rates[2] < 1.2


def test_kv_grows_with_batch_times_length_times_depth():
    kv = predict(prompt=1000, output=24, concurrency=4).capacity.kv
    assert kv == 4 * 1024 * LLAMA.config.layers * 2 * 8 * 128 * 2
    assert predict(prompt=1000, output=24, concurrency=8).capacity.kv == 2 * kv
    assert predict(prompt=2000, output=48, concurrency=4).capacity.kv == 2 * kv
    deep = predict(outline=find_outline("llama-3.1-70b"), prompt=1000, output=24, concurrency=4).capacity.kv
    assert deep / kv == 80 / 32


def test_a_single_short_query_holds_about_one_per_cent_of_the_memory():
    """1 % of 80 GB are 6,500 tokens of an 8B model with grouped heads; without grouping, 1,600."""
    assert predict(prompt=6000, output=553).capacity.kv_share == pytest.approx(0.01, rel=0.02)
    ungrouped = predict(outline=find_outline("llama-2-7b"), prompt=1500, output=138).capacity
    assert ungrouped.kv_share == pytest.approx(0.01, rel=0.02)


def test_without_a_kv_cache_the_cost_is_quadratic():
    def flops(output, cached):
        return predict(Autoregressive(kv_cache=cached), prompt=1, output=output).decode.cost.flops

    assert flops(2001, True) / flops(1001, True) == pytest.approx(2, rel=0.05)
    assert flops(2001, False) / flops(1001, False) == pytest.approx(4, rel=0.08)
    assert flops(1001, False) / flops(1001, True) > 400


def test_pages_waste_less_than_contiguous_allocation():
    """Reserving the longest context wastes nearly all of it; pages of 16 waste at most 15 slots of a request."""
    room = predict(prompt=500, output=101, concurrency=8).capacity
    assert room.contiguous_waste == pytest.approx(1 - 601 / LLAMA.config.max_positions)
    assert room.paged_waste == pytest.approx(1 - 601 / 608)
    assert room.largest_batch > 100 * room.largest_batch_contiguous


# Speculative decoding


@pytest.mark.parametrize(("length", "acceptance"), [(4, 0.0), (4, 0.5), (4, 0.7), (8, 0.9), (3, 1.0)])
def test_tokens_per_pass_follow_from_the_acceptance(length, acceptance):
    """Leviathan, Kalman and Matias (2023), equation 1: 1 + a + a^2 + ... + a^length."""
    expected = sum(acceptance**i for i in range(length + 1))
    assert expected_tokens(length, acceptance) == pytest.approx(expected)
    found = predict(Speculative(length, acceptance, 0.05), prompt=100, output=101)
    assert found.tokens_per_forward == pytest.approx(expected)


def test_three_tokens_per_pass_are_a_speedup_of_three_only_if_drafts_are_free():
    """The article's figure shows 3.0 tokens and 3.0x; with a draft of a tenth of the model's cost it is 2.1x."""
    length, acceptance = 4, 0.7413
    assert expected_tokens(length, acceptance) == pytest.approx(3.0, abs=0.01)
    plain = predict(prompt=100, output=101).floor.per_token

    def speedup(cost):
        found = predict(Speculative(length, acceptance, cost), prompt=100, output=101)
        return plain / found.floor.per_token

    assert speedup(0.0) == pytest.approx(3.0, rel=0.02)
    assert speedup(0.1) == pytest.approx(3.0 / (length * 0.1 + 1), rel=0.02)  # theorem 3.8 of the paper
    assert speedup(0.1) == pytest.approx(2.14, rel=0.02)


def test_a_draft_that_is_too_large_loses_its_advantage():
    plain = predict(prompt=100, output=101).floor.per_token
    assert predict(Speculative(4, 0.9, 0.9), prompt=100, output=101).floor.per_token > plain


def test_a_draft_that_is_too_small_costs_more_work_than_plain_decoding():
    plain = predict(prompt=100, output=101)
    weak = predict(Speculative(8, 0.1, 0.05), prompt=100, output=101)
    assert weak.decode.cost.flops > plain.decode.cost.flops
    assert weak.floor.per_token > plain.floor.per_token


def test_verifying_moves_intensity_up_as_a_batch_does():
    plain, drafted = predict(prompt=100, output=101), predict(Speculative(7, 0.7, 0.0), prompt=100, output=101)
    assert drafted.intensity / plain.intensity == pytest.approx(8, rel=0.05)


def test_drafts_stop_paying_where_the_batch_has_used_up_the_idle_arithmetic():
    """The article does not say it: speculation and batching compete for the same idle FLOPs."""

    def gain(batch):
        plain = predict(prompt=100, output=101, concurrency=batch).floor.per_token
        return plain / predict(Speculative(7, 0.7, 0.0), prompt=100, output=101, concurrency=batch).floor.per_token

    assert gain(1) > 3
    assert gain(512) < 1


# Diffusion


def test_whole_sequence_diffusion_is_right_of_the_ridge():
    found = predict(MaskedDiffusion(), outline=find_outline("llada-8b"), prompt=256, output=512)
    assert found.intensity > found.ridge
    assert found.regime == "compute"


def test_intensity_of_whole_sequence_diffusion_grows_with_the_length():
    short, long = (predict(MaskedDiffusion(), prompt=n // 2, output=n // 2).intensity for n in (64, 128))
    assert long / short == pytest.approx(2, rel=0.1)


def test_a_diffusion_step_per_token_is_slower_than_plain_decoding():
    """Early LLaDA: each step computes all positions and reveals one."""
    plain = predict(prompt=256, output=512)
    diffusion = predict(MaskedDiffusion(), outline=find_outline("llada-8b"), prompt=256, output=512)
    assert diffusion.passes == 512
    assert diffusion.floor.answer > plain.floor.answer
    assert diffusion.wasted > 0.99


def test_large_blocks_or_batches_of_blocks_cross_the_ridge():
    many = predict(BlockDiffusion(block=32), prompt=256, output=512, concurrency=64)
    assert many.regime == "compute"


def test_small_blocks_at_batch_1_stay_memory_bound_on_an_h100():
    """Erratum: the article puts all block diffusion right of the ridge. A block of 32 positions has an intensity of
    about 32 FLOP/byte, a ninth of an H100's ridge; batches of blocks cross it.
    """
    one = predict(BlockDiffusion(block=32, fused_commit=False), prompt=256, output=512)
    assert one.intensity == pytest.approx(32, rel=0.1)
    assert one.intensity < 0.12 * one.ridge
    assert one.regime == "memory"


def test_block_diffusion_stops_early_and_reuses_its_cache():
    long, ended = (predict(BlockDiffusion(), prompt=256, output=1024, ends=n) for n in (None, 64))
    assert ended.passes == pytest.approx(long.passes * 64 / 1024)
    whole = predict(MaskedDiffusion(), prompt=256, output=1024, ends=64)
    assert whole.passes == predict(MaskedDiffusion(), prompt=256, output=1024).passes
    assert ended.capacity.kv > 0
    assert whole.capacity.kv == 0


# Economics


def test_decoding_alone_uses_a_small_part_of_the_arithmetic_that_is_paid_for():
    assert predict(prompt=512, output=256).compute_utilization < 0.01


def test_methods_right_of_where_plain_decoding_stands_cost_less_per_token():
    plain, batched, drafted, blocks = (
        predict(method, prompt=512, output=256, concurrency=n, price=2.0).estimate.dollars
        for method, n in ((None, 1), (None, 64), (Speculative(), 1), (BlockDiffusion(), 1))
    )
    assert batched < drafted < plain
    assert blocks < plain
