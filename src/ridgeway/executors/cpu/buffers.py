"""Memory of a step, made once and kept: activations by rows, logits by read rows, scratch by threads."""

from typing import Any

import numpy as np

from ridgeway.core.arrays import DoubleArray, FloatArray, IntArray
from ridgeway.executors.cpu.weights import padded
from ridgeway.kernels.cpu.layout import CHUNK, HEAD_UNIT, LANES, ORDER_BYTES, STEP_LONGS, UNIT_FLOATS, S
from ridgeway.kernels.cpu.residence import aligned
from ridgeway.kernels.cpu.tiles import GROUP, GROUP_BYTES, OUTPUTS
from ridgeway.models.config import ModelConfig

_FLOAT = 4
_LINE = 64


def _packed_floats(width: int) -> int:
    return padded(width, GROUP) // GROUP * GROUP_BYTES // _FLOAT


def _staggered(floats: int) -> int:
    """A row's length of at least `floats`: an odd number of cache lines.

    Rows at a distance of a power of two would all fall into the same few places of the first-level cache.
    """
    lines = -(-floats * _FLOAT // _LINE)
    return (lines | 1) * _LINE // _FLOAT


class Buffers:
    """Owns the step table, at `address`, and what it points to.

    x: (rows, padded hidden). logits, units, bests: see `StepFields`.
    """

    def __init__(self, config: ModelConfig, threads: int, vectors_per_block: int) -> None:
        self._config = config
        self._threads = threads
        self._kept: dict[str, Any] = {}
        self._tables: dict[int, IntArray] = {}
        self.step: IntArray = np.zeros(STEP_LONGS, dtype=np.int64)
        self.address: int = self.step.ctypes.data
        width = padded(config.head_dim, 2 * LANES)
        attention = config.heads * config.head_dim
        self.kv_width = width
        self.x: FloatArray = np.zeros((0, 0), dtype=np.float32)
        self.logits: FloatArray = np.zeros((0, 0), dtype=np.float32)
        units = -(-padded(config.vocab_size) // (HEAD_UNIT * OUTPUTS))
        self.units: FloatArray = np.zeros((0, units, UNIT_FLOATS), dtype=np.float32)
        self.bests: DoubleArray = np.zeros((0, 2))
        heads, gates = config.heads * config.head_dim, padded(config.intermediate)
        projections = padded(heads) + 2 * padded(config.kv_heads * config.head_dim)
        step = self.step
        step[S.x_stride] = _staggered(config.hidden)
        step[S.normed_stride] = _staggered(padded(config.hidden, GROUP))
        step[S.packed_bytes] = _FLOAT * _staggered(_packed_floats(max(config.hidden, attention)))
        step[S.product_stride] = _staggered(max(projections, 2 * gates, config.hidden))
        step[S.mixed_stride] = _staggered(padded(attention, GROUP))
        step[S.gated_stride] = _staggered(padded(config.intermediate, GROUP))
        step[S.gated_packed_bytes] = _FLOAT * _staggered(_packed_floats(config.intermediate))
        step[S.logits_stride] = _staggered(config.vocab_size)
        attending = ORDER_BYTES + _FLOAT * (CHUNK * width // 2 + vectors_per_block * (CHUNK + 2 * (LANES + width) + 1))
        norming = _FLOAT * int(step[S.normed_stride]) + int(step[S.packed_bytes])
        step[S.scratch_bytes] = padded(max(attending, norming), _LINE)
        step[S.scratch] = self._keep("scratch", threads * int(step[S.scratch_bytes]))
        self._row_bytes = {
            "x": _FLOAT * step[S.x_stride],
            "normed": _FLOAT * step[S.normed_stride],
            "packed": step[S.packed_bytes],
            "product": _FLOAT * step[S.product_stride],
            "query": _FLOAT * config.heads * width,
            "mixed": _FLOAT * step[S.mixed_stride],
            "gated": _FLOAT * step[S.gated_stride],
            "gated_packed": step[S.gated_packed_bytes],
        }

    def fit(self, rows: int, reads: int, partials: int) -> None:
        """Room for a batch; partials: states of attention segments."""
        rows = max(rows, reads)  # rows that are read are normed side by side, and one may be read more than once
        if rows > len(self.x):
            capacity = _grown(rows)
            for name, size in self._row_bytes.items():
                self.step[getattr(S, name)] = self._keep(name, capacity * int(size))
            self.x = self._kept["x"].view(np.float32).reshape(capacity, -1)
        if reads > len(self.logits):
            capacity = _grown(reads)
            self.step[S.logits] = self._keep("logits", capacity * _FLOAT * int(self.step[S.logits_stride]))
            self.logits = self._kept["logits"].view(np.float32).reshape(capacity, -1)
            shape = (capacity, *self.units.shape[1:])
            self.step[S.units] = self._keep("units", _FLOAT * int(np.prod(shape)))
            self.units = self._kept["units"].view(np.float32).reshape(shape)
            self.step[S.bests] = self._keep("bests", capacity * 16)
            self.bests = self._kept["bests"].view(np.float64).reshape(capacity, 2)
        size = partials * _FLOAT * (LANES + self.kv_width)
        if size > len(self._kept.get("partials", ())):
            self.step[S.partials] = self._keep("partials", _grown(size))

    def put(self, place: int, table: IntArray) -> None:
        """Copies a table of the batch to where the step table's entry `place` points; any shape, row by row."""
        flat = table.reshape(-1)
        kept = self._tables.get(place)
        if kept is None or len(kept) < len(flat):
            kept = self._tables[place] = np.empty(_grown(len(flat)), dtype=np.int64)
            self.step[place] = kept.ctypes.data
        kept[: len(flat)] = flat

    def _keep(self, name: str, size: int) -> int:
        self._kept[name] = aligned(size)
        address: int = self._kept[name].ctypes.data
        return address


def _grown(count: int) -> int:
    """A power of two that holds `count`: buffers grow a few times and then stay."""
    return 1 << max(0, count - 1).bit_length()
