"""Batches: what they gain, and what stops them."""

import pytest

from ridgeway.models.known import find_outline, outline_of_parameters
from ridgeway.roofline.batching import batchings, saturation
from ridgeway.roofline.hardware import machine
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.workload import Workload


def on(name, model="llama-3.1-8b", precision="bf16"):
    outline = find_outline(model)
    return Predictor(outline.name, outline.config, machine(name), precision)


def test_a_batch_of_one_gains_nothing():
    (one,) = batchings(on("h100"), Workload(), [1])
    assert (one.intensity, one.throughput, one.floor_throughput) == (1, 1, 1)


def test_gains_are_ratios_of_predictions():
    predictor = on("h100")
    one, many = (predictor.predict(Workload(1000, 256, n)) for n in (1, 64))
    found = batchings(predictor, Workload(1000, 256), [64])[0]
    assert found.intensity == pytest.approx(many.intensity / one.intensity)
    assert found.throughput == pytest.approx(many.estimate.total / one.estimate.total)
    assert found.prediction == many


def test_short_contexts_end_at_the_arithmetic_and_long_ones_at_the_memory_size():
    short, long = (saturation(on("h100"), Workload(length, 16)) for length in (16, 100_000))
    assert short.why == "arithmetic"
    assert long.why == "memory is full"
    assert long.batch < short.batch


def test_where_kv_are_most_of_the_traffic_they_stop_a_batch_that_would_fit():
    """Multi-head attention has four times the K/V of grouped heads; eight devices have room for it."""
    outline = find_outline("llama-2-7b")
    many = Predictor(outline.name, outline.config, machine("h100").times(8))
    assert saturation(many, Workload(3500, 200)).why == "K/V"


def test_a_saturated_batch_is_not_worth_doubling():
    outline = outline_of_parameters(8e9)
    predictor, work = Predictor(outline.name, outline.config, machine("h100")), Workload(256, 64)
    end = saturation(predictor, work)
    before, at, after = (
        batchings(predictor, work, [n])[0].throughput for n in (end.batch // 2, end.batch, 2 * end.batch)
    )
    assert at >= 1.25 * before
    assert after < 1.25 * at
