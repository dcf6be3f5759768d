"""Reveal rules are pure: which of some masked positions, by what is known of them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeway.methods.reveal import (
    ADAPTIVE,
    RANKINGS,
    AtLeast,
    AtMost,
    Confidence,
    EntropyBounded,
    Factor,
    LongestPrefix,
    Masked,
    Remask,
    Threshold,
    TopK,
    make_rule,
)

measures = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        *(st.lists(st.sampled_from([0.01, 0.2, 0.2, 0.5, 0.9, 0.9, 1.0]), min_size=n, max_size=n) for _ in range(4))
    )
)


def masked(confidence, margin=None, entropy=None, noise=None):
    n = len(confidence)
    arrays = [np.asarray(a if a is not None else confidence) for a in (noise, confidence, margin, entropy)]
    return Masked(np.arange(3, 3 + 2 * n, 2), *arrays)


def revealed(rule, *values, count=1):
    return np.flatnonzero(rule(masked(*values), count)).tolist()


@pytest.mark.parametrize("bound", [lambda rule: rule, AtLeast, AtMost])
@pytest.mark.parametrize("name", [*RANKINGS, *ADAPTIVE])
@given(values=measures, count=st.integers(1, 15))
def test_every_rule_reveals_at_least_one_and_only_what_may_be_revealed(name, bound, values, count):
    candidates = masked(*values)
    rule = bound(make_rule(name, threshold=0.6, factor=0.5, bound=0.3))
    chosen = rule(candidates, count)
    assert chosen.dtype == np.bool_
    assert chosen.shape == (len(candidates),)
    assert chosen.any()
    assert (rule(candidates, count) == chosen).all()  # pure
    if name in RANKINGS or bound is AtMost:
        assert chosen.sum() <= count
    if name in RANKINGS or bound is AtLeast:
        assert chosen.sum() >= min(count, len(candidates))


@pytest.mark.parametrize("name", RANKINGS)
def test_ties_go_to_the_left(name):
    assert revealed(make_rule(name, 0.9, 1, 1), [0.4] * 5, count=2) == [0, 1]


def test_rules_cut_where_their_papers_say():
    sure = [0.5, 0.95, 0.3, 0.9]
    assert revealed(TopK(Confidence()), sure, count=2) == [1, 3]
    assert revealed(Threshold(0.9), sure) == [1]  # above, not at
    assert revealed(Threshold(0.99), sure) == [1]  # the best one at least
    # Factor 0.3: (n + 1) (1 - c_n) of the sorted 0.95, 0.9, 0.5, 0.3 is 0.1, 0.3, 2, 3.5
    assert revealed(Factor(0.31), sure) == [1, 3]
    assert revealed(Factor(0.29), sure) == [1]
    # Sorted entropies 0.1, 0.2, 0.4, 0.8; without the greatest of each set they sum to 0, 0.1, 0.3, 0.7
    assert revealed(EntropyBounded(0.35), sure, None, [0.4, 0.1, 0.8, 0.2]) == [0, 1, 3]
    assert revealed(EntropyBounded(0.0), sure, None, [0.4, 0.1, 0.8, 0.2]) == [1]
    # Products from the left: 0.9, 0.81, 0.405, 0.36
    assert revealed(LongestPrefix(0.8), [0.9, 0.9, 0.5, 0.9]) == [0, 1]
    assert revealed(LongestPrefix(0.95), [0.9, 0.9, 0.5, 0.9]) == [0]
    assert revealed(AtLeast(Threshold(0.9)), sure, count=3) == [0, 1, 3]
    assert revealed(AtMost(Threshold(0.4)), sure, count=2) == [1, 3]


@given(values=measures)
def test_more_is_revealed_as_a_rule_gets_bolder(values):
    candidates = masked(*values)
    for rules in (
        [Threshold(t) for t in (0.95, 0.7, 0.3)],
        [Factor(f) for f in (0.1, 1.0, 5.0)],
        [EntropyBounded(b) for b in (0.0, 0.5, 4.0)],
        [LongestPrefix(t) for t in (0.95, 0.7, 0.3)],
    ):
        chosen = [rule(candidates) for rule in rules]
        assert all((a <= b).all() for a, b in pairwise(chosen))


def test_second_thoughts_are_had_once_and_leave_half_of_the_tokens():
    doubt = Remask(0.5)
    assert doubt.choose(np.array([0.4, 0.9, 0.1, 0.8]), np.zeros(4, int)).tolist() == [True, False, True, False]
    assert doubt.choose(np.array([0.4, 0.9, 0.1, 0.8]), np.array([0, 0, 1, 0])).tolist() == [True, False, False, False]
    assert doubt.choose(np.array([0.4, 0.3, 0.2, 0.1]), np.zeros(4, int)).sum() == 2
