"""What every method that verifies drafts has to keep to, whatever its drafter guesses."""

from collections.abc import Callable

import numpy as np
import pytest

from ridgeway.core.arrays import ints
from ridgeway.core.method import Drafter, DraftTree
from ridgeway.core.outputs import DraftCounts
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.methods.auto import Auto, Controller
from ridgeway.methods.trie import Guesser, Trie
from ridgeway.methods.verify import Verify
from ridgeway.testing import check_lossless, toy_config, toy_draft_head, toy_llm, toy_model
from ridgeway.testing.replay import replay

DRAWN = SamplingParams(temperature=0.8, seed=5, max_tokens=30)
PROMPTS = [[3, 1, 4, 1, 5], [9, 2, 6] * 5, [8]]
METHODS = [
    "ngram",
    "suffix",
    "recycling",
    "lookahead",
    "auto",
    "self-speculative:trials=3",
    "draft:model=small",
    "draft-head",
]
METHODS += [f"verified-diffusion:mask_id=60,layout={layout}" for layout in ("linear", "quadratic", "pruned")]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("RIDGEWAY_HOME", str(tmp_path))


def llm_of(**options):
    llm = toy_llm(toy_model(toy_config(layers=3), sharpness=2.5), **options)
    llm.add_draft_model("small", toy_model(toy_config(layers=1)))
    llm.add_draft_head(toy_draft_head(llm.model))
    return llm


class Guess(Drafter):
    """Whatever `rule` says: from sequence and depth to tokens of a chain, or to (tokens, parents)."""

    def __init__(self, rule: Callable) -> None:
        self.rule = rule

    def propose(self, sequences, depths, streams):
        trees = []
        for sequence, depth in zip(sequences, depths, strict=True):
            found = self.rule(sequence, depth)
            tokens, parent = found if isinstance(found, tuple) else (found, range(-1, len(found) - 1))
            trees.append(DraftTree(ints(tokens), ints(parent), np.linspace(0.9, 0.1, len(tokens))))
        return trees


def right(llm, prompts, params):
    """A rule that knows plain decoding's answers."""
    outputs = llm.generate(prompts, params, method="ar")
    answers = {tuple(o.prompt_token_ids): o.outputs[0].token_ids for o in outputs}

    def rule(sequence, depth):
        answer = answers[tuple(sequence.tokens[: sequence.prompt_length])]
        return answer[sequence.generated : sequence.generated + depth]

    return rule


ADVERSARIES = {
    "nothing": lambda sequence, depth: [],
    "outside the vocabulary": lambda sequence, depth: [61, -5, 1 << 40][:depth],
    "much too long": lambda sequence, depth: list(range(40)),
    "a bush": lambda sequence, depth: (list(range(depth)), [-1] * depth),
    "the same token in two branches": lambda sequence, depth: ([4, 4, 5, 5][:depth], [-1, -1, 0, 1][:depth]),
    "end tokens": lambda sequence, depth: [5, 6, 7, 5][:depth],
}


@pytest.mark.parametrize("name", ADVERSARIES)
def test_no_drafter_can_change_the_text(name):
    check_lossless(Verify(Guess(ADVERSARIES[name]), nodes=4), prompts=PROMPTS)


def test_drafts_that_are_always_right_save_what_they_can():
    llm = llm_of()
    rule = right(llm, PROMPTS, DRAWN)
    for output in llm.generate(PROMPTS, DRAWN, method=Verify(Guess(rule), nodes=4)):
        counts = output.outputs[0].drafts
        assert counts.acceptance == [1.0] * 4
        assert output.metrics.weight_streams in (6, 7)


def test_drafts_that_are_always_wrong_change_nothing_and_say_so():
    llm = llm_of()
    rule = right(llm, PROMPTS, DRAWN)
    wrong = Guess(lambda sequence, depth: [(token + 1) % 61 for token in rule(sequence, depth)])
    for output in llm.generate(PROMPTS, DRAWN, method=Verify(wrong, nodes=4)):
        assert output.metrics.weight_streams == 30
        assert output.outputs[0].drafts.label == "drafter too weak"


