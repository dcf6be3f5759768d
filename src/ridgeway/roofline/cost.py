"""The cost model: the time that a weight stream's bytes and FLOPs take (`roofline.counting` counts them).

Two times come out and are never mixed. The *floor* is the least time physics allows: the fewest bytes at the
highest rate ever seen, or the products at the highest rate; no measurement may beat it. The *estimate* is
what a step will take, with an interval: the typical rates times what executors reach of them, plus an
overhead, corrected by the steps that were observed (`roofline.calibration`).
"""

from collections.abc import Mapping
from math import log2, prod
from typing import Self

from ridgeway.core.errors import MachineError
from ridgeway.core.executor import Executor
from ridgeway.models.config import ModelConfig
from ridgeway.roofline.calibration import Calibration, Kind
from ridgeway.roofline.counting import StreamCounter
from ridgeway.roofline.experts import DEFAULT_SKEW, distinct_experts
from ridgeway.roofline.machine import Machine
from ridgeway.roofline.packing import packed_bytes
from ridgeway.roofline.reach import TYPICAL, Parts, Reach
from ridgeway.roofline.shape import QueryShape
from ridgeway.roofline.traffic import Bound, Cost, Estimate, Exceeded

__all__ = ["Bound", "Cost", "CostModel", "Estimate", "Exceeded", "QueryShape"]

_WIDE = ("bf16", "fp16", "fp32")
_VOCABULARY = 128_000  # entries of a row of logits that the fitted law's cost of an answer is stated for
_IMPLAUSIBLE = 3  # times the highest rate seen: rather a clock that jumped than a machine that is faster
_REPEATED = 3  # implausible steps in a row that are believed
_FEW, _MANY = 64, 512  # rows of a stream up to which products are slow, and from which on they are fast


