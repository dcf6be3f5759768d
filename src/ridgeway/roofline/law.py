"""The law of estimates on machines that nobody measured, and its coefficients, fitted to published measurements.

    seconds = t0 * layers + w * weights / bandwidth + k * (K/V) / bandwidth + c * FLOPs / rate

with t0 what a layer costs however small, w, k and c what is left unused of bandwidth and arithmetic (c for products
with few rows and with many). No constant is universal: shares of bandwidth reached span 0.3 to 0.9 over devices. So
each coefficient is a common value times corrections for the engine's family, the kind of device, the width of weights
and the kind of attention kernel. Corrections are held near 1 by priors, so that where little was measured the common
value stands (a ridge, on logarithms). Priors and groups are stated here, and no row has one of its own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from ridgeway.core.arrays import FloatArray
from ridgeway.roofline.machine import Machine
from ridgeway.roofline.precision import Precision
from ridgeway.roofline.reach import TYPICAL, Fitted, Reach

_COMMON = "common"
# Prior of the common values: 40 us a layer, 1 / 0.83 of the bandwidth, attention at 0.7 of it, a third of the rate
# with few rows and 0.6 with many; and how far each may stray, as a standard deviation of the logarithm.
_PRIOR = np.log([40e-6, 1.2, 1.4, 3.0, 1.7])
_SPREAD = {
    _COMMON: (0.7, 0.15, 0.4, 0.5, 0.4),
    "engine": (1.2, 0.1, 0.8, 0.4, 0.4),
    "kind": (0.5, 0.3, 0.6, 0.4, 0.4),
    "width": (0.1, 0.2, 0.02, 0.3, 0.3),
    "engine, kind": (0.8, 0.1, 0.4, 0.3, 0.3),
    "attention": (0.05, 0.02, 0.6, 0.02, 0.02),
}
_NOISE, _OUTLIER = 0.12, 0.15  # of logarithms: a row's own scatter, and from where on it counts less
_KINDS = {
    "dc-gpu": "stacked memory",
    "dc-asic": "stacked memory",
    "dc-apu": "stacked memory",
    "ws-gpu": "graphics memory",
    "consumer-gpu": "graphics memory",
    "soc": "system on chip",
    "edge": "shared memory",
    "cpu": "processor",
}


def groups(machine: Machine, weights: Precision, engine: str = "", flash: bool = True) -> tuple[str, ...]:
    """To which groups a measurement belongs, as `what:which`. flash: attention in one kernel, scores never stored."""
    kind = _KINDS.get(machine.kind, "other")
    bits = weights.matrices if weights.experts is None else weights.experts
    width = "16 bits" if bits > 8.5 else "8 bits" if bits >= 8 else "4 bits"
    found = [_COMMON, f"kind:{kind}", f"width:{width}", f"attention:{'flash' if flash else 'plain'}"]
    if engine:
        found += [f"engine:{engine}", f"engine, kind:{engine}, {kind}"]
    return tuple(found)


@dataclass(frozen=True)
class Sample:
    """parts: of `CostModel.parts`, added up over all streams of what took `seconds`. device: left out together."""

    parts: tuple[float, ...]
    groups: tuple[str, ...]
    seconds: float
    device: str
    weight: float = 1.0


@dataclass(frozen=True)
class Law:
    """corrections: logarithms of the five factors, by group. low, high: where nine of ten measurements of devices that
    were not fitted lie, in times of the estimate.
    """

    corrections: Mapping[str, tuple[float, ...]]
    low: float = TYPICAL.low
    high: float = TYPICAL.high

    def factors(self, found: Sequence[str]) -> FloatArray:
        """(5,) for these groups; unknown ones correct nothing."""
        total = np.zeros(5) if _COMMON in self.corrections else _PRIOR.copy()
        for name in found:
            total = total + np.array(self.corrections.get(name, (0.0,) * 5))
        return np.exp(total)

    def reach(self, machine: Machine, weights: Precision, engine: str = "", flash: bool = True) -> Reach:
        """For predictions on that machine."""
        fitted = Fitted(*map(float, self.factors(groups(machine, weights, engine, flash))))
        return Reach(fitted=fitted, low=self.low, high=self.high)

    def seconds(self, sample: Sample) -> float:
        return float(np.dot(sample.parts, self.factors(sample.groups)))

    def as_json(self) -> dict[str, Any]:
        rounded = {name: [round(value, 4) for value in values] for name, values in self.corrections.items()}
        return {"low": round(self.low, 3), "high": round(self.high, 3), "corrections": rounded}


def fit(samples: Sequence[Sample], rounds: int = 60) -> Law:
    """The law of these measurements: the likeliest corrections, outliers weighing less (Huber), by Gauss-Newton.

    Devices with many rows weigh less per row, so that none of them speaks for all.
    """
    if not samples:
        return Law({_COMMON: tuple(_PRIOR)})
    names = sorted({name for sample in samples for name in sample.groups})
    column = {name: number for number, name in enumerate(names)}
    belongs = np.zeros((len(samples), len(names)))
    for row, sample in enumerate(samples):
        belongs[row, [column[name] for name in sample.groups]] = 1
    parts = np.array([sample.parts for sample in samples])  # (rows, 5)
    seconds = np.array([sample.seconds for sample in samples])
    devices = [sample.device for sample in samples]
    weight = np.array([sample.weight / devices.count(sample.device) ** 0.5 for sample in samples])
    prior = np.zeros((5, len(names)))
    prior[:, column[_COMMON]] = _PRIOR
    spread = np.array([_SPREAD[name.split(":")[0]] for name in names]).T  # (5, groups)
    theta, precision = prior.copy(), 1 / spread.reshape(-1) ** 2
    for _ in range(rounds):
        each = parts * np.exp(belongs @ theta.T)
        predicted = each.sum(1)
        residual = np.log(seconds / predicted)
        slope = (each / predicted[:, None])[:, :, None] * belongs[:, None, :]
        slope = slope.reshape(len(samples), -1)
        trust = weight * np.minimum(1, _OUTLIER / np.maximum(1e-9, np.abs(residual))) / _NOISE**2
        curvature = slope.T @ (trust[:, None] * slope) + np.diag(precision)
        gradient = slope.T @ (trust * residual) - (theta - prior).reshape(-1) * precision
        step = np.linalg.solve(curvature, gradient)
        largest = float(np.abs(step).max())
        theta = theta + (step * min(1, 0.5 / max(largest, 1e-12))).reshape(theta.shape)
        if largest < 1e-4:
            break
    return Law({name: tuple(map(float, theta[:, number])) for name, number in column.items()})


@cache
def default_law() -> Law:
    """The law that comes with Ridgeway: `coefficients.json`, fitted to all rows of `measured.csv` beside it."""
    stored = json.loads((files("ridgeway.roofline") / "coefficients.json").read_text())
    return Law({name: tuple(values) for name, values in stored["corrections"].items()}, stored["low"], stored["high"])
