"""How many positions a step reveals: counts add up, and the random samplers are those of the reverse process."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeway.methods.reveal_schedule import Ancestral, ExpectedCount, FirstHitting, FixedCount

NONE = np.zeros(0)


def counts(schedule, draw=lambda n: NONE):
    masked, found = schedule.size, []
    while masked:
        found.append(schedule.count(len(found), masked, draw(masked)))
        masked -= found[-1]
    return found


@given(size=st.integers(1, 70), steps=st.integers(1, 80))
def test_counts_of_all_steps_are_the_masks(size, steps):
    fixed = counts(FixedCount(size, steps))
    assert sum(fixed) == size
    assert len(fixed) == min(size, steps) == FixedCount(size, steps).left(0, size)
    assert max(fixed) - min(fixed) <= 1
    expected = counts(ExpectedCount(size, steps))
    assert sum(expected) == size
    assert len(expected) <= steps
    assert counts(FirstHitting(size, steps)) == [1] * size


def test_fixed_counts_are_the_first_ones_larger():
    assert counts(FixedCount(7, 3)) == [3, 2, 2]
    assert [FixedCount(7, 3).total(step) for step in range(4)] == [3, 5, 7, 7]


def test_expected_counts_are_rounded_down_and_the_last_step_takes_the_rest():
    assert counts(ExpectedCount(16, 8)) == [1, 2, 2, 2, 2, 2, 2, 3]  # as in the transcripts of Dream
    assert counts(ExpectedCount(16, 16))[0] == 0


@pytest.mark.parametrize("step", [0, 3, 7])
def test_ancestral_counts_are_binomial(step):
    """At step i of S each mask is revealed with probability (t - s) / t = 1 / (S - i)."""
    generator, n, p = np.random.default_rng(0), 40, 1 / (8 - step)
    drawn = [Ancestral(n, 8).count(step, n, generator.random(n)) for _ in range(2000)]
    assert abs(np.mean(drawn) - n * p) < 4 * np.sqrt(n * p * (1 - p) / 2000) + 1e-9
    assert abs(np.var(drawn) - n * p * (1 - p)) < 0.12 * n * p * (1 - p) + 1e-9
