"""What a draft head sees of the text so far: attention to the K/V of one of the model's layers.

It is that of a weight stream, so the tables are those of a stream, with rows, queries and results of the head's.
"""

from collections.abc import Callable

import numpy as np

from ridgeway.core.arrays import IntArray, ints, joined
from ridgeway.core.drafting import Unrolling
from ridgeway.executors.cpu.cache import PagedCache
from ridgeway.kernels.cpu.layout import BLOCK_LONGS, ROW_LONGS, SEGMENT, B, L, S
from ridgeway.kernels.cpu.residence import aligned

_FLOAT = 4
_GROWING = (S.cosines, S.sines)  # tables of the stream's that are made anew as they grow


class Sight:
    """step, layer: tables of the stream's; what differs is put into copies. cache: the stream's K/V. reach: makes the
    table of rotary angles long enough for a position. token_bytes: of a token's K/V in the layer.
    """

    def __init__(self, step: IntArray, layer: IntArray, cache: PagedCache, reach: Callable[[int], None]) -> None:
        self._streams_step, self._streams_layer = step, layer
        self._places, self.token_bytes = cache.places, cache.layer_bytes
        self._reach = reach
        self.step, self.layer = step.copy(), layer.copy()

    def begin(self, most_rows: int, mixed: tuple[int, int], packed: tuple[int, int]) -> None:
        """Makes room for `most_rows` sequences.

        mixed: where the first row's result goes, and how many floats further that of the next. packed: likewise of what
        is quantized of it, in bytes.
        """
        step = self._streams_step
        self._query = aligned(most_rows, int(step[S.heads] * step[S.kv_width]) * _FLOAT)
        self._rows = np.zeros((most_rows, ROW_LONGS), dtype=np.int64)
        self._blocks = np.zeros((most_rows, BLOCK_LONGS), dtype=np.int64)
        self._blocks[:, B.first_row], self._blocks[:, B.rows] = np.arange(most_rows), 1
        fields = (S.query, S.row_table, S.block_table, S.mixed, S.mixed_stride, S.packed, S.packed_bytes)
        arrays = [array.ctypes.data for array in (self._query, self._rows, self._blocks)]
        self.step[ints(fields)] = ints([*arrays, *mixed, *packed])

    def prepare(self, asked: Unrolling) -> None:
        """Fills in the tables for `asked`."""
        step, layer, positions = self.step, self.layer, asked.positions.tolist()
        self._reach(max(positions) + asked.depth)
        layer[:] = self._streams_layer
        layer[L.window] = 0  # it sees all of the text
        for field in _GROWING:
            step[field] = self._streams_step[field]
        self._slots = self._places(joined(list(asked.seen)))
        counts = [len(slots) for slots in asked.seen]
        first = 0
        for row, (seen, position) in enumerate(zip(counts, positions, strict=True)):
            self._rows[row] = (position - 1, 0, seen, 0)
            self._blocks[row, B.shared_start :] = (first, seen, seen)
            first += seen
        step[S.key_slots] = self._slots.ctypes.data
        step[S.segments] = -(-max(counts) // SEGMENT)