@pytest.mark.parametrize("acceptance", [0.3, 0.7])
@pytest.mark.parametrize("depth", [1, 3, 6])
def test_tokens_per_forward_equal_the_papers_formula(acceptance, depth):
    """(1 - a^(g+1)) / (1 - a), Leviathan et al., equation 1: each drafted token is right with probability a."""
    generator = np.random.default_rng(7)
    answer = generator.integers(100, 200, 20000).tolist()

    class Coin(Guesser):
        def guess(self, sequence, budget):
            trie, node = Trie(), -1
            for token in answer[sequence.generated : sequence.generated + budget]:
                node = trie.child(node, token if generator.random() < acceptance else 0, 0.5)
            return trie

    found = replay(Verify(Coin(), depth), [([1], answer)], lambda rows: 1.0).tokens_per_forward
    expected = (1 - acceptance ** (depth + 1)) / (1 - acceptance)
    assert found == pytest.approx(expected, rel=0.03)


def test_weight_streams_of_a_real_run_match_what_the_counts_say():
    """Counted where weights are streamed: tokens = streams + accepted drafts."""
    llm = llm_of()
    streams = []
    forward = llm.executor.forward
    llm.executor.forward = lambda batch: (streams.append(1), forward(batch))[1]
    output = llm.generate([[1, 2, 3] * 2], DRAWN, method="suffix")[0]
    counts = output.outputs[0].drafts
    assert len(streams) == output.metrics.weight_streams
    assert len(streams) + sum(counts.accepted) == 30
    assert sum(step.committed for step in llm.steps) == 30


@pytest.mark.parametrize("method", METHODS)
def test_every_stop_inside_a_draft_ends_the_answer_where_plain_decoding_ends_it(method):
    """Each token of an answer is declared a stop token in turn, and each length a limit."""
    llm = llm_of()
    prompt = [1, 2, 3, 1, 2, 3]
    free = SamplingParams(temperature=0, max_tokens=14)
    answer = llm.generate(prompt, free, method="ar")[0].outputs[0].token_ids
    asked = [free.but(stop_token_ids=(token,)) for token in dict.fromkeys(answer)]
    asked += [free.but(max_tokens=limit) for limit in range(1, 14)]
    plain = llm.generate([prompt] * len(asked), asked, method="ar")
    found = llm.generate([prompt] * len(asked), asked, method=method)
    for one, other in zip(plain, found, strict=True):
        a, b = one.outputs[0], other.outputs[0]
        assert (a.token_ids, a.finish_reason, a.stop_reason) == (b.token_ids, b.finish_reason, b.stop_reason)


@pytest.mark.parametrize("method", METHODS)
def test_log_probabilities_and_penalties_are_plain_decodings(method):
    llm = llm_of()
    params = SamplingParams(
        seed=3, max_tokens=20, logprobs=3, prompt_logprobs=1, frequency_penalty=0.4, repetition_penalty=1.1
    )
    plain = llm.generate(PROMPTS, params, method="ar")
    for one, other in zip(plain, llm.generate(PROMPTS, params, method=method), strict=True):
        a, b = one.outputs[0], other.outputs[0]
        assert a.token_ids == b.token_ids
        assert (other.prompt_logprobs is None) == (one.prompt_logprobs is None)
        for x, y in zip(a.logprobs, b.logprobs, strict=True):
            assert x.keys() == y.keys()
            assert all(abs(x[token].logprob - y[token].logprob) < 1e-4 for token in x)


