"""A batch as tables: which keys each row sees, and which rows attend together."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ridgeway.core.arrays import NO_INTS, BoolArray, IntArray, joined, span
from ridgeway.core.query import Batch, Entry
from ridgeway.core.visibility import Bidirectional, Causal
from ridgeway.kernels.cpu.layout import BLOCK_LONGS, CHUNK, ROW_LONGS, SEGMENT, B, R

_VECTORS_PER_BLOCK = 48  # rows times query heads of a K/V head: their scores and states fill half of the first cache


@dataclass(frozen=True)
class Plan:
    """rows: (rows, ROW_LONGS). blocks: (blocks, BLOCK_LONGS). key_slots, key_positions: (keys,). Slots are told by the
    places they have in the cache.

    segments: how many the longest list of keys has. furthest: highest position of a row. tallest: most rows of a block.
    """

    rows: IntArray
    blocks: IntArray
    key_slots: IntArray
    key_positions: IntArray
    segments: int
    furthest: int
    tallest: int


def rows_per_block(heads: int, kv_heads: int) -> int:
    return max(1, _VECTORS_PER_BLOCK // (heads // kv_heads))


def plan_batch(batch: Batch, block_rows: int, windows: bool, places: Callable[[IntArray], IntArray]) -> Plan:
    """block_rows: most rows of a block. windows: whether any layer has one; else nobody asks for keys' positions.
    places: of slots in the cache.
    """
    tables = np.zeros((batch.rows, ROW_LONGS), dtype=np.int64)
    blocks: list[tuple[int, ...]] = []
    every = places(joined([entry.slots for entry in batch.entries]))
    keys: list[IntArray] = []
    positions: list[IntArray] = []
    first_row = first_key = first_slot = furthest = 0
    for entry in batch.entries:
        own = every[first_slot : first_slot + len(entry.slots)]
        first_slot += len(own)
        count = len(entry.query)
        if count == 1 and not windows and entry.query.context is None:  # by far the most frequent: made quick
            seen, position = entry.cached + 1, entry.query.positions.item()
            furthest = max(furthest, position)
            tables[first_row] = (position, own.item(entry.cached), seen, 0)
            keys.append(own)
            blocks.append((first_row, 1, first_key, seen, seen))
            first_row, first_key = first_row + 1, first_key + seen
            continue
        table = tables[first_row : first_row + count]
        furthest = max(furthest, *entry.query.positions.tolist())
        table[:, R.position] = entry.query.positions
        table[:, R.slot] = own[entry.cached :]
        listed, shared = _list_keys(entry, table, first_key)
        keys.append(own if listed is None else own[listed])
        if windows:
            positions.append(_key_positions(entry) if listed is None else _key_positions(entry)[listed])
        lengths = table[:, R.seen].tolist()
        for start in range(0, count, block_rows):
            several = lengths[start : start + block_rows]
            blocks.append((first_row + start, len(several), first_key, shared, max(several)))
        first_row += count
        first_key += len(keys[-1])
    segments = -(-max(block[B.longest] for block in blocks) // SEGMENT)
    tallest = max(block[B.rows] for block in blocks)
    block_table = np.array(blocks, dtype=np.int64).reshape(-1, BLOCK_LONGS)
    key_positions = np.concatenate(positions) if positions else NO_INTS
    return Plan(tables, block_table, joined(keys), key_positions, segments, furthest, tallest)


def _list_keys(entry: Entry, table: IntArray, first_key: int) -> tuple[IntArray | None, int]:
    """Logical indexes of the entry's keys (None: all, in order), and how many are shared by all rows.

    If every row sees a prefix of the rows, the whole list is shared and rows see more or less of it. Otherwise whole
    chunks of context are, and each row has a list of what follows. Fills in `seen` and `own_start`.
    """
    count = len(entry.query)
    seen = _prefix_lengths(entry)
    if seen is not None and entry.query.context is None:
        table[:, R.seen] = entry.cached + seen
        return None, entry.cached + count
    context = entry.context_slots()
    rows = span(entry.cached, entry.cached + count)
    if seen is not None:
        table[:, R.seen] = len(context) + seen
        return np.concatenate([context, rows]), len(context) + count
    sees = entry.query.visibility.matrix(entry.query.positions)
    shared = len(context) // CHUNK * CHUNK
    rest = len(context) - shared
    sees_own = np.ones((count, rest + count), dtype=np.bool_)  # the keys after the shared ones
    sees_own[:, rest:] = sees
    own = np.concatenate([context[shared:], rows])[sees_own.nonzero()[1]]  # row after row
    lengths = rest + sees.sum(axis=1)
    table[:, R.seen] = shared + lengths
    table[:, R.own_start] = first_key + shared + np.cumsum(lengths) - lengths
    return np.concatenate([context[:shared], own]), shared


def _prefix_lengths(entry: Entry) -> IntArray | None:
    """For each row how many rows it sees, if those are the first ones; else None."""
    visibility = entry.query.visibility
    count = len(entry.query)
    if isinstance(visibility, Causal):
        return span(1, count + 1)
    if isinstance(visibility, Bidirectional):
        return np.full(count, count)
    sees: BoolArray = visibility.matrix(entry.query.positions)
    if not sees[-1].all():  # as in trees: the last row sees itself, so it would see all
        return None
    lengths: IntArray = sees.sum(axis=1)
    if (sees == (span(0, count) < lengths[:, None])).all():
        return lengths
    return None


def _key_positions(entry: Entry) -> IntArray:
    """Absolute position of each logical index: cached slots lie at their positions, rows carry theirs."""
    return np.concatenate([np.arange(entry.cached), entry.query.positions])
