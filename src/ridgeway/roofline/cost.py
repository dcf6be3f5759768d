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
  and read (2 (q + 2 kv)), gate and up written and their product read (3 f; 2 f without a gate); per read row the
  hidden state and the logits. They can stay in a cache, so the floor leaves them out.
- FLOPs: 2 per weight of a matrix and row; the head's per read row only; 4 per visible (row, key), head and element of a
  head (scores and mixing). Norms, rotations and softmax are some thousandths and left out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import groupby
from math import log2, prod
from typing import NamedTuple, Self

import numpy as np

from ridgeway.core.arrays import BoolArray
from ridgeway.core.errors import MachineError, ModelError, RequestError
from ridgeway.core.executor import Executor
from ridgeway.core.query import Batch
from ridgeway.models.config import ModelConfig
from ridgeway.roofline.calibration import Calibration, Kind
from ridgeway.roofline.experts import DEFAULT_SKEW, distinct_experts
from ridgeway.roofline.machine import Machine
from ridgeway.roofline.packing import packed_bytes
from ridgeway.roofline.reach import TYPICAL, Parts, Reach
from ridgeway.roofline.shape import QueryShape, attention_flops, shared_keys, slot_elements
from ridgeway.roofline.traffic import Bound, Cost, Estimate, Exceeded

__all__ = ["Bound", "Cost", "CostModel", "Estimate", "Exceeded", "QueryShape"]

_ATTENTION = (
    *("attn_norm", "q", "k", "v", "o", "q_bias", "k_bias", "v_bias", "o_bias", "q_norm", "k_norm"),
    *("attn_norm_bias", "attn_scale"),
    *("q_a", "q_a_norm", "q_b", "kv_a", "kv_a_norm", "kv_b"),
)
_WIDE = ("bf16", "fp16", "fp32")
_VOCABULARY = 128_000  # entries of a row of logits that the fitted law's cost of an answer is stated for
_IMPLAUSIBLE = 3  # times the highest rate seen: rather a clock that jumped than a machine that is faster
_REPEATED = 3  # implausible steps in a row that are believed
_FEW, _MANY = 64, 512  # rows of a stream up to which products are slow, and from which on they are fast


