"""Estimates learn from what was observed; floors do not."""

from math import log

import numpy as np
import pytest

from ridgeway.roofline.advice import EIGHT_BILLION
from ridgeway.roofline.calibration import Calibration, Kind
from ridgeway.roofline.cost import CostModel, QueryShape
from ridgeway.roofline.hardware import machine


def fresh() -> CostModel:
    return CostModel.predicted(EIGHT_BILLION, "BF16", machine("h100"))


def test_the_estimate_converges_on_what_steps_take() -> None:
    model, noise = fresh(), np.random.default_rng(0)
    cost = model.count([QueryShape(1, cached=500)])
    truth = 1.7 * model.estimate(cost).seconds
    for _ in range(40):
        model.observe(cost, truth * float(np.exp(0.05 * noise.standard_normal())))
    estimate = model.estimate(cost)
    assert estimate.seconds == pytest.approx(truth, rel=0.03)
    assert truth * 0.85 < estimate.low < truth < estimate.high < truth * 1.15


def test_observations_leave_the_floor_alone() -> None:
    model = fresh()
    cost = model.count([QueryShape(1, cached=500)])
    floor = model.floor(cost)
    for _ in range(10):
        model.observe(cost, 3 * floor)
    assert model.floor(cost) == floor


def test_a_few_outliers_move_the_estimate_little() -> None:
    model = fresh()
    cost = model.count([QueryShape(1)])
    usual = model.estimate(cost).seconds
    for number in range(40):
        model.observe(cost, usual * (50 if number % 10 == 0 else 1))
    assert model.estimate(cost).seconds == pytest.approx(usual, rel=0.01)


def test_the_interval_narrows_as_steps_are_observed() -> None:
    model = fresh()
    cost = model.count([QueryShape(1)])
    usual = model.estimate(cost).seconds
    widths = []
    for _ in range(9):
        estimate = model.estimate(cost)
        widths.append(estimate.high / estimate.low)
        model.observe(cost, usual)
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 1.5 > 1.1 > widths[-1]


def test_nine_of_ten_steps_lie_in_the_interval() -> None:
    model, noise = fresh(), np.random.default_rng(1)
    cost = model.count([QueryShape(1)])
    typical = 1.3 * model.estimate(cost).seconds
    hits = 0
    for number in range(300):
        seconds = typical * float(np.exp(0.1 * noise.standard_normal()))
        estimate = model.estimate(cost)
        hits += number >= 100 and estimate.low <= seconds <= estimate.high
        model.observe(cost, seconds)
    assert 0.8 < hits / 200 < 0.98


def test_one_row_and_many_rows_are_calibrated_apart() -> None:
    model = fresh()
    one, many = model.count([QueryShape(1)]), model.count([QueryShape(2048)])
    assert (model.bound(one), model.bound(many)) == ("memory", "compute")
    before_one, before_many = model.estimate(one).seconds, model.estimate(many).seconds
    for _ in range(10):
        model.observe(one, 1.1 * before_one)
        model.observe(many, 1.6 * before_many)
    assert model.estimate(one).seconds == pytest.approx(1.1 * before_one)
    assert model.estimate(many).seconds == pytest.approx(1.6 * before_many)


def test_steps_not_seen_yet_borrow_from_the_nearest_kind_but_stay_unsure() -> None:
    calibration = Calibration()
    for _ in range(20):
        calibration.observe(Kind.of("memory", 1, 0.0), 1.5)
        calibration.observe(Kind.of("memory", 16, 0.0), 3.0)
    low, middle, high = calibration.correction(Kind.of("memory", 2, 0.0))
    assert middle == pytest.approx(1.5)
    assert high / low > 1.5


def test_the_window_forgets_what_is_long_past() -> None:
    calibration = Calibration()
    for ratio in [5.0] * 100 + [1.2] * 100:
        calibration.observe(Kind.of("memory", 1, 0.0), ratio)
    assert calibration.correction(Kind.of("memory", 1, 0.0))[1] == pytest.approx(1.2)


def test_long_contexts_are_calibrated_apart() -> None:
    model = fresh()
    short, long = model.count([QueryShape(1, cached=16)]), model.count([QueryShape(1, cached=8000)])
    before_short, before_long = model.estimate(short).seconds, model.estimate(long).seconds
    for _ in range(10):
        model.observe(short, 1.1 * before_short)
        model.observe(long, 1.6 * before_long)
    assert model.estimate(short).seconds == pytest.approx(1.1 * before_short)
    assert model.estimate(long).seconds == pytest.approx(1.6 * before_long)


def test_the_same_steps_bound_by_another_thing_are_nearer_than_others_bound_alike() -> None:
    calibration = Calibration()
    for _ in range(20):
        calibration.observe(Kind.of("memory", 4, 0.0), 1.5)
        calibration.observe(Kind.of("compute", 5, 0.0), 3.0)
    assert calibration.correction(Kind.of("compute", 4, 0.0)).middle == pytest.approx(1.5)


def test_a_correction_follows_what_it_was_borrowed_from() -> None:
    calibration = Calibration()
    for ratio in (1.5, 3.0):
        for _ in range(40):
            calibration.observe(Kind.of("memory", 1, 0.0), ratio)
        assert calibration.correction(Kind.of("memory", 2, 0.0)).middle == pytest.approx(ratio)


def test_of_its_own_a_kind_knows_what_was_seen_at_contexts_near_by_but_not_of_other_rows() -> None:
    calibration = Calibration()
    for _ in range(2):
        calibration.observe(Kind("memory", 4, 1), 1.5)
    assert calibration.own(Kind("memory", 4, 2)) == (pytest.approx(1.5), True)
    assert calibration.own(Kind("memory", 4, 8)) is None
    assert calibration.own(Kind("memory", 5, 1)) is None


def test_what_earlier_processes_saw_of_a_kind_gives_way_to_what_this_one_sees() -> None:
    calibration = Calibration()
    kind = Kind("memory", 4, 1)
    calibration.recall({kind: [log(4.0)] * 20})
    assert calibration.own(kind) == (pytest.approx(4.0), False)
    for number in range(4):
        factor, here = calibration.own(kind)
        assert (factor > 2, here) == (True, False), number
        calibration.observe(kind, 1.5)
    assert calibration.own(kind) == (pytest.approx(1.5), True)
