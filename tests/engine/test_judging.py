"""Weight streams are judged several at once: each once, in order, and none is forgotten."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from toy_methods import SelfDrafter, Verify

from ridgeway.core.sampling_params import SamplingParams
from ridgeway.engine import judging
from ridgeway.engine.judging import Judge
from ridgeway.engine.request import Request
from ridgeway.engine.streams import HeadWork
from ridgeway.methods.autoregressive import Autoregressive
from ridgeway.testing import toy_llm

GREEDY = SamplingParams(temperature=0, max_tokens=6)


@pytest.fixture
def at_once(monkeypatch):
    """Streams do not wait for each other."""
    monkeypatch.setattr(judging, "TOGETHER", 0.0)


def streams_of(llm, count):
    """Weight streams of one answer, as the engine noted them down, shorter than any that are judged alone."""
    noted, note = [], llm.engine._judge.note
    llm.engine._judge.note = lambda stream: (noted.append(stream), note(stream))
    llm.generate([1, 2, 3], GREEDY.but(max_tokens=count), method="ar")
    return [replace(stream, seconds=1e-5) for stream in noted]


def test_streams_are_judged_in_order_and_once():
    llm = toy_llm()
    judge, streams = Judge(llm.engine._target, {}), streams_of(llm, 5)
    for stream in streams:
        judge.note(stream)
    judged = judge.reports(of_all=True)
    assert [report.cost for report in judged] == [llm.cost_model.count_batch(stream.batch) for stream in streams]
    assert judge.reports(of_all=True) == []


def test_the_work_of_a_draft_head_is_judged_in_its_place():
    llm = toy_llm()
    head = SimpleNamespace(held_bytes=100, seen_bytes=10, operations=1000)
    judge, streams = Judge(llm.engine._target, {}), streams_of(llm, 2)
    for stream in (streams[0], HeadWork(head, steps=3, sequences=2, seen=50, seconds=1e-5), streams[1]):
        judge.note(stream)
    first, work, last = judge.reports(of_all=True)
    assert [first.cost.streams, work.cost.streams, last.cost.streams] == [1, 0, 1]
    assert (work.cost.weight_bytes, work.cost.kv_read_bytes, work.cost.matrix_flops) == (300, 1500, 6000)
    assert (work.requests, work.seconds) == (2, 1e-5)


def test_short_streams_wait_for_each_other_and_long_ones_for_none():
    llm = toy_llm()
    judge, stream = Judge(llm.engine._target, {}), streams_of(llm, 1)[0]
    for number in range(judging.MOST):
        assert judge.reports(of_all=False) == [], number
        judge.note(stream)
    assert len(judge.reports(of_all=False)) == judging.MOST
    for number in range(2):
        assert judge.reports(of_all=False) == [], number
        judge.note(replace(stream, seconds=0.6 * judging.TOGETHER))
    assert len(judge.reports(of_all=False)) == 2
    judge.note(replace(stream, seconds=1.5))
    assert len(judge.reports(of_all=False)) == 1
    judge.note(stream)
    assert len(judge.reports(of_all=True)) == 1


def test_the_cost_model_learns_from_a_stream_after_those_before_it():
    llm = toy_llm()
    judge, streams = Judge(llm.engine._target, {}), streams_of(llm, 3)
    model, seen = llm.cost_model, []
    estimate, observe = model.estimate, model.observe
    model.estimate = lambda cost: (seen.append(("estimate", cost)), estimate(cost))[1]
    model.observe = lambda cost, seconds: (seen.append(("observe", cost)), observe(cost, seconds))[1]
    for stream in streams:
        judge.note(stream)
    costs = [report.cost for report in judge.reports(of_all=True)]
    assert seen == [(what, cost) for cost in costs for what in ("estimate", "observe")]


def test_a_stream_that_cannot_be_judged_costs_its_report_and_nothing_else():
    llm = toy_llm()
    expected = llm.generate([1, 2, 3], GREEDY, method="ar")[0].outputs[0].token_ids
    count, calls = llm.cost_model.count_batch, []

    def faulty(batch):
        calls.append(batch)
        if len(calls) == 3:
            raise ZeroDivisionError("a bug in the cost model")
        return count(batch)

    llm.cost_model.count_batch = faulty
    with pytest.warns(UserWarning, match="could not be judged: ZeroDivisionError: a bug in the cost model"):
        output = llm.generate([1, 2, 3], GREEDY, method="ar")[0]
    assert (output.error, output.outputs[0].token_ids) == (None, expected)
    assert len(llm.steps) == len(calls) - 1 == 5


def test_all_reports_have_come_when_a_request_ends(monkeypatch):
    monkeypatch.setattr(judging, "TOGETHER", 60.0)
    engine = toy_llm().engine
    engine.add(Request("long", [1, 2], GREEDY, Autoregressive()))
    engine.add(Request("short", [1, 2, 3], GREEDY.but(max_tokens=3), Autoregressive()))
    steps = [(len(step.reports), [output.request_id for output in step.finished]) for step in engine.run()]
    assert steps == [(0, []), (0, []), (3, ["short"]), (0, []), (0, []), (3, ["long"])]
    assert engine.reports() == []


@pytest.mark.parametrize("together", [0.0, 60.0])
@pytest.mark.parametrize("executor", ["reference", "cpu"])
def test_every_call_gets_a_report_of_every_stream_while_it_ran(monkeypatch, executor, together):
    monkeypatch.setattr(judging, "TOGETHER", together)
    llm = toy_llm(executor=executor)
    first = llm.stream([1, 2], GREEDY, method="ar")
    next(first)
    llm.generate([3, 4], GREEDY.but(max_tokens=3), method="ar")
    assert sum(step.committed for step in llm.steps if step.requests == 2) == 6
    first.close()  # which aborts it, after one token alone and three in company
    assert sum(step.committed for step in llm.steps) == 1 + 6
    llm.generate([5, 6], GREEDY, method="ar")
    assert [step.committed for step in llm.steps] == [1] * 6


def test_streams_of_drafters_are_judged_before_those_that_verify_their_drafts(monkeypatch):
    monkeypatch.setattr(judging, "TOGETHER", 60.0)
    llm = toy_llm()
    llm.generate([1, 2, 3], GREEDY.but(max_tokens=8), method=Verify(SelfDrafter(), depth=3))
    assert [step.committed for step in llm.steps] == [0, 0, 0, 4, 0, 0, 0, 4]
