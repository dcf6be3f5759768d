"""The vectorized choice of tokens equals a plain one, row by row, written after the definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeway.core.noise import gumbel
from ridgeway.core.query import Adjustment, Batch, Entry, Query, Readout, Selection
from ridgeway.kernels.reference.selection import adjust, answer, choose


def selection(n, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, sampled=True, adjustments=None):
    def full(value, kind):
        return np.full(n, value, dtype=kind)

    return Selection(
        full(sampled, bool),
        full(temperature, float),
        full(top_k, np.int64),
        full(top_p, float),
        full(min_p, float),
        full(7, np.uint64),
        full(0, np.int64),
        np.arange(n),
        adjustments or {},
    )


def plainly(logits, temperature, top_k, top_p, min_p, position):
    """One row: sort, drop, add noise, take the loudest."""
    if temperature == 0:
        return int(np.argmax(logits))
    scaled = logits.astype(np.float64) / temperature
    p = np.exp(scaled - scaled.max())
    p /= p.sum()
    order = sorted(range(len(p)), key=lambda token: (-p[token], token))
    order = [token for token in order if p[token] >= min_p * p[order[0]]]
    order = order[:top_k] if top_k else order
    share, kept = 0.0, []
    total = sum(p[token] for token in order)
    for token in order:
        if share < top_p or top_p >= 1:
            kept.append(token)
        share += p[token] / total
    noise = {token: float(gumbel(7, 0, position, token)) for token in kept}
    return min(kept, key=lambda token: (-(scaled[token] - scaled.max() + noise[token]), token))


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([5, 61, 300, 2000]),
    st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    st.sampled_from([0, 1, 7, 280]),
    st.sampled_from([0.1, 0.9, 0.999, 1.0]),
    st.sampled_from([0.0, 0.02]),
    st.booleans(),
)
def test_choices_equal_the_definitions(seed, vocabulary, temperature, top_k, top_p, min_p, ties):
    generator = np.random.default_rng(seed)
    logits = (generator.standard_normal((3, vocabulary)) * 2).astype(np.float32)
    if ties:
        logits = np.round(logits)
    chosen = choose(logits, selection(3, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p))
    expected = [plainly(logits[row], temperature, top_k, top_p, min_p, row) for row in range(3)]
    assert list(chosen) == expected


def test_a_row_is_chosen_alike_alone_and_among_others():
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((40, 500)).astype(np.float32)
    everyone = selection(40, top_p=0.9)
    together = choose(logits, everyone)
    for row in range(40):
        arrays = {k: v[row : row + 1] for k, v in vars(everyone).items() if k != "adjustments"}
        assert choose(logits[row : row + 1], Selection(**arrays, adjustments={}))[0] == together[row]


def test_draws_follow_the_distribution():
    logits = np.log(np.array([[0.5, 0.3, 0.15, 0.05]], dtype=np.float32)).repeat(20_000, axis=0)
    counts = np.bincount(choose(logits, selection(20_000)), minlength=4)
    expected = 20_000 * np.array([0.5, 0.3, 0.15, 0.05])
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # 3 degrees of freedom, p = 0.001; the seed is fixed


def test_greedy_ties_go_to_the_lowest_id():
    assert choose(np.array([[1, 3, 3, 3]], dtype=np.float32), selection(1, temperature=0.0))[0] == 1


def batch_of(n, read, chosen):
    query = Query(np.zeros(n, dtype=np.int64), np.arange(n), read=read)
    return Batch((Entry(query, 0, np.arange(n)),), chosen)


def test_adjustments_divide_multiply_add_and_forbid():
    logits = np.array([[2.0, -2.0, 1.0, 5.0]], dtype=np.float32)
    change = Adjustment(np.array([0, 1, 2]), np.array([2.0, 2.0, 1.0]), np.array([0.0, 0.0, -3.0]))
    batch = batch_of(1, Readout.of([0], [1], forbid=(3,)), selection(1, adjustments={0: change}))
    assert adjust(logits, batch).tolist() == [[1.0, -4.0, -2.0, -np.inf]]
    assert logits.tolist() == [[2.0, -2.0, 1.0, 5.0]]


def test_measures_are_of_the_models_own_distribution():
    p = np.array([[0.5, 0.3, 0.2]])
    read = Readout.of([0], [1], given=[2], top=2, measures={"logprob", "confidence", "margin", "entropy", "logits"})
    logits = np.log(p).astype(np.float32)
    found = answer(logits, batch_of(1, read, selection(1, temperature=0.0)))[0]
    assert found.tokens[0] == 0
    assert found.logprobs[0] == pytest.approx(np.log(0.5), abs=1e-6)
    assert found.given[0] == pytest.approx(np.log(0.2), abs=1e-6)
    assert found.given_ranks[0] == 3
    assert found.top_ids.tolist() == [[0, 1]]
    assert found.confidence[0] == pytest.approx(0.5, abs=1e-6)
    assert found.margin[0] == pytest.approx(0.2, abs=1e-6)
    assert found.entropy[0] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-6)
    assert found.logits.tolist() == logits.tolist()