class _Running(NamedTuple):
    """The sublayers that run: how many, their bytes (of the experts' one each), and the FLOPs of a row."""

    attention_layers: int
    mlp_layers: int
    weight_bytes: int
    expert_bytes: int
    row_flops: int


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
        reach: Reach = TYPICAL,
        expert_skew: float = DEFAULT_SKEW,
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
            per_layer = machine.layer_overhead if reach.fitted is None else reach.fitted.layer
            overhead = (machine.step_overhead if reach.fitted is None else 0.0) + config.layers * per_layer
        self.overhead = overhead
        self.reach = reach
        if not expert_skew >= 0:
            raise RequestError(f"skew={expert_skew:g}: expected 0 (uniform) or more")
        self.expert_skew = expert_skew
        self.calibration = Calibration(reach.low, reach.high)
        self._doubted: list[Exceeded] = []  # implausible steps since the last plausible one
        self._all_windows = Counter(config.windows)
        self._layer_bytes = np.zeros((config.layers, 2), dtype=np.int64)  # (layers, attention or MLP)
        self._layer_flops = np.zeros_like(self._layer_bytes)  # per row
        self._routed_flops = 0  # per row, of all layers
        self._expert_bytes = np.zeros(config.layers, dtype=np.int64)  # of one expert
        for name, shape in shapes.items():
            if name.startswith("layers."):
                _, layer, part = name.split(".")
                place = int(layer), int(part not in _ATTENTION)
                if len(shape) == 3:  # an expert per entry
                    assert config.experts is not None
                    self._expert_bytes[int(layer)] += held_bytes[name] // shape[0]
                    routed = 2 * config.experts.active * shape[1] * shape[2]
                    self._layer_flops[place] += routed
                    self._routed_flops += routed
                    continue
                self._layer_bytes[place] += held_bytes[name]
                self._layer_flops[place] += 2 * shape[0] * shape[1] if len(shape) == 2 else 0
        self._whole = self._running(np.ones((config.layers, 2), dtype=np.bool_))
        self._embed_row_bytes = held_bytes["embed"] // config.vocab_size
        beyond = [name for name in shapes if not name.startswith("layers.") and name not in ("embed", "head")]
        self._head_bytes = held_bytes.get("head", held_bytes["embed"]) + sum(held_bytes[name] for name in beyond)
        self._head_is_embedding = "head" not in held_bytes
        self._packed_per_byte = self._packed_weights(shapes) / max(1, self.weight_bytes)
        self.slot_bytes = slot_elements(config) * kv_itemsize

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

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors held."""
        return sum(self.held_bytes.values())

    def count(
        self,
        shapes: Iterable[QueryShape],
        sublayers: BoolArray | None = None,
        experts_touched: float | None = None,
    ) -> Cost:
        """Bytes and FLOPs of one weight stream over these queries.

        sublayers: (layers, 2) which attention and MLP sublayers run; None: all. experts_touched: distinct experts of
        a layer, if an executor counted them; None: as many as the skew says.
        """
        config = self.config
        shapes = list(shapes)
        rows = sum(shape.rows for shape in shapes)
        reads = sum(shape.reads for shape in shapes)
        run = self._whole if sublayers is None else self._running(sublayers)
        alike = [(next(same), 1 + sum(1 for _ in same)) for _, same in groupby(shapes, key=id)]
        kv_read = attention = 0
        for window, layers in self._windows(sublayers).items():
            for shape, times in alike:
                seen = shape.seen(window)
                kv_read += times * layers * seen.keys * self.slot_bytes
                attention += times * layers * attention_flops(config, shape, seen)
        weights = run.weight_bytes + (self._head_bytes if reads else 0)
        if not (reads and self._head_is_embedding):
            weights += rows * self._embed_row_bytes
        spread = 0
        if config.experts is not None and rows:
            active, one = config.experts.active, run.expert_bytes
            touched = experts_touched or distinct_experts(config.experts, rows, self.expert_skew)
            spread = round((touched - active) * one)
            weights += active * one + spread
        return Cost(
            weight_bytes=weights,
            expert_spread_bytes=spread,
            kv_read_bytes=kv_read,
            kv_write_bytes=rows * run.attention_layers * self.slot_bytes,
            activation_bytes=self._activations(rows, reads, run.attention_layers, run.mlp_layers),
            matrix_flops=rows * run.row_flops,
            attention_flops=attention,
            head_flops=reads * 2 * config.vocab_size * config.hidden,
            rows=rows,
            streams=1,
        )

    def _running(self, sublayers: BoolArray) -> _Running:
        attention_layers, mlp_layers = sublayers.sum(axis=0).tolist()
        return _Running(
            attention_layers,
            mlp_layers,
            weight_bytes=int(self._layer_bytes[sublayers].sum()),
            expert_bytes=int(self._expert_bytes[sublayers[:, 1]].sum()),
            row_flops=int(self._layer_flops[sublayers].sum()),
        )

    def count_batch(self, batch: Batch) -> Cost:
        """Bytes and FLOPs of the weight stream that runs `batch`."""
        cost = self.count((QueryShape.of(entry) for entry in batch.entries), batch.sublayers)
        windows = self._windows(batch.sublayers)
        shared = sum(layers * shared_keys(batch.entries, window) for window, layers in windows.items())
        return replace(cost, kv_shared_bytes=shared * self.slot_bytes) if shared else cost

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
        """Seconds of such streams as told by those of that very kind that were observed, and whether this process did,
        or only earlier ones; None if hardly any was.
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

    def _windows(self, sublayers: BoolArray | None) -> Counter[int | None]:
        """How many of the attention sublayers that run have each window."""
        if sublayers is None:
            return self._all_windows
        return Counter(window for window, run in zip(self.config.windows, sublayers[:, 0], strict=True) if run)

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

    def _packed_weights(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Weights that are held in fewer bits than they are multiplied in, and so must be unpacked."""
        if self.arithmetic not in _WIDE:
            return 0
        sizes = {name: prod(shape) for name, shape in shapes.items() if len(shape) > 1}
        return sum(size for name, size in sizes.items() if 8 * self.held_bytes[name] < 16 * size)

    def _activations(self, rows: int, reads: int, attention_layers: int, mlp_layers: int) -> int:
        config = self.config
        q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
        if config.latent is not None:
            q, kv = config.heads * (config.latent.key_dim + config.latent.rope_dim), slot_elements(config) // 2
        experts, width = config.experts, config.intermediate
        if experts is not None:
            width = experts.active * experts.intermediate + experts.shared_intermediate
        attention = attention_layers * (2 * config.hidden + 2 * (q + 2 * kv))
        mlp = mlp_layers * (2 * config.hidden + (3 if config.gated_mlp else 2) * width)
        head = config.hidden + config.vocab_size
        return (rows * (attention + mlp) + reads * head) * self.activation_itemsize

    @staticmethod
    def _rows_per_stream(cost: Cost) -> int:
        return cost.rows // max(1, cost.streams)


def _share_of_many(rows: float) -> float:
    """How far products of so many rows are from slow ones, 0, to fast ones, 1."""
    return min(1.0, max(0.0, log2(max(1.0, rows) / _FEW) / log2(_MANY / _FEW)))
