from dataclasses import dataclass

import numpy as np
import pytest

from ridgeway.core.errors import RequestError
from ridgeway.core.method import Rows
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.engine.request import Request
from ridgeway.methods.autoregressive import Autoregressive
from ridgeway.methods.registry import make_method
from ridgeway.testing import toy_llm

LONG = [int(token) for token in np.random.default_rng(0).integers(0, 61, 100)]
GREEDY = SamplingParams(temperature=0, max_tokens=8)


def test_a_second_request_with_the_same_prefix_skips_its_prefill():
    llm = toy_llm()
    first = llm.generate(LONG, GREEDY, method="ar")[0]
    rows = llm.steps[0].rows
    again = llm.generate(LONG, GREEDY, method="ar")[0]
    assert (first.num_cached_tokens, rows) == (0, 100)
    assert (again.num_cached_tokens, llm.steps[0].rows) == (96, 4)
    assert again.outputs[0].token_ids == first.outputs[0].token_ids


def test_a_conversation_continues_from_its_own_answer():
    llm = toy_llm()
    answer = llm.generate(LONG, SamplingParams(temperature=0, max_tokens=30))[0].outputs[0].token_ids
    following = llm.generate(LONG + answer + [1, 2], GREEDY)[0]
    assert following.num_cached_tokens == 128


def test_prefix_caching_can_be_switched_off():
    llm = toy_llm(prefix_caching=False)
    llm.generate(LONG, GREEDY)
    assert llm.generate(LONG, GREEDY)[0].num_cached_tokens == 0


def test_samples_of_one_request_share_the_prompts_prefill():
    llm = toy_llm(prefix_caching=False)
    output = llm.generate(LONG, SamplingParams(n=4, seed=1, max_tokens=8))[0]
    assert sum(step.rows for step in llm.steps) < 100 + 3 * 16 + 4 * 8
    assert len({tuple(sample.token_ids) for sample in output.outputs}) == 4
    assert [sample.index for sample in output.outputs] == [0, 1, 2, 3]


def test_samples_share_the_prompt_though_the_first_has_ended_before_they_begin():
    llm = toy_llm(prefix_caching=False)
    llm.generate(LONG, SamplingParams(n=4, seed=1, max_tokens=1))
    assert [step.rows for step in llm.steps] == [100, 3 * 4]


def test_without_a_prefix_cache_requests_take_the_same_pages_again():
    llm = toy_llm(prefix_caching=False)
    llm.generate(LONG, GREEDY)
    free = set(llm.engine.pool._free)
    llm.generate(LONG[::-1], GREEDY)
    assert set(llm.engine.pool._free) == free


def test_a_long_prompt_is_prefilled_in_chunks_while_others_decode():
    llm = toy_llm(max_rows=32)
    engine = llm.engine
    engine.add(Request("short", [1, 2], SamplingParams(temperature=0, max_tokens=12), Autoregressive()))
    engine.step()
    engine.add(Request("long", LONG, GREEDY, Autoregressive()))
    steps = [engine.step() for _ in range(4)]
    reports = [report for step in steps for report in step.reports] + engine.reports()
    assert [report.rows for report in reports] == [2, 32, 32, 32, 8]
    assert all(delta.request_id == "short" for step in steps[:3] for delta in step.deltas)
    assert {delta.request_id for delta in steps[3].deltas} == {"short", "long"}
    for _ in engine.run():
        pass


def test_drafts_get_the_rows_that_prompts_leave():
    engine = toy_llm(max_rows=32).engine
    engine.add(
        Request("drafting", [1, 2] * 6, SamplingParams(temperature=0, max_tokens=40), make_method("ngram:depth=8"))
    )
    for _ in range(3):
        engine.step()
    engine.add(Request("long", LONG, GREEDY, Autoregressive()))
    step = engine.step()
    long = engine.tracked["long"].samples[0].sequence
    assert long.cached == 31
    assert len(step.deltas) == 1
    for _ in engine.run():
        pass


