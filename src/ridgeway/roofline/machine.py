"""A machine is its ceilings: how fast it reads memory and how fast it multiplies.

Decoding is bound by the first and prefill by the second, so these few numbers are the denominator of every
report. They are measured on the machine at hand (`this_machine`) or taken from a data sheet by name
(`roofline.hardware`), and each says which. Two readings of one measurement are kept apart: the best rate ever
seen serves the floor, which no run may beat, and the median serves the estimate.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, Self

from ridgeway.core.errors import MachineError

Source = Literal["measured", "data sheet"]
# Seconds of an all-reduce of few bytes inside CUDA graphs, measured on H100: 4.3 to 5.5 us (aiconfigurator tables).
LINK_LATENCY = 5e-6
_VERSION = 1  # of the stored form; an older file is measured anew


@dataclass(frozen=True)
class BandwidthPoint:
    """Read rates over a set of `working_set` bytes with `threads` threads; best and median in bytes/s."""

    working_set: int
    threads: int
    best: float
    median: float


@dataclass(frozen=True)
class Peak:
    """Rate of dense matrix products of one arithmetic type, in operations/s (a multiply and an add are two).

    best: for the floor. median: for the estimate. accumulate: the type that sums are kept in. source: where
    the number comes from.
    """

    best: float
    median: float
    accumulate: str = ""
    source: str = ""


@dataclass(frozen=True)
class Machine:
    """What a machine allows.

    name: for people. source: whether the ceilings were measured or come from a data sheet; note: when and how.
    bandwidths: measured points; a data sheet has one. peaks: by arithmetic type (`fp32`, `bf16`, `int8`, ...).
    step_overhead, layer_overhead: seconds that a step, and each layer of it, costs before any byte or product;
    memory_bytes: physical; usable_bytes: what one process may have. cores: that the process may use (0: not counted, as
    on accelerators). threads: how many read memory fastest. measured_on: ISO date. devices: that work as one, whose
    rates and memories are added up; link_bandwidth, link_latency: bytes/s per direction and seconds of an exchange
    between them. cache_bytes: of the largest cache. kind, year: of device and of first sale. dual_issue: vector units
    issue integer and floating-point operations side by side. Zeros and empty texts: not known, memory sizes included.
    """

    name: str
    source: Source
    bandwidths: tuple[BandwidthPoint, ...]
    peaks: Mapping[str, Peak]
    step_overhead: float
    layer_overhead: float
    memory_bytes: int
    usable_bytes: int
    cores: int = 0
    threads: int = 0
    note: str = ""
    measured_on: str = ""
    devices: int = 1
    link_bandwidth: float = 0.0
    link_latency: float = 0.0
    cache_bytes: int = 0
    kind: str = ""
    year: int = 0
    dual_issue: bool = False
    key: str = field(default="", compare=False)  # names the file of `remember`; empty for data sheets

    def __post_init__(self) -> None:
        if not self.bandwidths:
            raise MachineError(f"{self.name}: a machine needs at least one bandwidth")
        rates = [point.best for point in self.bandwidths] + [peak.best for peak in self.peaks.values()]
        if min(rates) <= 0:
            raise MachineError(f"{self.name}: every rate must be above 0")
        ordered = tuple(sorted(self.bandwidths, key=lambda point: (point.working_set, point.threads)))
        object.__setattr__(self, "bandwidths", ordered)

    def bandwidth(self, working_set: int) -> float:
        """Highest read rate seen for that working-set size, in bytes/s.

        It is that of the measured size at or next below it, where sizes fall between.
        A rate reached over a larger set is within reach over a smaller one, so it counts there too.
        """
        sizes, rates = self._best_rates
        return rates[max(0, bisect_right(sizes, working_set) - 1)]

    def typical_bandwidth(self, working_set: int, threads: int | None = None) -> float:
        """Median read rate over that working-set size, bytes/s, linear between sizes on a logarithmic scale.

        threads: that many, or the nearest measured number; None: the number that reads fastest.
        """
        sizes, rates = self._typical_rates(threads)
        above = bisect_left(sizes, working_set)
        if above == 0 or above == len(sizes):
            return rates[min(above, len(sizes) - 1)]
        share = (working_set - sizes[above - 1]) / (sizes[above] - sizes[above - 1])
        return rates[above - 1] + share * (rates[above] - rates[above - 1])

    def _typical_rates(self, threads: int | None) -> tuple[list[int], list[float]]:
        """Measured sizes, and the median rate over each."""
        known = self._curves
        if threads not in known:
            curve: dict[int, float] = {}
            for point in self._with_threads(threads):
                curve[point.working_set] = max(curve.get(point.working_set, 0.0), point.median)
            known[threads] = sorted(curve), [curve[size] for size in sorted(curve)]
        return known[threads]

    @cached_property
    def _curves(self) -> dict[int | None, tuple[list[int], list[float]]]:
        return {}

    @cached_property
    def _best_rates(self) -> tuple[list[int], list[float]]:
        """Measured sizes, and the highest rate over each of them or a larger one."""
        sizes = sorted({point.working_set for point in self.bandwidths})
        rates = [max(point.best for point in self.bandwidths if point.working_set >= size) for size in sizes]
        return sizes, rates

    @property
    def memory_bandwidth(self) -> float:
        """Highest read rate from main memory, bytes/s."""
        return self.bandwidth(self.bandwidths[-1].working_set)

    def peak(self, arithmetic: str) -> Peak:
        """Raises MachineError if this machine has no rate for that type."""
        if arithmetic not in self.peaks:
            known = ", ".join(sorted(self.peaks)) or "none"
            raise MachineError(f"{self.name} has no {arithmetic} rate; it has: {known}")
        return self.peaks[arithmetic]

    def compute(self, arithmetic: str) -> float:
        """Highest rate of dense matrix products in that type, operations/s. Raises MachineError."""
        return self.peak(arithmetic).best

    def ridge(self, arithmetic: str, working_set: int | None = None) -> float:
        """The intensity, FLOP/byte, from which on arithmetic is the limit; None: weights in main memory."""
        bandwidth = self.memory_bandwidth if working_set is None else self.bandwidth(working_set)
        return self.compute(arithmetic) / bandwidth

    def raised(
        self,
        *,
        working_set: int = 0,
        bytes_per_second: float = 0.0,
        arithmetic: str = "",
        operations_per_second: float = 0.0,
    ) -> Self:
        """The machine with the ceilings that a run was seen to reach; ceilings that are higher already stay.

        A rate over a set between two measured sizes raises the smaller one, whose rate bounds the set.
        """
        bandwidths, peaks = self.bandwidths, dict(self.peaks)
        if bytes_per_second > self.bandwidth(working_set):
            least = self._bracket(working_set)
            number = max(
                (n for n, point in enumerate(bandwidths) if point.working_set == least),
                key=lambda n: bandwidths[n].best,
            )
            higher = replace(bandwidths[number], best=bytes_per_second)
            bandwidths = (*bandwidths[:number], higher, *bandwidths[number + 1 :])
        if arithmetic and operations_per_second > self.compute(arithmetic):
            peaks[arithmetic] = replace(peaks[arithmetic], best=operations_per_second)
        return replace(self, bandwidths=bandwidths, peaks=peaks)

    def with_peak(self, arithmetic: str, peak: Peak) -> Self:
        """The machine with a rate of its own for `arithmetic`, measured by an executor with its kernels."""
        return replace(self, peaks={**self.peaks, arithmetic: peak})

    def times(self, devices: int) -> Self:
        """So many of these working as one on every matrix (tensor parallelism): rates and memories add up."""
        if devices < 1:
            raise MachineError(f"devices={devices}: expected 1 or more")
        if devices == 1:
            return self
        return replace(
            self,
            name=f"{devices} x {self.name}",
            bandwidths=tuple(
                replace(point, best=devices * point.best, median=devices * point.median) for point in self.bandwidths
            ),
            peaks={
                name: replace(peak, best=devices * peak.best, median=devices * peak.median)
                for name, peak in self.peaks.items()
            },
            memory_bytes=devices * self.memory_bytes,
            usable_bytes=devices * self.usable_bytes,
            devices=devices * self.devices,
            link_latency=self.link_latency or LINK_LATENCY,
            key="",
        )

    def as_json(self) -> dict[str, Any]:
        """Plain data; `from_json` reads it back to an equal machine."""
        names = [item.name for item in fields(self) if item.name not in ("bandwidths", "peaks")]
        plain: dict[str, Any] = {name: getattr(self, name) for name in names}
        plain["version"] = _VERSION
        plain["bandwidths"] = [vars(point) for point in self.bandwidths]
        plain["peaks"] = {arithmetic: vars(peak) for arithmetic, peak in self.peaks.items()}
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Raises MachineError if the data is not a machine's."""
        try:
            given = dict(plain)
            if given.pop("version") != _VERSION:
                raise MachineError("these ceilings were stored by another version; measure them again")
            given["bandwidths"] = tuple(BandwidthPoint(**point) for point in given["bandwidths"])
            given["peaks"] = {arithmetic: Peak(**peak) for arithmetic, peak in given["peaks"].items()}
            return cls(**given)
        except (KeyError, TypeError, AttributeError) as error:
            raise MachineError(f"these are not a machine's ceilings: {error!r}; measure them again") from None

    def _bracket(self, working_set: int) -> int:
        """The measured size at or next below `working_set`; the smallest if all are larger."""
        sizes = [point.working_set for point in self.bandwidths]
        return max((size for size in sizes if size <= working_set), default=min(sizes))

    def _with_threads(self, threads: int | None) -> list[BandwidthPoint]:
        if threads is None:
            return list(self.bandwidths)
        nearest = min({point.threads for point in self.bandwidths}, key=lambda n: (abs(n - threads), n))
        return [point for point in self.bandwidths if point.threads == nearest]
