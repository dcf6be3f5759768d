"""What came out of a prediction, as figures: floor and estimate apart, of one method at one precision."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ridgeway.roofline.capacity import Capacity
from ridgeway.roofline.traffic import Bound, Cost
from ridgeway.roofline.workload import Workload


@dataclass(frozen=True)
class Work:
    """Streams of one kind taken together, for all requests at once. streams: how many; may be a fraction."""

    streams: float = 0.0
    cost: Cost = field(default_factory=Cost)
    floor: float = 0.0
    memory: float = 0.0
    compute: float = 0.0
    overhead: float = 0.0
    seconds: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.streams + other.streams,
            self.cost + other.cost,
            self.floor + other.floor,
            self.memory + other.memory,
            self.compute + other.compute,
            self.overhead + other.overhead,
            self.seconds + other.seconds,
            self.low + other.low,
            self.high + other.high,
        )

    def times(self, factor: float, streams: float | None = None) -> "Work":
        """As much of it. streams: how many it then counts as; None: as many times as the rest."""
        return Work(
            self.streams * factor if streams is None else streams,
            self.cost.times(factor),
            self.floor * factor,
            self.memory * factor,
            self.compute * factor,
            self.overhead * factor,
            self.seconds * factor,
            self.low * factor,
            self.high * factor,
        )

    @property
    def bound(self) -> Bound:
        times: dict[Bound, float] = {"memory": self.memory, "compute": self.compute, "overhead": self.overhead}
        return max(times, key=lambda name: times[name])


@dataclass(frozen=True)
class Rates:
    """Seconds and tokens per second, all of them floors or all of them estimates.

    first_token: of a prompt alone on the machine; of a method that refines the whole answer, the whole answer.
    per_token: between two tokens of a request. answer: a request from its prompt to its end. per_request: tokens per
    second of one request while it decodes; total: of all of them. served: of all, the time of all prompts
    included. dollars: per million tokens of answers, prompts included; None without a price.
    """

    first_token: float
    per_token: float
    answer: float
    per_request: float
    total: float
    served: float
    dollars: float | None


@dataclass(frozen=True)
class ExpertsTouched:
    """Distinct experts of a layer in a decode stream: floor (all rows agree), uniform (not a bound), estimate."""

    count: int
    floor: float
    uniform: float
    estimate: float
    skew: float


@dataclass(frozen=True)
class Prediction:
    """One method at one precision.

    prefill, decode: of all requests; decode of a whole answer but its first token. tokens: of decode, of one request;
    rows: computed for them; passes: streams of the whole model. prefill_yields: whether the prompt's stream yields the
    first token. peak_bandwidth, peak_compute: ceilings that utilization is measured by.
    """

    model: str
    machine: str
    machine_source: str
    method: str
    assumptions: Mapping[str, Any]
    lossless: bool
    precision: str
    arithmetic: str
    workload: Workload
    prefill: Work
    decode: Work
    tokens: float
    rows: float
    passes: float
    ridge: float
    prefill_yields: bool
    capacity: Capacity
    experts: ExpertsTouched | None
    peak_bandwidth: float
    peak_compute: float

    @property
    def regime(self) -> Bound:
        """What bounds decoding."""
        return self.decode.bound

    @property
    def intensity(self) -> float:
        """FLOPs per byte of decoding."""
        return self.decode.cost.intensity

    @property
    def tokens_per_forward(self) -> float:
        """Tokens of one request for each stream of the whole model while decoding; drafts' streams are not counted."""
        return self.tokens / self.passes

    @property
    def flops_per_token(self) -> float:
        """Of decoding, per token of all requests."""
        return self.decode.cost.flops / (self.tokens * self.workload.concurrency)

    @property
    def bytes_per_token(self) -> float:
        """Of decoding, per token of all requests."""
        return self.decode.cost.bytes / (self.tokens * self.workload.concurrency)

    @property
    def wasted(self) -> float:
        """Share of the rows computed while decoding that no token of the answer came of."""
        return max(0.0, 1 - self.tokens / self.rows)

    @property
    def floor(self) -> Rates:
        return self._rates(self.prefill.floor, self.decode.floor)

    @property
    def estimate(self) -> Rates:
        return self._rates(self.prefill.seconds, self.decode.seconds)

    @property
    def slowest(self) -> Rates:
        """At the slow end of the estimate's interval."""
        return self._rates(self.prefill.high, self.decode.high)

    @property
    def fastest(self) -> Rates:
        """At the fast end of the estimate's interval."""
        return self._rates(self.prefill.low, self.decode.low)

    @property
    def roof_fraction(self) -> float:
        """Time that the roof allows / time estimated, of decoding."""
        return self.decode.floor / self.decode.seconds

    @property
    def bandwidth_utilization(self) -> float:
        """Least bytes per second / the machine's bandwidth (MBU)."""
        return self.decode.cost.least_bytes / self.decode.seconds / self.peak_bandwidth

    @property
    def compute_utilization(self) -> float:
        """FLOPs per second / the machine's rate (MFU)."""
        return self.decode.cost.flops / self.decode.seconds / self.peak_compute

    @property
    def flops_per_second(self) -> float:
        """Estimated, of decoding: where it stands on the roofline."""
        return self.decode.cost.flops / self.decode.seconds

    @property
    def limit(self) -> str:
        """What decoding waits for, in words."""
        cost = self.decode.cost
        if self.regime == "overhead":
            return "overhead: dispatching a stream takes longer than its bytes and products"
        if self.regime == "compute":
            return "arithmetic: the products take longer than the bytes"
        if cost.kv_bytes > cost.weight_bytes:
            return "memory: reading K/V, which batching does not spare"
        return "memory: reading the weights"

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        decode, prefill, cost = self.decode, self.prefill, self.decode.cost
        return {
            "model": self.model,
            "machine": self.machine,
            "machine_source": self.machine_source,
            "method": self.method,
            "assumptions": dict(self.assumptions),
            "lossless": self.lossless,
            "precision": self.precision,
            "arithmetic": self.arithmetic,
            "workload": asdict(self.workload),
            "flops": {"per_token": self.flops_per_token, "prefill": prefill.cost.flops, "decode": cost.flops},
            "bytes": {
                "per_token": self.bytes_per_token,
                "prefill": prefill.cost.bytes,
                "decode": cost.bytes,
                "weights": cost.weight_bytes,
                "kv": cost.kv_bytes,
                "activations": cost.activation_bytes,
            },
            "streams": decode.streams,
            "passes": self.passes,
            "tokens_per_forward": self.tokens_per_forward,
            "wasted_rows": self.wasted,
            "intensity": self.intensity,
            "prefill_intensity": prefill.cost.intensity,
            "ridge": self.ridge,
            "regime": self.regime,
            "floor": asdict(self.floor),
            "estimate": asdict(self.estimate) | {"fastest": asdict(self.fastest), "slowest": asdict(self.slowest)},
            "utilization": {
                "roof_fraction": self.roof_fraction,
                "bandwidth": self.bandwidth_utilization,
                "compute": self.compute_utilization,
            },
            "memory": asdict(self.capacity)
            | {
                "kv_share": self.capacity.kv_share,
                "weight_share": self.capacity.weight_share,
                "paged_waste": self.capacity.paged_waste,
                "contiguous_waste": self.capacity.contiguous_waste,
            },
            "experts": None if self.experts is None else asdict(self.experts),
            "limit": self.limit,
        }

    def _rates(self, prefill: float, decode: float) -> Rates:
        work = self.workload
        alone = prefill / work.concurrency
        later = work.useful - 1 if self.prefill_yields else work.useful
        per_token = decode / self.tokens
        first = alone if self.prefill_yields else alone + decode * min(1.0, self._first_share())
        whole = prefill + per_token * later
        served = work.concurrency * work.useful / whole
        return Rates(
            first_token=first,
            per_token=per_token,
            answer=alone + per_token * later,
            per_request=1 / per_token,
            total=work.concurrency / per_token,
            served=served,
            dollars=None if work.price is None else work.price / 3600 / served * 1e6,
        )

    def _first_share(self) -> float:
        """Share of decoding after which a method that refines many tokens at once shows its first ones."""
        block = self.assumptions.get("block", self.workload.useful)
        return float(block) / self.workload.useful