@dataclass(frozen=True)
class FailsForTheSecond(type(make_method("ngram"))):
    """A drafting method that is at fault as soon as a second sample asks for rows."""

    name = "fails-for-the-second"

    def demand(self, sequence):
        if sequence.sample == 1:
            raise RuntimeError("no second one")
        return super().demand(sequence)


def test_a_sample_that_fails_as_it_is_let_in_leaves_no_pages_with_its_siblings():
    engine = toy_llm(max_rows=32).engine
    params = SamplingParams(temperature=0.5, seed=1, max_tokens=20, n=2)
    engine.add(Request("two", [1, 2] * 6, params, FailsForTheSecond()))
    finished = [output for step in engine.run() for output in step.finished]
    assert "no second one" in finished[0].error
    assert engine.pool.owned == 0


def test_a_sequence_that_must_have_many_rows_leaves_some_for_the_drafts_of_others():
    @dataclass(frozen=True)
    class Wide(Autoregressive):
        def demand(self, sequence):
            return Rows(80, 80) if sequence.pending == 1 else super().demand(sequence)

    engine = toy_llm(max_rows=64).engine
    engine.add(Request("wide", [3, 4], SamplingParams(temperature=0, max_tokens=30), Wide()))
    params = SamplingParams(temperature=0, max_tokens=30)
    engine.add(Request("drafting", [1, 2] * 6, params, make_method("ngram:depth=8")))
    for _ in range(3):
        engine.step()
    granted = {grant.running.sequence.request_id: grant.rows for grant in engine.scheduler.schedule()}
    assert granted == {"wide": 80, "drafting": 9}


def test_preemption_changes_no_token():
    params = [SamplingParams(temperature=1.0, seed=s, max_tokens=60) for s in range(6)]
    prompts = [LONG[s * 3 : s * 3 + 20] for s in range(6)]
    roomy = toy_llm(slots=4096).generate(prompts, params)
    tight = toy_llm(slots=160).generate(prompts, params)
    assert sum(output.metrics.preemptions for output in tight) > 0
    assert [o.outputs[0].token_ids for o in tight] == [o.outputs[0].token_ids for o in roomy]


def test_an_answer_that_outgrows_the_pool_alone_ends_by_length():
    output = toy_llm(slots=64).generate(LONG[:40], SamplingParams(temperature=0, max_tokens=100))[0]
    assert output.outputs[0].finish_reason == "length"
    assert 40 + len(output.outputs[0].token_ids) in (64, 65)


@pytest.mark.parametrize(
    ("prompt", "params", "says"),
    [
        ([], {}, "prompt is empty"),
        ([61], {}, "not in the vocabulary"),
        ([-1], {}, "not in the vocabulary"),
        (LONG * 6, {}, "the prompt has 600 tokens"),
        ([1], {"stop": "x"}, "need a tokenizer"),
        ([1], {"logit_bias": {99: 1.0}}, "logit_bias names token 99"),
    ],
)
def test_a_bad_request_is_refused_before_any_work(prompt, params, says):
    llm = toy_llm()
    with pytest.raises(RequestError, match=says):
        llm.generate([[1, 2], prompt], SamplingParams(**params))
    assert not llm.engine.busy


def test_a_fault_in_one_method_ends_that_request_alone():
    class Faulty(Autoregressive):
        def commit(self, sequence, query, answer):
            if sequence.generated == 3:
                raise ZeroDivisionError("a bug in somebody's method")
            return super().commit(sequence, query, answer)

    llm = toy_llm()
    fine, faulty = llm.generate([[1, 2, 3], [4, 5, 6]], GREEDY, method=["ar", Faulty()])
    assert (fine.error, fine.outputs[0].finish_reason) == (None, "length")
    assert faulty.outputs[0].finish_reason == "error"
    assert "a bug in somebody's method" in faulty.error
    assert len(faulty.outputs[0].token_ids) == 3


