"""The cost model: the bytes and FLOPs of a weight stream, and the time that they take.

Bytes are counted from the tensors as the executor holds them, so a packed model costs what its packing costs.
Two times come out and are never mixed. The *floor* is the least time physics allows: the fewest bytes at the
highest rate ever seen, or the products at the highest rate; no measurement may beat it. The *estimate* is
what a step will take, with an interval: the typical rates times what executors reach of them, plus an
overhead, corrected by the steps that were observed (`roofline.calibration`).

What is counted, of one stream:

- weights: every tensor of the sublayers that run, once; of the embedding only the rows used; the head only if a row is
  read. A tied head is the embedding, counted once, as the head.
- K/V: each layer reads the keys and values that its rows see (once for all rows of a query, its own rows included, no
  further back than the layer's window) and writes those of its rows.
- activations, per row and layer: the hidden state in and out of both sublayers (4 d), queries, keys and values written
  and read (2 (q + 2 kv)), gate and up written and their product read (3 f); per read row the hidden state and the
  logits. They can stay in a cache, so the floor leaves them out.
- FLOPs: 2 per weight of a matrix and row; the head's per read row only; 4 per visible (row, key), head and element of a
  head (scores and mixing). Norms, rotations and softmax are some thousandths and left out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self

import numpy as np

from ridgeway.core.arrays import BoolArray
from ridgeway.core.errors import MachineError, ModelError, did_you_mean
from ridgeway.core.executor import Executor
from ridgeway.core.query import Batch
from ridgeway.models.config import ModelConfig
from ridgeway.quant.formats import F32, FORMATS
from ridgeway.roofline.calibration import Calibration
from ridgeway.roofline.machine import Machine
from ridgeway.roofline.shape import QueryShape, shared_keys

__all__ = ["Bound", "Cost", "CostModel", "Estimate", "Exceeded", "QueryShape"]

Bound = Literal["memory", "compute", "overhead"]
_MLP = ("mlp_norm", "gate", "up", "down", "gate_bias", "up_bias", "down_bias")
_REACHED = {"memory": 0.86, "compute": 0.7}  # shares of the typical rates: medians over engines and devices


@dataclass(frozen=True)
class Cost:
    """Traffic in bytes and work in FLOPs of `streams` weight streams; costs add up.

    kv_shared_bytes: the part of kv_read_bytes that an earlier query of the same batch reads as well.
    """

    weight_bytes: int = 0
    kv_read_bytes: int = 0
    kv_write_bytes: int = 0
    kv_shared_bytes: int = 0
    activation_bytes: int = 0
    matrix_flops: int = 0
    attention_flops: int = 0
    head_flops: int = 0
    rows: int = 0
    streams: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(mine + theirs for mine, theirs in zip(self._numbers(), other._numbers(), strict=True)))

    @property
    def kv_bytes(self) -> int:
        return self.kv_read_bytes + self.kv_write_bytes

    @property
    def bytes(self) -> int:
        """All traffic, activations included."""
        return self.weight_bytes + self.kv_bytes + self.activation_bytes

    @property
    def least_bytes(self) -> int:
        """Traffic that no cache spares: weights and K/V, what queries share once."""
        return self.weight_bytes + self.kv_bytes - self.kv_shared_bytes

    @property
    def flops(self) -> int:
        return self.matrix_flops + self.attention_flops + self.head_flops

    @property
    def intensity(self) -> float:
        """FLOPs per byte of memory traffic."""
        return self.flops / self.bytes if self.bytes else 0.0

    @property
    def working_set(self) -> int:
        """Bytes that one stream goes through: what must fit into a cache for its rate to hold."""
        return self.least_bytes // max(1, self.streams)

    def _numbers(self) -> tuple[int, ...]:
        return tuple(vars(self).values())


class Estimate(NamedTuple):
    """Seconds that a step will take; nine of ten steps should lie between low and high."""

    seconds: float
    low: float
    high: float


class Exceeded(NamedTuple):
    """A step that took less time than its floor: a ceiling is too low, and this is the rate that was reached.

    by: floor / seconds. The fields are the arguments of `Machine.raised`, but for `by`.
    """

    by: float
    working_set: int
    bytes_per_second: float
    operations_per_second: float


class CostModel:
    """Counts, bounds and estimates the weight streams of one model, as one executor holds it, on one machine.

    held_bytes: bytes of each tensor by canonical name; a tied model has a `head` of its own only if the
    executor keeps a second copy. arithmetic: the type that is multiplied. overhead: seconds of a step
    besides, for the estimate; None: the machine's. Raises MachineError if the machine has no rate for the
    arithmetic, ModelError if a tensor is missing.
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
    ) -> None:
        machine.compute(arithmetic)
        shapes = config.tensor_shapes()
        missing = [name for name in shapes if name not in held_bytes]
        if missing:
            raise ModelError("cost model", f"bytes of {missing[0]} are not known; every tensor's are needed")
        self.config = config
        self.held_bytes = dict(held_bytes)
        self.kv_itemsize = kv_itemsize
        self.activation_itemsize = activation_itemsize
        self.arithmetic = arithmetic
        self.machine = machine
        if overhead is None:
            overhead = machine.step_overhead + config.layers * machine.layer_overhead
        self.overhead = overhead
        self.calibration = Calibration()
        self._all_windows = Counter(config.windows)
        self._layer_bytes = np.zeros((config.layers, 2), dtype=np.int64)  # (layers, attention or MLP)
        self._layer_flops = np.zeros_like(self._layer_bytes)  # per row
        for name, shape in shapes.items():
            if name.startswith("layers."):
                _, layer, part = name.split(".")
                place = int(layer), int(part in _MLP)
                self._layer_bytes[place] += held_bytes[name]
                self._layer_flops[place] += 2 * shape[0] * shape[1] if len(shape) == 2 else 0
        self._embed_row_bytes = held_bytes["embed"] // config.vocab_size
        self._norm_bytes = held_bytes["final_norm"]
        self._head_bytes = held_bytes.get("head", held_bytes["embed"])
        self._head_is_embedding = "head" not in held_bytes
        self._slot_bytes = 2 * config.kv_heads * config.head_dim * kv_itemsize  # of one layer

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
    ) -> Self:
        """The cost of a model that is not loaded.

        weights: a format's name (`BF16`, `Q4_1`) or bytes per weight. arithmetic: None: bf16, else fp16, else
        fp32, whichever the machine has: weights packed more tightly are multiplied in these.
        """
        if arithmetic is None:
            arithmetic = next((name for name in ("bf16", "fp16", "fp32") if name in machine.peaks), None)
        if arithmetic is None:
            raise MachineError(f"{machine.name} has no rate of floating-point products; name the arithmetic")
        held = {name: _packed_bytes(shape, weights) for name, shape in config.tensor_shapes().items()}
        return cls(config, held, kv_itemsize, activation_itemsize, arithmetic, machine)

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
        )

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors held."""
        return sum(self.held_bytes.values())

    def count(self, shapes: Iterable[QueryShape], sublayers: BoolArray | None = None) -> Cost:
        """Bytes and FLOPs of one weight stream over these queries.

        sublayers: (layers, 2) which attention and MLP sublayers run; None: all.
        """
        config = self.config
        shapes = list(shapes)
        runs = np.ones((config.layers, 2), dtype=np.bool_) if sublayers is None else sublayers
        rows = sum(shape.rows for shape in shapes)
        reads = sum(shape.reads for shape in shapes)
        attention_layers = int(runs[:, 0].sum())
        kv_read = attention = 0
        for window, layers in self._windows(sublayers).items():
            for shape in shapes:
                keys, pairs = shape.seen(window)
                kv_read += layers * keys * self._slot_bytes
                attention += layers * pairs * 4 * config.heads * config.head_dim
        weights = int(self._layer_bytes[runs].sum()) + (self._norm_bytes + self._head_bytes if reads else 0)
        if not (reads and self._head_is_embedding):
            weights += rows * self._embed_row_bytes
        return Cost(
            weight_bytes=weights,
            kv_read_bytes=kv_read,
            kv_write_bytes=rows * attention_layers * self._slot_bytes,
            activation_bytes=self._activations(rows, reads, attention_layers, int(runs[:, 1].sum())),
            matrix_flops=rows * int(self._layer_flops[runs].sum()),
            attention_flops=attention,
            head_flops=reads * 2 * config.vocab_size * config.hidden,
            rows=rows,
            streams=1,
        )

    def count_batch(self, batch: Batch) -> Cost:
        """Bytes and FLOPs of the weight stream that runs `batch`."""
        cost = self.count((QueryShape.of(entry) for entry in batch.entries), batch.sublayers)
        windows = self._windows(batch.sublayers)
        shared = sum(layers * shared_keys(batch.entries, window) for window, layers in windows.items())
        return replace(cost, kv_shared_bytes=shared * self._slot_bytes)

    def memory_seconds(self, cost: Cost) -> float:
        """Least time to read and write the weights and the K/V."""
        return cost.least_bytes / self.machine.bandwidth(cost.working_set)

    def compute_seconds(self, cost: Cost) -> float:
        """Least time to do the products."""
        return cost.flops / self.machine.compute(self.arithmetic)

    def floor(self, cost: Cost) -> float:
        """The least seconds that physics allows; no measurement may beat it."""
        return max(self.memory_seconds(cost), self.compute_seconds(cost))

    def estimate(self, cost: Cost) -> Estimate:
        """The seconds that the streams will take, from what was observed so far; never below the floor."""
        low, middle, high = self.calibration.correction(self.bound(cost), self._rows_per_stream(cost))
        seconds, floor = self._uncorrected(cost), self.floor(cost)
        return Estimate(*(max(floor, seconds * factor) for factor in (middle, low, high)))

    def bound(self, cost: Cost) -> Bound:
        """What takes longest at the machine's ceilings: memory, arithmetic, or the overhead of a step."""
        times: dict[Bound, float] = {
            "memory": self.memory_seconds(cost),
            "compute": self.compute_seconds(cost),
            "overhead": cost.streams * self.overhead,
        }
        return max(times, key=lambda name: times[name])

    def observe(self, cost: Cost, seconds: float) -> Exceeded | None:
        """Learn from a step that took `seconds`; if it beat its floor, says by how much: a ceiling is low."""
        if cost.streams == 0 or seconds <= 0:
            return None
        ratio = seconds / self._uncorrected(cost)
        self.calibration.observe(self.bound(cost), self._rows_per_stream(cost), ratio)
        by = self.floor(cost) / seconds
        if by <= 1 + 1e-9:  # rounding
            return None
        return Exceeded(by, cost.working_set, cost.least_bytes / seconds, cost.flops / seconds)

    def raise_ceilings(self, exceeded: Exceeded) -> Machine:
        """Judge by the rates that were reached from now on; returns the machine, for `remember`."""
        self.machine = self.machine.raised(
            working_set=exceeded.working_set,
            bytes_per_second=exceeded.bytes_per_second,
            arithmetic=self.arithmetic,
            operations_per_second=exceeded.operations_per_second,
        )
        return self.machine

    def ridge(self, cost: Cost) -> float:
        """The intensity, FLOP/byte, from which on these streams would be compute-bound."""
        return self.machine.ridge(self.arithmetic, cost.working_set)

    def _windows(self, sublayers: BoolArray | None) -> Counter[int | None]:
        """How many of the attention sublayers that run have each window."""
        if sublayers is None:
            return self._all_windows
        return Counter(window for window, run in zip(self.config.windows, sublayers[:, 0], strict=True) if run)

    def _uncorrected(self, cost: Cost) -> float:
        """Overhead, plus the longer of traffic and products, at the shares of typical rates reached."""
        machine = self.machine
        memory = cost.bytes / (_REACHED["memory"] * machine.typical_bandwidth(cost.working_set))
        compute = cost.flops / (_REACHED["compute"] * machine.peak(self.arithmetic).median)
        return cost.streams * self.overhead + max(memory, compute)

    def _activations(self, rows: int, reads: int, attention_layers: int, mlp_layers: int) -> int:
        config = self.config
        q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
        attention = attention_layers * (2 * config.hidden + 2 * (q + 2 * kv))
        mlp = mlp_layers * (2 * config.hidden + 3 * config.intermediate)
        head = config.hidden + config.vocab_size
        return (rows * (attention + mlp) + reads * head) * self.activation_itemsize

    @staticmethod
    def _rows_per_stream(cost: Cost) -> int:
        return cost.rows // max(1, cost.streams)


def _packed_bytes(shape: tuple[int, ...], weights: str | float) -> int:
    """Bytes of a tensor; vectors stay in float32 where matrices are packed in blocks, as in GGUF files."""
    elements = int(np.prod(shape))
    if not isinstance(weights, str):
        return round(elements * weights)
    name = weights.upper()
    if name not in FORMATS:
        raise ModelError(weights, f"not a weight format; {did_you_mean(name, FORMATS)}")
    form = FORMATS[name]
    packs = len(shape) > 1 and shape[-1] % form.block == 0
    return (form if form.block == 1 or packs else F32).nbytes(elements)
