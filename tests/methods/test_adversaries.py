"""No drafter can change a text: one that is always wrong, always right, never says anything, or drafts on past the end.

Each adversary knows what plain decoding will say, and what it would have said had the answer not ended.
"""

from functools import cache

import pytest

from ridgeway.core.sampling_params import SamplingParams
from ridgeway.methods.auto import Auto, Controller
from ridgeway.methods.trie import Guesser, Trie
from ridgeway.methods.verify import Verify
from ridgeway.testing import toy_config, toy_llm, toy_model

ENDS = (7, 20, 33, 46, 59)
PROMPTS = [[3, 1, 4, 1, 5], [9, 2, 6] * 7]
PARAMS = [
    SamplingParams(temperature=0.0, seed=1, max_tokens=24),
    SamplingParams(temperature=0.7, top_p=0.9, seed=2, max_tokens=24),
    SamplingParams(temperature=1.0, top_k=8, seed=3, max_tokens=24, n=2),
    SamplingParams(temperature=1.0, seed=4, max_tokens=24, min_tokens=6, presence_penalty=0.4, logprobs=2),
    SamplingParams(temperature=1.0, seed=5, max_tokens=5, stop_token_ids=(2, 11, 40)),
    SamplingParams(temperature=1.0, seed=6, max_tokens=24, ignore_eos=True),
]
JOBS = [(prompt, one) for prompt in PROMPTS for one in PARAMS]


def wrong(future):
    return [(token + 1) % 61 for token in future]


ADVERSARIES = {
    "always wrong": lambda future, sequence: wrong(future),
    "always right, past every end": lambda future, sequence: future,
    "right but for the last": lambda future, sequence: future[:-1] + wrong(future[-1:]),
    "right now and then, else silent": lambda future, sequence: future if sequence.generated % 3 else [],
    "silent": lambda future, sequence: [],
    "the end, again and again": lambda future, sequence: [ENDS[0]] * len(future),
    "the truth, then the end": lambda future, sequence: future[:1] + [ENDS[1]] * (len(future) - 1),
}


class Adversary(Guesser):
    """Guesses by `rule` from the tokens to come; with `decoys`, behind wrong siblings at every position."""

    def __init__(self, rule, futures, decoys=False):
        self.rule, self.futures, self.decoys = rule, futures, decoys

    def guess(self, sequence, budget):
        future = self.futures[tuple(sequence.tokens[: sequence.prompt_length]), sequence.seed, sequence.sample]
        depth = budget // 2 if self.decoys else budget
        trie, node, chance = Trie(), -1, 0.9
        for token in self.rule(future[sequence.generated : sequence.generated + depth], sequence):
            if self.decoys:
                trie.child(node, (token + 7) % 61, chance)
            node, chance = trie.child(node, token, chance), 0.9 * chance
        return trie


@cache
def plain(executor):
    """An LLM, plain decoding's outputs, and by request what would have come if nothing had ended them."""
    llm = toy_llm(toy_model(toy_config(end_ids=ENDS, tied_head=False), sharpness=2.0), executor=executor, threads=1)
    prompts, params = [prompt for prompt, _ in JOBS], [one for _, one in JOBS]
    outputs = llm.generate(prompts, params, method="ar")
    endless = [one.but(ignore_eos=True, stop_token_ids=(), max_tokens=40) for one in params]
    futures = {}
    for (prompt, one), output in zip(JOBS, llm.generate(prompts, endless, method="ar"), strict=True):
        for sample in output.outputs:
            futures[tuple(prompt), one.seed, sample.index] = sample.token_ids
    return llm, outputs, futures


def seen(output):
    """All that a caller could tell two answers apart by."""
    return [(s.token_ids, s.finish_reason, s.stop_reason, s.logprobs and [list(p) for p in s.logprobs]) for s in output]


def check(executor, method):
    llm, expected, _ = plain(executor)
    prompts, params = [prompt for prompt, _ in JOBS], [one for _, one in JOBS]
    together = llm.generate(prompts, params, method=method)
    mixed = llm.generate(prompts, params, method=[method, "ar"] * (len(JOBS) // 2))
    alone = [llm.generate([prompt], [one], method=method)[0] for prompt, one in JOBS[::4]]
    for found, wanted in ((together, expected), (mixed, expected), (alone, expected[::4])):
        for one, other in zip(found, wanted, strict=True):
            assert one.error is None
            assert seen(one.outputs) == seen(other.outputs)
    return together


EXECUTORS = ["reference", "cpu"]


@pytest.mark.parametrize("name", ADVERSARIES)
@pytest.mark.parametrize("executor", EXECUTORS)
def test_no_chain_of_drafts_changes_an_answer_or_where_it_ends(executor, name):
    check(executor, Verify(Adversary(ADVERSARIES[name], plain(executor)[2]), nodes=4))


@pytest.mark.parametrize("name", ["always right, past every end", "right but for the last", "the truth, then the end"])
@pytest.mark.parametrize("executor", EXECUTORS)
def test_no_tree_of_drafts_does(executor, name):
    check(executor, Verify(Adversary(ADVERSARIES[name], plain(executor)[2], decoys=True), nodes=6))


@pytest.mark.parametrize("name", ["always wrong", "always right, past every end", "silent", "the end, again and again"])
def test_nor_do_they_as_drafters_of_the_controller(name):
    method = Auto()
    adversary = Adversary(ADVERSARIES[name], plain("reference")[2])
    method.__dict__["drafter"] = Controller({"adversary": adversary}, clock=lambda: 0.0)
    check("reference", method)


def test_these_answers_do_end_inside_drafts():
    """Else the tests above would show nothing: by end tokens, stop tokens and limits, with drafts left over."""
    _, expected, futures = plain("reference")
    reasons = [sample.finish_reason for output in expected for sample in output.outputs]
    assert reasons.count("stop") > 5
    assert reasons.count("length") > 2
    together = check("reference", Verify(Adversary(ADVERSARIES["always right, past every end"], futures), nodes=4))
    ended = [s for o in together for s in o.outputs if s.finish_reason == "stop" and len(s.token_ids) % 5 > 1]
    assert len(ended) > 2


def test_drafts_of_no_token_are_plain_decoding_and_are_not_counted():
    llm, expected, futures = plain("reference")
    found = llm.generate(*zip(*JOBS, strict=True), method=Verify(Adversary(ADVERSARIES["silent"], futures), nodes=4))
    for one, other in zip(found, expected, strict=True):
        assert one.metrics.weight_streams == other.metrics.weight_streams
        assert all(sample.drafts.steps == 0 for sample in one.outputs)
