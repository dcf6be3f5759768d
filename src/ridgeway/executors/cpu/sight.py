"""What a draft head sees of the text so far: attention to the K/V of one of the model's layers.

It is that of a weight stream, so the tables are those of a stream, with rows, queries and results of the head's.
"""

from collections.abc import Callable

import numpy as np

from ridgeway.core.arrays import AnyArray, IntArray
from ridgeway.core.drafting import Unrolling
from ridgeway.kernels.cpu.layout import BLOCK_LONGS, ROW_LONGS, SEGMENT, B, L, R, S
from ridgeway.kernels.cpu.residence import aligned

_FLOAT = 4


class Sight:
    """step, layer: tables of the stream's; what differs is put into copies. token_bytes: of a token's K/V in the layer.
    reach: makes the table of rotary angles long enough for a position.
    """

    def __init__(self, step: IntArray, layer: IntArray, token_bytes: int, reach: Callable[[int], None]) -> None:
        self._streams_step, self._streams_layer = step, layer
        self.token_bytes = token_bytes
        self._reach = reach
        self.step, self.layer = step.copy(), layer.copy()
        self._kept: list[AnyArray] = []
        self._query: AnyArray | None = None

    def prepare(self, asked: Unrolling, most_rows: int, mixed: tuple[int, int], packed: tuple[int, int]) -> None:
        """Fills in the tables for `asked`, of at most `most_rows` sequences.

        mixed: where the first row's result goes, and how many floats further that of the next. packed: likewise of what
        is quantized of it, in bytes.
        """
        self._reach(int(asked.positions.max()) + asked.depth)
        step, layer = self.step, self.layer
        step[:], layer[:] = self._streams_step, self._streams_layer
        layer[L.window] = 0  # it sees all of the text
        if self._query is None:
            self._query = aligned(most_rows, int(step[S.heads] * step[S.kv_width]) * _FLOAT)
        counts = np.array([len(slots) for slots in asked.seen], dtype=np.int64)
        rows = np.zeros((len(counts), ROW_LONGS), dtype=np.int64)
        rows[:, R.position], rows[:, R.seen] = asked.positions - 1, counts
        blocks = np.zeros((len(counts), BLOCK_LONGS), dtype=np.int64)
        blocks[:, B.first_row], blocks[:, B.rows] = np.arange(len(counts)), 1
        blocks[:, B.shared_start] = np.cumsum(counts) - counts
        blocks[:, B.shared_count] = blocks[:, B.longest] = counts
        slots = np.concatenate(asked.seen)
        self._kept = [rows, blocks, slots]
        step[S.row_table], step[S.block_table], step[S.key_slots] = (array.ctypes.data for array in self._kept)
        step[S.rows] = step[S.blocks] = len(counts)
        step[S.segments], step[S.splits] = -(-int(counts.max()) // SEGMENT), 0
        step[S.query] = self._query.ctypes.data
        step[S.mixed], step[S.mixed_stride] = mixed
        step[S.packed], step[S.packed_bytes] = packed
