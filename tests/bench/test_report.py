"""The arithmetic of a report, on made-up timelines: medians, ratios inside a repeat, refusals, categories."""

import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from ridgeway.bench import tables
from ridgeway.bench.report import BenchReport, Refused, Spread
from ridgeway.bench.roof import PlainToken
from ridgeway.bench.runs import Cell, Plan
from ridgeway.bench.timeline import Timeline
from ridgeway.bench.workload import Workload
from ridgeway.roofline.advice import EIGHT_BILLION
from ridgeway.roofline.cost import CostModel, QueryShape
from ridgeway.roofline.hardware import machine
from ridgeway.roofline.report import Phase, StepReport

MODEL = CostModel.predicted(EIGHT_BILLION, "BF16", machine("h100"))
TOKENS = 5


def phase(seconds, steps, committed=1):
    cost = MODEL.count([QueryShape(1, 10)])
    counted = {"rows": 1, "reads": 1, "requests": 1, "prefill_rows": 0, "committed": committed}
    return Phase(tuple(StepReport.of(MODEL, cost, seconds=seconds, **counted) for _ in range(steps)))


def group(pace, prompts=((1, 2),), ids=None, own=False, committed=1):
    """Answers of five tokens, `pace` seconds apart; the prompt takes 1 s. own: with the weight streams."""
    arrivals = [[1.0 + pace * ((n + committed - 1) // committed) for n in range(TOKENS)] for _ in prompts]
    streams = (TOKENS - 1) // committed
    phases = (phase(1.0, 1), phase(0.9 * pace, streams, committed)) if own else (None, None)
    return Timeline.of(prompts, arrivals, ids if ids is not None else [[3] * TOKENS for _ in prompts], *phases)


def report(repeats, categories=("",), batches=(1,), faults=None, methods=("ar", "fast"), lossless=("fast",)):
    """repeats: by contender (batch 1) a list of repeats, each a list of timelines."""
    workload = Workload("made up", tuple((1, 2) for _ in categories), tuple(categories))
    cells = {(name, 1): Cell(list(found)) for name, found in repeats.items()}
    for key, fault in (faults or {}).items():
        cells[key].fault = fault
    own = tuple(name for name in methods if name in repeats)
    told = tuple(name for name in lossless if name in repeats)
    return BenchReport(Plan(workload, batches, TOKENS, 3), cells, tuple(repeats), own, told)


def runs(*paces, **options):
    return [[group(pace, **options)] for pace in paces]


def test_a_figure_is_the_median_of_the_repeats_with_their_range():
    row = report({"ar": runs(0.5, 0.1, 0.2)}).rows["ar", 1]
    assert Spread.of(row.decode) == pytest.approx((5.0, 2.0, 10.0))
    assert row.prefill == pytest.approx((2.0, 2.0, 2.0))
    assert row.first_token == (1.0, 1.0, 1.0)


def test_ratios_are_taken_inside_a_repeat():
    """The machine halves its speed in the second repeat and then doubles it: the ratio does not see it."""
    found = report({"ar": runs(0.2, 0.4, 0.1), "peer": runs(0.4, 0.8, 0.2)})
    assert found.ratio("ar", "peer", 1) == pytest.approx((2.0, 2.0, 2.0))
    unpaired = Spread.of(found.rows["ar", 1].decode).low / Spread.of(found.rows["peer", 1].decode).high
    assert unpaired == pytest.approx(0.5)


def test_groups_add_up_before_they_are_divided():
    slow_and_fast = [[group(0.9), group(0.1)]]
    assert report({"ar": slow_and_fast}, categories=("", "")).rows["ar", 1].decode == pytest.approx((8 / 4.0,))


def test_a_ratio_with_one_that_failed_is_refused_with_the_reason():
    found = report({"ar": runs(0.1), "peer": []}, faults={("peer", 1): "ended with code 3: out of luck"})
    refused = found.ratio("ar", "peer", 1)
    assert isinstance(refused, Refused)
    assert "out of luck" in refused.reason
    assert found.notes == ["peer ended with code 3: out of luck"]


def test_a_ratio_with_one_that_failed_half_way_is_refused_though_there_are_figures():
    found = report({"ar": runs(0.1, 0.1), "peer": runs(0.1)}, faults={("peer", 1): "produced 3 tokens where 5 ..."})
    assert found.rows["peer", 1].decode
    assert isinstance(found.ratio("ar", "peer", 1), Refused)
    assert isinstance(report({"ar": runs(0.1, 0.1), "peer": runs(0.1)}).ratio("ar", "peer", 1), Refused)


def test_methods_are_judged_by_their_own_weight_streams():
    found = report({"ar": runs(0.1, own=True), "fast": runs(0.1, own=True, committed=2)})
    assert found.rows["ar", 1].tokens_per_forward == pytest.approx(1.0)
    assert found.rows["fast", 1].tokens_per_forward == pytest.approx(2.0)
    assert found.rows["ar", 1].host == pytest.approx(0.1)
    floor = MODEL.floor(MODEL.count([QueryShape(1, 10)]))
    assert found.roof_fraction("ar", 1) == pytest.approx(floor / 0.09)


def test_a_peer_is_held_against_the_roof_of_the_file():
    found = replace(report({"ar": runs(0.1, own=True), "peer": runs(0.2)}), plain={1: PlainToken(0.05, 1e6)})
    assert found.roof_fraction("peer", 1) == pytest.approx(0.05 * 5.0)
    assert found.rows["peer", 1].tokens_per_forward is None
    assert report({"ar": runs(0.1), "peer": runs(0.2)}).roof_fraction("peer", 1) is None


def test_what_was_moved_is_held_against_what_memory_delivered_in_the_same_repeat():
    """The bus halves its rate in the second repeat, and so do both contenders: the fraction does not see it."""
    cells = {"ar": runs(0.1, 0.2, own=True), "peer": runs(0.2, 0.4)}
    found = replace(report(cells), plain={1: PlainToken(0.05, 1e6)}, bus={1: (2e7, 1e7)})
    moved = MODEL.count([QueryShape(1, 10)]).bytes
    assert found.bus_fraction("ar", 1) == pytest.approx((moved / 0.1 / 2e7,) * 3)
    assert found.bus_fraction("peer", 1) == pytest.approx((1e6 / 0.2 / 2e7,) * 3)
    assert report(cells).bus_fraction("ar", 1) is None


def test_a_lossless_method_with_other_tokens_is_found_out():
    other = runs(0.1, ids=[[3, 3, 3, 3, 4]])
    assert report({"ar": runs(0.1), "fast": runs(0.1)}).notes == []
    (note,) = report({"ar": runs(0.1), "fast": other}).notes
    assert "said to be lossless" in note
    assert report({"ar": runs(0.1), "fast": other}, lossless=()).notes == []


def test_how_far_a_peer_writes_the_same_is_told():
    found = report({"ar": runs(0.1), "peer": runs(0.1, ids=[[3, 3, 3, 9, 3]])})
    assert found.agreement("peer", 1) == pytest.approx(0.6)
    assert found.notes == ["peer writes the same tokens as ar for the first 60 % of an answer (median)"]


def test_categories_are_told_apart():
    kinds = ("rewrite", "chat", "rewrite")
    found = report(
        {
            "ar": [[group(0.1, own=True), group(0.1, own=True), group(0.1, own=True)]],
            "fast": [[group(0.1, own=True, committed=2), group(0.2, own=True), group(0.1, own=True, committed=4)]],
        },
        categories=kinds,
    )
    assert found.categories == ["rewrite", "chat"]
    assert found.category_rates("ar", 1, "chat") == pytest.approx((10.0,))
    assert found.category_ratio("fast", "ar", 1, "chat").median == pytest.approx(0.5)
    assert found.category_rates("fast", 1, "rewrite") == pytest.approx((8 / 0.3,))
    assert found.category_tokens_per_forward("fast", 1, "rewrite") == pytest.approx(8 / 3)
    assert report({"ar": runs(0.1)}).categories == []


def test_the_json_holds_what_the_table_shows():
    found = report({"ar": runs(0.1, 0.2, own=True), "peer": runs(0.2, 0.4)}, categories=("a",))
    told = json.loads(json.dumps(found.as_json()))
    first, second = told["results"]
    assert first["decode_tokens_per_second"]["repeats"] == pytest.approx([10.0, 5.0])
    assert first["ratios"]["peer"]["median"] == pytest.approx(2.0)
    assert second["ratios"]["ar"]["median"] == pytest.approx(0.5)
    assert (first["kind"], second["kind"]) == ("method", "peer")


def shown(found, width):
    console = Console(file=StringIO(), width=width, highlight=False)
    for table in tables.main_tables(found, width):
        console.print(table)
    for part in tables.category_tables(found):
        console.print(part)
    return console.file.getvalue()


def test_the_table_has_a_line_for_each_and_a_dash_for_what_is_refused():
    found = report({"ar": runs(0.1, own=True), "fast": runs(0.05), "peer": []}, faults={("peer", 1): "broke"})
    text = shown(found, 140)
    line = {
        name: next(line for line in text.splitlines() if f"  {name}  " in line[:14]) for name in ("ar", "fast", "peer")
    }
    assert "2.00x" in line["fast"]
    assert line["ar"].split()[:3] == ["1", "ar", "10.0"]
    assert set(line["peer"].split()[1:]) == {"-"}
    assert line["fast"].split().count("-") == 3  # no streams, no roof, no ratio to the peer


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_narrow_terminal_cuts_nothing(width):
    found = report({"ar": runs(0.1, own=True), "a-peer-with-a-name": runs(0.2), "another-peer": runs(0.3)})
    text = shown(found, width)
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    for figure in ("10.0", "2.00x", "3.00x", "1.00 s"):
        assert figure in text
