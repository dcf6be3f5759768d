"""`accept=ratio` is exact in distribution, and this test would notice if it were not."""

from itertools import product

import numpy as np
import pytest

from ridgeway.core.sampling_params import SamplingParams
from ridgeway.methods import ratio
from ridgeway.methods.ratio import accept_by_ratio
from ridgeway.testing import toy_config, toy_llm, toy_model

SAMPLES = 3000
# Three positions of a chain of two drafts, over five tokens; p and q differ much, and both have zeros.
P = np.array([[0.5, 0.3, 0.2, 0.0, 0.0], [0.1, 0.1, 0.2, 0.3, 0.3], [0.05, 0.05, 0.1, 0.2, 0.6]])
Q = np.array([[0.2, 0.3, 0.1, 0.4, 0.0], [0.5, 0.1, 0.2, 0.1, 0.1]])


def chi_square(counts, expected):
    """Statistic over its 99.99 % quantile (Wilson and Hilferty): above 1, the law is another one."""
    seen = expected > 0
    if not counts.sum():
        return 0.0
    if counts[~seen].any():
        return np.inf
    expected, counts = expected[seen] * counts.sum(), counts[seen]
    statistic, freedom = ((counts - expected) ** 2 / expected).sum(), len(counts) - 1
    quantile = freedom * (1 - 2 / (9 * freedom) + 3.72 * np.sqrt(2 / (9 * freedom))) ** 3
    return statistic / quantile


def run(rule=accept_by_ratio, p=P, q=Q, drafted_from=Q, bonus_from=P[-1], samples=SAMPLES):
    """Counts of the first token, and of the third where two drafts were accepted, with independent draws."""
    generator = np.random.default_rng(0)
    first, third = np.zeros(5), np.zeros(5)
    for seed in range(samples):
        draft = [int(generator.choice(5, p=row)) for row in drafted_from]
        after = int(generator.choice(5, p=bonus_from))
        tokens = rule(draft, p, list(q), after, seed=seed, sample=0, position=10)
        first[tokens[0]] += 1
        if len(tokens) == 3:
            third[tokens[2]] += 1
    return chi_square(first, P[0]), chi_square(third, P[2])


def test_the_tokens_have_the_targets_distribution():
    assert max(run()) < 1


def test_argmax_drafts_scored_with_a_softmax_are_caught():
    assert run(drafted_from=np.eye(5)[Q.argmax(axis=1)])[0] > 1


def test_a_bonus_token_that_ignores_the_sampling_parameters_is_caught():
    assert run(bonus_from=np.sqrt(P[-1]) / np.sqrt(P[-1]).sum())[1] > 1


def test_raw_draft_probabilities_after_top_k_are_caught():
    top = np.where(Q >= 0.2, Q, 0.0)
    assert run(q=Q, drafted_from=top / top.sum(axis=1, keepdims=True))[0] > 1


def test_a_residual_that_is_not_renormalized_is_caught():
    def wrong(draft, p, q, after, *, seed, sample, position):
        noise = np.random.default_rng((seed, 1))
        accepted = []
        for place, token in enumerate(draft):
            if noise.random() >= p[place][token] / q[place][token]:
                more = np.maximum(p[place] - q[place], 0)
                return [*accepted, min(4, int(np.searchsorted(np.cumsum(more), noise.random())))]
            accepted.append(token)
        return [*accepted, after]

    assert run(rule=wrong)[0] > 1


def test_the_target_drawn_where_the_residual_belongs_is_caught(monkeypatch):
    monkeypatch.setattr(ratio, "residual", lambda p, q: p)
    assert run()[0] > 1


def test_a_drafter_that_is_the_target_is_never_refused():
    for seed in range(200):
        tokens = accept_by_ratio([0, 3], P, [P[0], P[1]], 4, seed=seed, sample=0, position=1)
        assert tokens == [0, 3, 4]


@pytest.mark.parametrize(
    "params", [{"temperature": 1.0}, pytest.param({"temperature": 0.7, "top_k": 4}, marks=pytest.mark.slow)]
)
def test_whole_answers_have_the_distribution_of_exact_enumeration(params):
    """Two tokens of a tiny model, drafted by another tiny one: all pairs enumerated, 3000 answers drawn."""
    config = toy_config(vocab_size=6, tied_head=False)
    llm = toy_llm(toy_model(config, seed=1), max_sequences=256, slots=20000)
    llm.add_draft_model("other", toy_model(config, seed=2))

    def law(tokens):
        logits = llm.logits(tokens)[-1].astype(np.float64) / params["temperature"]
        if "top_k" in params:
            logits[np.argsort(-logits)[params["top_k"] :]] = -np.inf
        shares = np.exp(logits - logits.max())
        return shares / shares.sum()

    prompt, samples = [1, 2, 3], 3000
    expected = np.zeros((6, 6))
    for one, two in product(range(6), range(6)):
        expected[one, two] = law(prompt)[one] * law([*prompt, one])[two]
    asked = [SamplingParams(max_tokens=2, seed=seed, **params) for seed in range(samples)]
    counts = np.zeros((6, 6))
    outputs = llm.generate([prompt] * samples, asked, method="draft:model=other,depth=3,accept=ratio")
    for output in outputs:
        counts[tuple(output.outputs[0].token_ids)] += 1
    assert chi_square(counts.reshape(-1), expected.reshape(-1)) < 1


def test_every_sampling_parameter_goes_with_it():
    llm = toy_llm()
    llm.add_draft_model("other", toy_model(seed=2))
    params = [
        SamplingParams(temperature=0, max_tokens=20),
        SamplingParams(seed=1, max_tokens=20, presence_penalty=1.0, logprobs=2, min_tokens=5, stop_token_ids=(4, 5)),
        SamplingParams(seed=2, max_tokens=20, top_p=0.5, logit_bias={3: 4.0}),
    ]
    outputs = llm.generate([[1, 2, 3]] * 3, params, method="draft:model=other,accept=ratio")
    assert all(output.error is None for output in outputs)
    plain = llm.generate([[1, 2, 3]], params[:1], method="ar")[0]
    assert outputs[0].outputs[0].token_ids == plain.outputs[0].token_ids  # greedy: the same, whatever the rule
    assert not llm.method("draft:model=other,accept=ratio").lossless
