"""The law of estimates on machines that nobody measured, and its coefficients, fitted to published measurements.

    seconds = t0 * layers + max(w * weights / bandwidth, u * weights / vector rate) + k * (K/V) / bandwidth
            + c * FLOPs / rate + h * rows that are read out + r * (K/V read again) / bandwidth

with t0 what a layer costs however small; w and k what is left unused of the bandwidth; u the vector operations that
unpack a packed weight, which hide behind the reading or hide it; c what is left of the rate of products, with few rows
and with many; h a host's work for an answer; r what attention without a kernel of its own reads once more for each
query head. `Fitted.seconds` (roofline.reach) is the formula itself, `CostModel.parts` what goes into it.

No constant is universal: shares of bandwidth reached span 0.3 to 0.9 over devices. So each coefficient is a common
value times corrections for the engine and its family, the kind of device, the width of weights, the arithmetic, the
kind of attention kernel and the way weights are unpacked. Corrections are held near what is expected by priors, so that
where little was measured the expectation stands (a ridge, on logarithms). Priors and groups are stated here; neither a
row nor a device has one of its own. `benchmarks/refit_law.py` fits the coefficients anew and shows what each choice is
worth.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import log
from typing import Any

import numpy as np

from ridgeway.core.arrays import FloatArray
from ridgeway.roofline.machine import Machine
from ridgeway.roofline.precision import Precision
from ridgeway.roofline.reach import SHARPNESS, TYPICAL, Fitted, Parts, Reach

_COMMON = "common"
PARTS = Parts._fields
_PARTS = len(PARTS)
# Prior of the common values, in the order of `Parts`, and how far each may stray as a standard deviation of the
# logarithm. They are what kernels measured alone reach (docs/predictions.md): 40 us a layer, 0.85 of the bandwidth for
# weights and 0.8 for K/V, a third of the rate with few rows and 0.75 with many, 6 operations to unpack a weight, and
# 10 us of a host's work for a row that is read out; K/V are read again at the full bandwidth.
_PRIOR = np.log([40e-6, 1 / 0.85, 1 / 0.8, 3.0, 1 / 0.75, 6.0, 10e-6, 1.0])
_SPREAD = {
    _COMMON: (0.2, 0.1, 0.2, 0.5, 0.3, 0.15, 0.5, 0.5),
    "engine": (0.3, 0.1, 0.3, 0.4, 0.3, 0.15, 0.7, 0.3),
    "name": (0.3, 0.05, 0.2, 0.2, 0.2, 0.15, 0.5, 0.01),
    "kind": (0.3, 0.2, 0.4, 0.4, 0.3, 0.15, 0.01, 0.5),
    "arithmetic": (0.1, 0.1, 0.02, 0.3, 0.2, 0.01, 0.01, 0.01),
    "width": (0.1, 0.1, 0.02, 0.3, 0.2, 0.15, 0.01, 0.01),
    "engine, kind": (0.3, 0.1, 0.3, 0.3, 0.3, 0.15, 0.01, 0.3),
    "attention": (0.05, 0.02, 0.6, 0.02, 0.02, 0.01, 0.01, 0.01),
    "mixture": (0.3, 0.01, 0.01, 0.3, 0.3, 0.01, 0.01, 0.01),
    "unpacking": (0.01, 0.01, 0.01, 0.01, 0.01, 0.3, 0.01, 0.01),
}
# Groups that are expected to differ. Engines that launch every operation pay for each launch; one kernel per step pays
# barriers alone. Routed experts cost a server some 30 us a layer: 20 in two grouped products however small, the rest to
# choose experts, to sort rows and to sum. Narrow products reach less of their rate. llama.cpp copies logits to the
# host. One instruction multiplies and adds four packed bytes where there are dot products of integers; without packed
# pairs of 16-bit numbers a weight takes half as many operations again, and again if its scales have scales.
_EXPECTED = {
    "engine:llama.cpp": (log(2.4), 0, 0, 0, 0, 0, log(5), 0),
    "engine:eager": (log(8), 0, 0, 0, 0, 0, 0, 0),
    "engine:compiled": (0, 0, 0, 0, 0, 0, log(0.1), 0),
    "mixture:server": (log(1.8), 0, 0, 0, 0, 0, 0, 0),
    "mixture:any engine": (log(1.5), 0, 0, 0, 0, 0, 0, 0),
    "name:calm": (log(0.25), 0, 0, 0, 0, 0, 0, 0),
    "arithmetic:fp8": (0, 0, 0, 0, log(1.25), 0, 0, 0),
    "arithmetic:fp4": (0, 0, 0, 0, log(1.6), 0, 0, 0),
    "attention:flash": (0, 0, 0, 0, 0, 0, 0, log(0.001)),
    "unpacking:integers": (0, 0, 0, 0, 0, log(0.3), 0, 0),
    "unpacking:singly": (0, 0, 0, 0, 0, log(1.5), 0, 0),
    "unpacking:dual issue": (0, 0, 0, 0, 0, log(0.9), 0, 0),
    "unpacking:two scales": (0, 0, 0, 0, 0, log(1.5), 0, 0),
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


def groups(
    machine: Machine, weights: Precision, engine: str = "", flash: bool = True, name: str = "", mixture: bool = False
) -> tuple[str, ...]:
    """To which groups a measurement belongs, as `what:which`. flash: attention in one kernel, scores never stored.
    name: of the engine, within its family. mixture: of experts.
    """
    kind = _KINDS.get(machine.kind, "other")
    bits = weights.matrices if weights.experts is None else weights.experts
    width = "16 bits" if bits > 8.5 else "8 bits" if bits >= 8 else "4 bits"
    found = [_COMMON, f"kind:{kind}", f"width:{width}", f"attention:{'flash' if flash else 'plain'}"]
    found.append(f"arithmetic:{weights.on(machine)[1].split()[0]}")
    found += [f"unpacking:{how}" for how in _unpacking(machine, weights, engine)]
    if mixture:
        found.append(f"mixture:{engine or 'any engine'}")
    if name:
        found.append(f"name:{name}")
    if engine:
        found += [f"engine:{engine}", f"engine, kind:{engine}, {kind}"]
    return tuple(found)


def _unpacking(machine: Machine, weights: Precision, engine: str) -> list[str]:
    found = ["two scales"] if "_K" in weights.name or weights.name.startswith("IQ") else []
    # llama.cpp multiplies packed bytes as they are where a GPU has dot products of integers; Apple's have none.
    if _KINDS.get(machine.kind) == "system on chip":
        found.append("dual issue" if machine.dual_issue else "singly")
    elif engine == "llama.cpp":
        found.append("integers")
    return found


@dataclass(frozen=True)
class Sample:
    """parts: of `CostModel.parts`, added up over all streams of what took `seconds`. device: left out together."""

    parts: Parts
    groups: tuple[str, ...]
    seconds: float
    device: str
    weight: float = 1.0


@dataclass(frozen=True)
class Law:
    """corrections: logarithms of the factors, by group. low, high: where nine of ten measurements of devices that
    were not fitted lie, in times of the estimate.
    """

    corrections: Mapping[str, tuple[float, ...]]
    low: float = TYPICAL.low
    high: float = TYPICAL.high

    def fitted(self, found: Sequence[str]) -> Fitted:
        """The factors for these groups; unknown ones correct nothing but what is expected of them."""
        total = np.zeros(_PARTS) if _COMMON in self.corrections else _PRIOR.copy()
        for name in found:
            total = total + np.array(self.corrections.get(name, _EXPECTED.get(name, (0.0,) * _PARTS)))
        return Fitted(*map(float, np.exp(total)))

    def reach(self, machine: Machine, weights: Precision, engine: str = "", mixture: bool = False) -> Reach:
        """For predictions on that machine, with attention that is one kernel. mixture: of experts."""
        found = groups(machine, weights, engine, mixture=mixture)
        return Reach(fitted=self.fitted(found), low=self.low, high=self.high)

    def seconds(self, sample: Sample) -> float:
        return self.fitted(sample.groups).seconds(sample.parts)

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
    parts = np.array([sample.parts for sample in samples])  # (rows, parts)
    seconds = np.array([sample.seconds for sample in samples])
    devices = [sample.device for sample in samples]
    weight = np.array([sample.weight / devices.count(sample.device) ** 0.5 for sample in samples])
    prior = np.zeros((_PARTS, len(names)))
    prior[:, column[_COMMON]] = _PRIOR
    for name in _EXPECTED.keys() & column.keys():
        prior[:, column[name]] = _EXPECTED[name]
    spread = np.array([_SPREAD[name.split(":")[0]] for name in names]).T  # (parts, groups)
    theta, precision = prior.copy(), 1 / spread.reshape(-1) ** 2
    for _ in range(rounds):
        each = _effective(parts * np.exp(belongs @ theta.T))
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


def _effective(each: FloatArray) -> FloatArray:
    """(rows, parts) seconds that each part adds to the whole, as `Fitted.seconds` joins them; also their slopes."""
    streamed, unpacked = PARTS.index("weights"), PARTS.index("unpacked")
    powers = each[:, [streamed, unpacked]] ** SHARPNESS
    both = powers.sum(1, keepdims=True)
    joined = both ** (1 / SHARPNESS) * powers / np.maximum(both, 1e-300)
    each = each.copy()
    each[:, [streamed, unpacked]] = joined
    return each


@cache
def default_law() -> Law:
    """The law that comes with Ridgeway: `coefficients.json`, fitted to all rows of `measured.csv` beside it."""
    stored = json.loads((files("ridgeway.roofline") / "coefficients.json").read_text())
    return Law({name: tuple(values) for name, values in stored["corrections"].items()}, stored["low"], stored["high"])
