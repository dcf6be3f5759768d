"""A fault ends one request, never the engine, and never its neighbours."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from toy_methods import Oracle, SelfDrafter, Verify

from ridgeway.core.errors import MethodError, RequestError
from ridgeway.core.method import Rows
from ridgeway.core.query import Commit
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.methods.autoregressive import Autoregressive
from ridgeway.testing import check_lossless, toy_llm

PROMPT = [1, 2, 3, 4, 5]
PARAMS = SamplingParams(temperature=0, max_tokens=10, logprobs=1)


class Faulty(Oracle):
    def __init__(self, where):
        super().__init__({})
        self.where = where

    def propose(self, sequences, depths, streams):
        if self.where == "propose":
            raise ZeroDivisionError("propose")
        if self.where == "too few trees":
            return []
        return [self._nothing() for _ in sequences] if self.where != "no trees" else None

    def observe(self, sequence, query, answer, commit):
        if self.where == "observe" or (self.where == "observe the last" and sequence.finished):
            raise ZeroDivisionError("observe")

    def _nothing(self):
        from ridgeway.core.method import NO_DRAFT

        return NO_DRAFT


@dataclass(frozen=True)
class FaultyMethod(Verify):
    where: str = ""
    drafter: Faulty = field(default_factory=lambda: Faulty(""))

    def demand(self, sequence):
        if self.where == "demand":
            raise ZeroDivisionError("demand")
        if self.where == "no rows":
            return Rows(0, 0)
        return super().demand(sequence)

    def plan(self, sequence, rows, draft):
        if self.where == "plan":
            raise ZeroDivisionError("plan")
        return super().plan(sequence, rows, draft)

    def commit(self, sequence, query, answer):
        commit = super().commit(sequence, query, answer)
        if self.where == "commit":
            raise ZeroDivisionError("commit")
        if self.where == "source" and len(commit.tokens):
            return Commit(commit.tokens, commit.keep, commit.source[:0])
        if self.where == "too many tokens":
            return Commit(np.append(commit.tokens, [1, 2, 3]), commit.keep)
        return commit


@pytest.mark.parametrize(
    "where",
    [
        "demand",
        "no rows",
        "plan",
        "commit",
        "source",
        "too many tokens",
        "propose",
        "no trees",
        "too few trees",
        "observe",
        "observe the last",
    ],
)
def test_wherever_a_method_fails_its_request_alone_ends(where):
    llm = toy_llm()
    expected = llm.generate(PROMPT, PARAMS)[0].outputs[0].token_ids
    outputs = llm.generate([PROMPT] * 3, PARAMS, method=["ar", FaultyMethod(Faulty(where), where=where), "ar"])
    assert [outputs[n].outputs[0].token_ids for n in (0, 2)] == [expected] * 2
    assert outputs[0].error is None
    if where != "observe the last":
        assert outputs[1].error is not None
        assert outputs[1].outputs[0].finish_reason == "error"
    llm.engine.check()


def test_a_method_that_cannot_start_is_refused():
    class NoStart(Autoregressive):
        def start(self, sequence):
            raise ZeroDivisionError("start")

    llm = toy_llm()
    with pytest.raises(MethodError, match="cannot start"):
        llm.generate(PROMPT, PARAMS, method=NoStart())
    assert not llm.engine.busy


def test_a_method_that_cannot_explain_itself_costs_no_answer():
    class Mute(Autoregressive):
        def explain(self, sequence):
            raise ZeroDivisionError("explain")

    output = toy_llm().generate(PROMPT, PARAMS, method=Mute())[0]
    assert output.error is None
    assert len(output.outputs[0].token_ids) == len(toy_llm().generate(PROMPT, PARAMS)[0].outputs[0].token_ids)
    assert "cannot explain itself: ZeroDivisionError" in output.outputs[0].explanation[0]


def test_a_failed_weight_stream_is_not_judged_and_raises_no_ceiling():
    llm = toy_llm()
    forward = llm.executor.forward

    def broken(batch):
        if len(batch.entries) > 1 or len(batch.entries[0].query) == 3:
            raise FloatingPointError("broken")
        return forward(batch)

    llm.executor.forward = broken
    before = llm.machine.memory_bandwidth
    fine, faulty = llm.generate([[1, 2, 3, 4], [4, 5, 6]], PARAMS, method="ar")
    assert (fine.error, faulty.outputs[0].finish_reason) == (None, "error")
    assert llm.machine.memory_bandwidth == before
    assert [step.requests for step in llm.steps] == [1] * 10
    assert sum(step.committed for step in llm.steps) == 10


def test_streams_that_are_open_at_once_each_get_their_own():
    llm = toy_llm()
    params = SamplingParams(temperature=0, max_tokens=9)
    expected = [o.outputs[0].token_ids for o in llm.generate([[1, 2], [3, 4]], params)]
    first = llm.stream([1, 2], params)
    heard = list(next(first).token_ids)
    second = [token for delta in llm.stream([3, 4], params) for token in delta.token_ids]
    heard += [token for delta in first for token in delta.token_ids]
    assert [heard, second] == expected


def test_a_drafter_with_weight_streams_of_its_own_is_counted_and_leaves_nothing_behind():
    llm = toy_llm()
    expected = llm.generate(PROMPT, PARAMS)[0].outputs[0].token_ids
    drafter = SelfDrafter()
    output = llm.generate(PROMPT, PARAMS, method=Verify(drafter, depth=3))[0]
    assert output.outputs[0].token_ids == expected
    assert drafter.streams > 0
    assert len(llm.steps) == drafter.streams + output.metrics.weight_streams
    assert output.metrics.weight_streams < 10  # the model agrees with itself
    llm.engine.check()


@pytest.mark.parametrize("slots", [32, 48, 160])
def test_where_pages_are_short_drafts_are_left_out_and_no_request_fails(slots):
    llm = toy_llm(slots=slots)
    prompts = [[n] * 9 for n in (3, 8, 13)]
    expected = toy_llm().generate(prompts, PARAMS)
    outputs = llm.generate(prompts, PARAMS, method=Verify(SelfDrafter(), depth=3))
    assert [o.outputs[0].token_ids for o in outputs] == [o.outputs[0].token_ids for o in expected]
    llm.engine.check()


def test_streams_of_a_drafter_that_fails_are_counted_and_their_pages_given_back():
    llm = toy_llm()
    drafter = SelfDrafter(fail_at=4)
    output = llm.generate(PROMPT, PARAMS, method=Verify(drafter, depth=3))[0]
    assert "fourth" in output.error
    assert len(llm.steps) == drafter.streams + output.metrics.weight_streams
    llm.engine.check()


def test_a_drafter_of_its_own_streams_is_lossless():
    check_lossless(Verify(SelfDrafter(), depth=3))


@pytest.mark.parametrize(
    "prompts",
    [
        None,
        1.5,
        5,
        [None],
        [1.5],
        [[1], 2],
        [["a"]],
        [[1.7, 2.9]],
        [[True]],
        {1, 2},
        {"text": "a"},
        [[]],
        {"prompt_token_ids": None},
        b"bytes",
    ],
)
def test_what_is_no_prompt_is_refused(prompts):
    with pytest.raises(RequestError):
        toy_llm().generate(prompts)


def test_prompts_come_in_many_forms():
    llm = toy_llm()
    params = SamplingParams(temperature=0, max_tokens=3)
    forms = [[1, 2, 3], (1, 2, 3), np.array([1, 2, 3]), {"prompt_token_ids": [1, 2, 3]}, [[1, 2, 3]], range(1, 4)]
    assert len({tuple(llm.generate(form, params)[0].outputs[0].token_ids) for form in forms}) == 1
    assert llm.generate([], params) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"token_ids": []},
        {"token_ids": [1.5]},
        {"token_ids": None},
        {"token_ids": [99]},
        {"token_ids": [1] * 600},
        {"token_ids": [1], "cached": 1},
        {"token_ids": [1, 2], "cached": 1.0},
        {"token_ids": [1], "visibility": None},
    ],
)
def test_logits_of_what_is_no_query_are_refused(wrong):
    with pytest.raises(RequestError):
        toy_llm().logits(**wrong)


@pytest.mark.parametrize("wrong", [{"max_sequences": 0}, {"max_rows": -3}, {"max_rows": 1.5}, {"slots": -5}])
def test_limits_that_allow_nothing_are_refused(wrong):
    with pytest.raises(RequestError, match=next(iter(wrong))):
        toy_llm(**wrong)


def test_a_stop_token_outside_the_vocabulary_is_refused():
    with pytest.raises(RequestError, match="stop_token_ids names token 9999"):
        toy_llm().generate([1], SamplingParams(stop_token_ids=[9999], min_tokens=2))


def test_params_must_be_one_for_all_or_one_for_each():
    with pytest.raises(RequestError, match="2 params for 3 prompts"):
        toy_llm().generate([[1], [2], [3]], [SamplingParams()] * 2)