@pytest.mark.parametrize("method", METHODS)
def test_the_context_limit_is_reached_and_not_exceeded(method):
    model = toy_model(toy_config(layers=3, max_positions=40), sharpness=2.5)
    llm = toy_llm(model)
    llm.add_draft_model("small", toy_model(toy_config(layers=1, max_positions=40)))
    llm.add_draft_head(toy_draft_head(model))
    params = SamplingParams(temperature=0, max_tokens=None)
    plain = llm.generate(PROMPTS, params, method="ar")
    found = llm.generate(PROMPTS, params, method=method)
    assert [o.outputs[0].token_ids for o in found] == [o.outputs[0].token_ids for o in plain]
    assert all(o.outputs[0].finish_reason == "length" for o in found)


def test_methods_of_all_kinds_share_one_batch():
    llm = llm_of()
    methods = ["ar", *METHODS]
    prompts = [PROMPTS[place % len(PROMPTS)] for place in range(len(methods))]
    plain = llm.generate(prompts, DRAWN, method="ar")
    found = llm.generate(prompts, DRAWN, method=methods)
    assert [o.outputs[0].token_ids for o in found] == [o.outputs[0].token_ids for o in plain]


def test_a_faulty_drafter_ends_its_own_requests_and_no_other():
    def fault(sequence, depth):
        raise ZeroDivisionError("no")

    llm = llm_of()
    plain = llm.generate(PROMPTS, DRAWN, method="ar")
    found = llm.generate(PROMPTS, DRAWN, method=["auto", Verify(Guess(fault)), "ngram"])
    assert "ZeroDivisionError" in found[1].error
    assert found[0].outputs[0].token_ids == plain[0].outputs[0].token_ids
    assert found[2].outputs[0].token_ids == plain[2].outputs[0].token_ids


@pytest.mark.parametrize(
    ("drafted", "accepted", "label"),
    [
        ([1, 1, 1], 0, "drafter too weak"),
        ([1, 1], 2, "too short"),
        ([1] * 8, 1, "too long"),
        ([1, 1, 1], 2, "good"),
    ],
)
def test_drafts_are_labelled_by_the_documented_rule(drafted, accepted, label):
    counts = DraftCounts()
    for _ in range(7):
        counts.record(drafted, accepted)
    assert counts.label == "too few drafts to tell"
    counts.record(drafted, accepted)
    assert counts.label == label


def test_only_positions_that_were_reached_count_towards_acceptance():
    counts = DraftCounts()
    counts.record([2, 2, 1], 1)  # a tree: two tokens at the first position, one of them right
    counts.record([1, 1], 0)
    assert (counts.drafted, counts.reached, counts.accepted) == ([3, 3, 1], [2, 1, 0], [1, 0, 0])
    assert counts.acceptance == [0.5, 0.0, 0.0]


def test_the_controller_says_what_it_chose_and_why():
    llm = llm_of()
    output = llm.generate([[1, 2, 3] * 4], SamplingParams(temperature=0, max_tokens=100), method="auto")[0]
    last = output.outputs[0].explanation[-1]
    assert last.startswith(("drafting", "off"))
    assert "ms" in last or "no guess" in last


def test_a_full_machine_turns_the_controller_off_and_it_says_so():
    """Each row costs as much as a stream of its own: beyond the ridge point drafts cannot pay."""

    class Sure(Guesser):
        def guess(self, sequence, budget):
            trie = Trie()
            trie.child(-1, 0, 0.6)
            return trie

    class Priced:
        certain = 24

        def price(self, drafted):
            return 0.001 * (24 + drafted)

    method = Auto()
    controller = method.__dict__["drafter"] = Controller({"sure": Sure()}, clock=lambda: 0.0)
    llm = llm_of()
    sequences = []

    class Watch(Auto):
        def start(self, sequence):
            sequences.append(sequence)
            return super().start(sequence)

    watched = Watch()
    watched.__dict__["drafter"] = controller
    next(llm.stream([[1, 2]], SamplingParams(max_tokens=50, temperature=0), method=watched))
    assert controller.propose(sequences, [8], Priced())[0].tokens.tolist() == []
    assert "24 rows already fill the machine" in watched.explain(sequences[0])[-1]