def test_a_method_that_keeps_wrong_rows_is_found_out():
    class Cheat(Autoregressive):
        def commit(self, sequence, query, answer):
            commit = super().commit(sequence, query, answer)
            return type(commit)(commit.tokens, np.append(commit.keep, commit.keep[-1]))

    output = toy_llm().generate([1, 2, 3], GREEDY, method=Cheat())[0]
    assert "keeps rows" in output.error


def test_a_fault_in_a_weight_stream_ends_only_the_request_that_causes_it():
    llm = toy_llm()
    forward = llm.executor.forward

    def broken(batch):
        if any(len(entry.query) == 3 for entry in batch.entries):
            raise FloatingPointError("three rows")
        return forward(batch)

    llm.executor.forward = broken
    fine, faulty = llm.generate([[1, 2, 3, 4], [4, 5, 6]], GREEDY, method="ar")
    assert fine.error is None
    assert "three rows" in faulty.error


def test_aborting_gives_the_pages_back_and_returns_what_there_is():
    engine = toy_llm().engine
    engine.add(Request("a", LONG, SamplingParams(temperature=0, max_tokens=50), Autoregressive()))
    for _ in range(5):
        engine.step()
    output = engine.abort("a")
    assert output.outputs[0].finish_reason == "abort"
    assert len(output.outputs[0].token_ids) == 5
    assert engine.abort("a") is None
    engine.check()


def test_leaving_a_stream_early_aborts_it():
    llm = toy_llm()
    for _ in llm.stream(LONG, SamplingParams(temperature=0, max_tokens=50)):
        break
    assert not llm.engine.busy
    llm.engine.check()


def test_streamed_tokens_are_the_generated_ones():
    llm = toy_llm()
    params = SamplingParams(n=2, seed=4, max_tokens=9)
    expected = llm.generate([LONG, [3]], params)
    streamed: dict[tuple[int, int], list[int]] = {}
    for delta in llm.stream([LONG, [3]], params):
        place = int(delta.request_id.split("-")[1])
        streamed.setdefault((place, delta.index), []).extend(delta.token_ids)
    assert streamed == {
        (place, sample.index): sample.token_ids for place, output in enumerate(expected) for sample in output.outputs
    }


def test_end_tokens_stop_tokens_and_min_tokens():
    llm = toy_llm()
    free = llm.generate([1, 2, 3], SamplingParams(seed=0, max_tokens=20))[0].outputs[0].token_ids
    fifth = free[5]
    first = free.index(fifth)
    stopped = llm.generate([1, 2, 3], SamplingParams(seed=0, max_tokens=20, stop_token_ids=[fifth]))[0].outputs[0]
    assert stopped.token_ids == free[: first + 1]
    assert (stopped.finish_reason, stopped.stop_reason) == ("stop", fifth)
    later = SamplingParams(seed=0, max_tokens=20, stop_token_ids=[fifth], min_tokens=first + 3)
    assert len(llm.generate([1, 2, 3], later)[0].outputs[0].token_ids) >= first + 3


def test_log_probabilities_of_answer_and_prompt_are_the_models_own():
    llm = toy_llm()
    params = SamplingParams(temperature=0.5, seed=2, max_tokens=5, logprobs=3, prompt_logprobs=2)
    output = llm.generate(LONG[:10], params)[0]
    answer = output.outputs[0]
    logits = llm.logits(LONG[:10] + answer.token_ids).astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert output.prompt_logprobs[0] is None
    for place in range(1, 10):
        found = output.prompt_logprobs[place][LONG[place]]
        assert found.logprob == pytest.approx(expected[place - 1, LONG[place]], abs=1e-9)
    for place, token in enumerate(answer.token_ids):
        row = expected[9 + place]
        found = answer.logprobs[place]
        assert found[token].logprob == pytest.approx(row[token], abs=1e-9)
        assert found[token].rank == (row > row[token]).sum() + 1
        assert {entry for entry in found if entry != token} <= set(np.argsort(-row)[:3])
    assert answer.cumulative_logprob == pytest.approx(
        sum(p[t].logprob for p, t in zip(answer.logprobs, answer.token_ids, strict=True))
    )
