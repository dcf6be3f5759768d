"""A running mean that a pause of the machine does not spoil."""

import pytest

from ridgeway.core.duration import Duration


def measured(*seconds):
    duration = Duration()
    for one in seconds:
        duration.observe(one)
    return duration.seconds


def test_nothing_was_measured_at_first():
    assert Duration().seconds == 0


def test_it_follows_what_is_measured():
    assert measured(*[2.0] * 10, *[3.0] * 60) == pytest.approx(3.0, rel=0.01)
    assert measured(*[2.0] * 10, *[1.0] * 60) == pytest.approx(1.0, rel=0.01)


def test_a_hiccup_counts_little():
    assert measured(*[2.0] * 10, 1000.0) < 2.3


def test_of_the_first_ones_a_hiccup_does_not_count():
    assert measured(1000.0, 2.0) == 2.0
    assert measured(2.0, 1000.0, 2.5) == 2.5


def test_what_takes_no_time_by_a_coarse_clock_may_take_some_later():
    assert measured(0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5) == 0.5
