"""What a batch gains over a single request, and where larger ones stop paying: memory is full, K/V take over, or the
arithmetic is used up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ridgeway.roofline.decoding import Autoregressive, Decoding
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.prediction import Prediction
from ridgeway.roofline.workload import Workload

Saturated = Literal["memory is full", "K/V", "arithmetic", "overhead"]
_WORTH_DOUBLING = 1.25  # times the tokens per second for twice the requests
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Batching:
    """intensity, throughput: times those of a single request, estimated; floor_throughput: at the floors."""

    intensity: float
    throughput: float
    floor_throughput: float
    prediction: Prediction


@dataclass(frozen=True)
class Saturation:
    """batch: the least one, doubling from 1, that is not worth doubling: twice the requests would not fit or give less
    than a quarter more tokens per second. why: what stops it.
    """

    batch: int
    why: Saturated


def batchings(
    predictor: Predictor, workload: Workload, batches: Sequence[int], method: Decoding | None = None
) -> list[Batching]:
    """The workload with so many requests at once, whether they fit or not (`prediction.capacity` says)."""
    one = predictor.predict(replace(workload, concurrency=1), method)
    found = [predictor.predict(replace(workload, concurrency=batch), method) for batch in batches]
    return [
        Batching(
            intensity=many.intensity / one.intensity,
            throughput=many.estimate.total / one.estimate.total,
            floor_throughput=many.floor.total / one.floor.total,
            prediction=many,
        )
        for many in found
    ]


def saturation(predictor: Predictor, workload: Workload, method: Decoding | None = None) -> Saturation:
    """Where larger batches of this workload stop paying."""
    method = method or Autoregressive()
    batch, now = 1, predictor.predict(replace(workload, concurrency=1), method)
    while batch < _LARGEST:
        if 2 * batch > now.capacity.largest_batch:
            return Saturation(batch, "memory is full")
        twice = predictor.predict(replace(workload, concurrency=2 * batch), method)
        if twice.estimate.total < _WORTH_DOUBLING * now.estimate.total:
            return Saturation(batch, _reason(twice))
        batch, now = 2 * batch, twice
    return Saturation(batch, _reason(now))


def _reason(prediction: Prediction) -> Saturated:
    cost = prediction.decode.cost
    if prediction.regime == "compute":
        return "arithmetic"
    return "K/V" if prediction.regime == "memory" and cost.kv_bytes > cost.weight_bytes else "overhead"
