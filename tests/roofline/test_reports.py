"""Step and run reports: what counts as prefill, rates without idle time, and the JSON line."""

import json

import pytest

from ridgeway.roofline.advice import EIGHT_BILLION
from ridgeway.roofline.cost import CostModel, QueryShape
from ridgeway.roofline.hardware import machine
from ridgeway.roofline.report import RunReport, StepReport

MODEL = CostModel.predicted(EIGHT_BILLION, "BF16", machine("h100"))


def step(rows: int, cached: int, committed: int, seconds: float, prefill_rows: int = 0) -> StepReport:
    cost = MODEL.count([QueryShape(rows, cached)])
    return StepReport.of(
        MODEL,
        cost,
        rows=rows,
        reads=1,
        requests=1,
        prefill_rows=prefill_rows,
        committed=committed,
        seconds=seconds,
    )


STEPS = [
    step(4, 0, committed=0, seconds=0.04, prefill_rows=4),
    step(3, 4, committed=1, seconds=0.03, prefill_rows=2),
    step(1, 7, committed=1, seconds=0.01),
    step(3, 8, committed=3, seconds=0.02),
]


def run(steps: list[StepReport] = STEPS, tokens: int = 5, **options: object) -> RunReport:
    return RunReport.of(
        steps,
        MODEL,
        model="eight billion",
        method="ar",
        prompt_tokens=7,
        token_ids=range(tokens),
        **options,  # type: ignore[arg-type]
    )


def test_a_step_carries_its_floor_its_estimate_and_what_bounds_it() -> None:
    decode = STEPS[2]
    assert decode.floor == MODEL.floor(decode.cost)
    assert decode.estimate == MODEL.estimate(decode.cost)
    assert decode.bound == "memory"
    assert decode.roof_fraction == pytest.approx(decode.floor / 0.01)


def test_the_first_token_belongs_to_the_prefill() -> None:
    report = run()
    assert report.first_token_seconds == pytest.approx(0.07)
    assert report.prefill.seconds == pytest.approx(0.07)
    assert report.decode.seconds == pytest.approx(0.03)
    assert report.decode_tokens_per_second == pytest.approx((5 - 1) / 0.03)


def test_the_first_token_belongs_to_the_prefill_even_if_the_prompt_was_in_the_cache() -> None:
    report = run([step(1, 6, committed=1, seconds=0.01), step(1, 7, committed=1, seconds=0.02)], tokens=2)
    assert report.prefill.seconds == pytest.approx(0.01)
    assert report.decode_tokens_per_second == pytest.approx(1 / 0.02)


def test_a_step_that_also_works_through_another_prompt_is_not_decode() -> None:
    mixed = step(5, 7, committed=1, seconds=0.5, prefill_rows=4)
    report = run([*STEPS, mixed], tokens=6)
    assert report.decode.seconds == pytest.approx(0.03)
    assert report.prefill.seconds == pytest.approx(0.57)
    assert report.decode_tokens_per_second == pytest.approx(4 / 0.03)


def test_tokens_per_forward_counts_all_weight_streams() -> None:
    report = run()
    assert report.weight_streams == 4
    assert report.tokens_per_forward == 5 / 4


def test_the_roof_fraction_is_that_of_decode() -> None:
    floors = sum(MODEL.floor(one.cost) for one in STEPS[2:])
    assert run().as_json()["roof_fraction"] == pytest.approx(floors / 0.03)


def test_a_price_per_hour_becomes_a_price_per_million_tokens() -> None:
    assert run(price=3.6).dollars_per_million_tokens == pytest.approx(3.6 / 3600 * 0.1 / 5 * 1e6)
    assert run().dollars_per_million_tokens is None


def test_the_json_line_has_what_was_promised_and_agrees_with_itself() -> None:
    report = json.loads(json.dumps(run(text="hello", kv_pool_fraction=0.25).as_json()))
    assert {
        "model", "method", "machine", "prompt_tokens", "tokens", "token_ids", "text", "weight_streams",
        "tokens_per_forward", "seconds", "decode_tokens_per_second", "bytes", "flops", "intensity", "ridge", "achieved",
        "roof_fraction", "bound", "kv_pool_fraction",
    } <= set(report)  # fmt: skip
    assert set(report["seconds"]) == {"first_token", "prefill", "decode"}
    assert set(report["bytes"]) == {"weights", "kv", "activations"}
    assert report["flops"] == sum(one.cost.flops for one in STEPS)
    assert report["bytes"]["weights"] == sum(one.cost.weight_bytes for one in STEPS)
    traffic = sum(report["bytes"].values())
    seconds = report["seconds"]["prefill"] + report["seconds"]["decode"]
    assert report["intensity"] == pytest.approx(report["flops"] / traffic)
    assert report["achieved"]["bytes_per_second"] == pytest.approx(traffic / seconds)
    assert report["achieved"]["flops_per_second"] == pytest.approx(report["flops"] / seconds)
    assert report["ridge"] == pytest.approx(989e12 / 3350e9)
    assert (report["tokens"], report["token_ids"]) == (5, [0, 1, 2, 3, 4])


def test_a_run_without_any_step_reports_zeros() -> None:
    report = run([], tokens=0).as_json()
    assert report["decode_tokens_per_second"] == 0
    assert report["tokens_per_forward"] == 0
    assert report["intensity"] == 0
