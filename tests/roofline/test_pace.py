"""Of one number, how long a step took, two are learned: how slow the machine is, and how dear drafted rows are."""

import numpy as np
import pytest

from ridgeway.roofline.pace import Pace


def followed(steps, slower, dearer, noise=0.0):
    """The pace after steps with `rows` seconds of drafted rows each, beside one second of their batch."""
    pace, random = Pace(), np.random.default_rng(0)
    for rows in steps:
        pace.observe(1.0, rows, slower * (1 + dearer * rows) * (1 + noise * random.standard_normal()))
    return pace


def test_as_long_as_nothing_was_seen_steps_take_what_is_listed():
    assert Pace().seconds(2.0, 0.5) == 2.5


def test_steps_of_different_sizes_tell_both_factors():
    pace = followed([0.0, 0.2, 0.5, 1.0] * 50, slower=1.3, dearer=2.0)
    assert (pace.slower, pace.dearer) == (pytest.approx(1.3, rel=0.05), pytest.approx(2.0, rel=0.15))
    assert pace.seconds(1.0, 0.4) == pytest.approx(1.3 * 1.8, rel=0.05)


def test_small_drafts_are_not_blamed_for_a_slow_machine():
    pace = followed([0.1] * 40, slower=1.5, dearer=1.0)
    assert pace.seconds(1.0, 0.1) == pytest.approx(1.65, rel=0.03)
    assert pace.slower > 1.3
    assert pace.dearer < 1.7


def test_many_rows_are_blamed_for_what_only_they_can_take():
    pace = followed([0.0, 1.5] * 20, slower=1.0, dearer=2.0)
    assert pace.slower == pytest.approx(1.0, rel=0.1)
    assert pace.dearer > 1.6


def test_noise_moves_neither_far():
    pace = followed([0.0, 0.1, 0.2] * 100, slower=1.0, dearer=1.0, noise=0.15)
    assert (pace.slower, pace.dearer) == (pytest.approx(1.0, abs=0.2), pytest.approx(1.0, abs=0.4))


def test_a_hiccup_counts_little_and_is_soon_forgotten():
    pace = followed([0.2] * 50, slower=1.0, dearer=1.0)
    pace.observe(1.0, 0.2, 1000.0)
    assert pace.seconds(1.0, 0.2) < 1.3 * 1.2
    for _ in range(30):
        pace.observe(1.0, 0.2, 1.2)
    assert pace.seconds(1.0, 0.2) == pytest.approx(1.2, rel=0.03)


def test_that_rows_are_dear_passes():
    pace = followed([1.0] * 50, slower=1.0, dearer=3.0)
    before = pace.seconds(1.0, 1.0) / pace.seconds(1.0, 0.0)
    for _ in range(100):
        pace.observe(1.0, 0.0, 1.0)
    assert pace.seconds(1.0, 1.0) / pace.seconds(1.0, 0.0) < min(2.2, before)


def test_what_is_believed_has_bounds():
    pace = followed([1.0, 0.0] * 200, slower=100.0, dearer=50.0)
    assert 0.25 <= pace.slower <= 4
    assert 0.25 <= pace.dearer <= 4
    pace = followed([1.0, 0.0] * 200, slower=0.001, dearer=1.0)
    assert 0.25 <= pace.slower <= 4
    assert 0.25 <= pace.dearer <= 4


def test_with_other_lists_a_step_takes_what_it_took():
    pace = followed([0.0, 0.2, 0.5] * 30, slower=1.3, dearer=1.5)
    before = pace.seconds(1.0, 0.4)
    pace.relate(1.0 / 1.2, 0.4, 0.5)  # a plain step of 1.2 instead of 1.0, rows of 0.6 instead of 0.4
    assert pace.seconds(1.2, 0.6) == pytest.approx(before)


@pytest.mark.parametrize(("old", "new"), [(0.0, 0.5), (0.5, 0.0), (0.0, 0.0)])
def test_lists_in_which_rows_are_free_say_nothing_of_how_dear_they_are(old, new):
    pace = followed([0.0, 0.2, 0.5] * 30, slower=1.3, dearer=1.5)
    dearer = pace.dearer
    pace.relate(1.0, old, new)
    assert pace.dearer == dearer