class CostModel(StreamCounter):
    """Counts, bounds and estimates the weight streams of one model, as one executor holds it, on one machine.

    arithmetic: the type that is multiplied. overhead: seconds of a step besides, for the estimate; None: the machine's.
    Raises MachineError if the machine has no rate for the arithmetic, and what `StreamCounter` does.
    """

    def __init__(
        self,
        config: ModelConfig,
        held_bytes: Mapping[str, int],
        kv_itemsize: int,
        activation_itemsize: int,
        arithmetic: str,
        machine: Machine,
        overhead: float | None = None,
        reach: Reach = TYPICAL,
        expert_skew: float = DEFAULT_SKEW,
    ) -> None:
        machine.compute(arithmetic)
        super().__init__(config, held_bytes, kv_itemsize, activation_itemsize, expert_skew)
        self.arithmetic = arithmetic
        self.machine = machine
        if overhead is None:
            per_layer = machine.layer_overhead if reach.fitted is None else reach.fitted.layer
            overhead = (machine.step_overhead if reach.fitted is None else 0.0) + config.layers * per_layer
        self.overhead = overhead
        self.reach = reach
        self.calibration = Calibration(reach.low, reach.high)
        self._doubted: list[Exceeded] = []  # implausible steps since the last plausible one
        self._packed_per_byte = self._packed_weights() / max(1, self.weight_bytes)

    @classmethod
    def of(cls, config: ModelConfig, executor: Executor, machine: Machine) -> Self:
        """The cost of this executor's streams."""
        return cls(
            config,
            executor.held_bytes,
            executor.kv_itemsize,
            executor.activation_itemsize,
            executor.arithmetic,
            machine,
        )

    @classmethod
    def predicted(
        cls,
        config: ModelConfig,
        weights: str | float,
        machine: Machine,
        *,
        arithmetic: str | None = None,
        kv_itemsize: int = 2,
        activation_itemsize: int = 2,
        reach: Reach = TYPICAL,
        expert_skew: float = DEFAULT_SKEW,
    ) -> Self:
        """The cost of a model that is not loaded.

        weights: a format's name (`BF16`, `Q4_1`) or bytes per weight. arithmetic: None: bf16, else fp16, else
        fp32, whichever the machine has: weights packed more tightly are multiplied in these.
        """
        if arithmetic is None:
            arithmetic = next((name for name in ("bf16", "fp16", "fp32") if name in machine.peaks), None)
        if arithmetic is None:
            raise MachineError(f"{machine.name} has no rate of floating-point products; name the arithmetic")
        held = {name: packed_bytes(shape, weights) for name, shape in config.tensor_shapes().items()}
        return cls(
            config,
            held,
            kv_itemsize,
            activation_itemsize,
            arithmetic,
            machine,
            reach=reach,
            expert_skew=expert_skew,
        )

    def holding(self, held_bytes: Mapping[str, int]) -> Self:
        """The model as an executor would run it that holds these bytes instead; nothing was observed of it yet."""
        return type(self)(
            self.config,
            held_bytes,
            self.kv_itemsize,
            self.activation_itemsize,
            self.arithmetic,
            self.machine,
            self.overhead,
            self.reach,
            self.expert_skew,
        )

    def as_recalled(self) -> Self:
        """The model as it was before this process observed a step of it: earlier ones may have taught it."""
        model = self.holding(self.held_bytes)
        model.calibration = self.calibration.as_recalled()
        return model

    def memory_seconds(self, cost: Cost) -> float:
        """Least time to read and write the weights and the K/V."""
        return cost.least_bytes / self.machine.bandwidth(cost.working_set)

    def likely_memory_seconds(self, cost: Cost) -> float:
        """The same with as many experts as are likely touched, not the fewest possible."""
        return self.memory_seconds(cost) + cost.expert_spread_bytes / self.machine.bandwidth(cost.working_set)

    def compute_seconds(self, cost: Cost) -> float:
        """Least time to do the products."""
        return cost.flops / self.machine.compute(self.arithmetic)

    def floor(self, cost: Cost) -> float:
        """The least seconds that physics allows; no measurement may beat it."""
        return max(self.memory_seconds(cost), self.compute_seconds(cost))

    def estimate(self, cost: Cost) -> Estimate:
        """The seconds that the streams will take, from what was observed so far; never below the floor."""
        low, middle, high = self.calibration.correction(self._kind(cost))
        seconds, floor = self._uncorrected(cost), self.floor(cost)
        return Estimate(*(max(floor, seconds * factor) for factor in (middle, low, high)))

    def observed(self, cost: Cost) -> tuple[float, bool] | None:
        """Seconds of such streams as told by those of that very kind that were observed, and whether this process saw
        enough of them, so that what earlier ones saw does not count; None if hardly any was.
        """
        own = self.calibration.own(self._kind(cost))
        if own is None:
            return None
        factor, here = own
        return max(self.floor(cost), factor * self._uncorrected(cost)), here

    def bound(self, cost: Cost) -> Bound:
        """What takes longest at the machine's ceilings: memory, arithmetic, or the overhead of a step."""
        times: dict[Bound, float] = {
            "memory": self.likely_memory_seconds(cost),
            "compute": self.compute_seconds(cost),
            "overhead": cost.streams * self.overhead,
        }
        return max(times, key=lambda name: times[name])

    def observe(self, cost: Cost, seconds: float) -> Exceeded | None:
        """Learn from a step that took `seconds`; if it beat its floor, says by how much: a ceiling is low.

        A step that beats it by far is taken for a fault of the clock, and nothing is learned from it, unless several
        in a row do: then the ceilings were measured badly, and the least of these rates counts.
        """
        if cost.streams == 0 or seconds <= 0:
            return None
        by = self.floor(cost) / seconds
        exceeded = Exceeded(by, cost.working_set, cost.least_bytes / seconds, cost.flops / seconds)
        if by > _IMPLAUSIBLE:
            self._doubted.append(exceeded)
            if len(self._doubted) < _REPEATED:
                return None
            exceeded = min(self._doubted)
        self._doubted.clear()
        self.calibration.observe(self._kind(cost), seconds / self._uncorrected(cost))
        return exceeded if by > 1 + 1e-9 else None  # rounding

    def raise_ceilings(self, exceeded: Exceeded) -> Machine:
        """Judge by the rates that were reached from now on; returns the machine, for `remember`."""
        self.machine = self.machine.raised(
            working_set=exceeded.working_set,
            bytes_per_second=exceeded.bytes_per_second,
            arithmetic=self.arithmetic,
            operations_per_second=exceeded.operations_per_second,
        )
        return self.machine

    def _kind(self, cost: Cost) -> Kind:
        attention = cost.attention_flops / cost.flops if cost.flops else 0.0
        return Kind.of(self.bound(cost), self._rows_per_stream(cost), attention)

    def ridge(self, cost: Cost) -> float:
        """The intensity, FLOP/byte, from which on these streams would be compute-bound."""
        return self.machine.ridge(self.arithmetic, cost.working_set)

    def parts(self, cost: Cost) -> Parts:
        """What the fitted law adds up."""
        machine = self.machine
        bandwidth = machine.typical_bandwidth(cost.working_set)
        passing = cost.activation_bytes / bandwidth + (cost.attention_flops + cost.head_flops) / self._wide_rate()
        matrices = cost.matrix_flops / machine.peak(self.arithmetic).median
        rows = max(1, self._rows_per_stream(cost))
        routed = matrices * self._routed_flops / max(1, int(self._layer_flops.sum()))
        of_routed, of_rest = _share_of_many(self._rows_per_expert(rows)), _share_of_many(rows)
        many = of_routed * routed + of_rest * (matrices - routed + passing)
        few = matrices + passing - many
        vector = machine.peaks.get("fp32")  # of vector units: a multiply and an add are one of their operations
        return Parts(
            layers=float(cost.streams * self.config.layers),
            weights=cost.weight_bytes / bandwidth,
            kv=cost.kv_bytes / bandwidth,
            few=few * (1 - 1 / rows),  # the first row's products come with the reading of the weights
            many=many,
            unpacked=cost.weight_bytes * self._packed_per_byte / (vector.median / 2) if vector else 0.0,
            repeated=cost.kv_read_bytes * (self.config.heads // max(1, self.config.kv_heads) - 1) / bandwidth,
            answers=cost.head_flops / (2 * _VOCABULARY * self.config.hidden),
        )

    def _uncorrected(self, cost: Cost) -> float:
        """Overhead, and reading and products at the shares of typical rates that are reached."""
        machine, fitted = self.machine, self.reach.fitted
        if fitted is not None:
            return fitted.seconds(self.parts(cost)) + self.exchange(cost)
        memory = cost.bytes / (self.reach.memory * machine.typical_bandwidth(cost.working_set))
        compute = cost.flops / (self.reach.compute * machine.peak(self.arithmetic).median)
        return cost.streams * self.overhead + max(memory, compute) + self.exchange(cost)

    def exchange(self, cost: Cost) -> float:
        """Seconds in which several devices add up their parts of each sublayer's output: a ring, each part passed
        on 2 (n - 1) / n times.
        """
        machine = self.machine
        if machine.devices == 1:
            return 0.0
        passed = cost.rows * self.config.hidden * self.activation_itemsize * 2 * (machine.devices - 1) / machine.devices
        each = cost.streams * machine.link_latency
        return 2 * self.config.layers * (each + (passed / machine.link_bandwidth if machine.link_bandwidth else 0.0))

    def _rows_per_expert(self, rows: int) -> float:
        """Of a stream with so many rows: the products of an expert are as small as the rows that choose it are few."""
        experts = self.config.experts
        return rows if experts is None else rows * experts.active / distinct_experts(experts, rows, self.expert_skew)

    def _wide_rate(self) -> float:
        """Of products that stay in 16 bits when the matrices' are narrower: attention's and the head's."""
        names = (self.arithmetic, "bf16", "fp16") if self.arithmetic in _WIDE else ("bf16", "fp16", self.arithmetic)
        return next(self.machine.peaks[name].median for name in names if name in self.machine.peaks)

    def _packed_weights(self) -> int:
        """Weights that are held in fewer bits than they are multiplied in, and so must be unpacked."""
        if self.arithmetic not in _WIDE:
            return 0
        sizes = {name: prod(shape) for name, shape in self.config.tensor_shapes().items() if len(shape) > 1}
        return sum(size for name, size in sizes.items() if 8 * self.held_bytes[name] < 16 * size)

    @staticmethod
    def _rows_per_stream(cost: Cost) -> int:
        return cost.rows // max(1, cost.streams)


def _share_of_many(rows: float) -> float:
    """How far products of so many rows are from slow ones, 0, to fast ones, 1."""
    return min(1.0, max(0.0, log2(max(1.0, rows) / _FEW) / log2(_MANY / _FEW)))
