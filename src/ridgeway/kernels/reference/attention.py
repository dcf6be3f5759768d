"""Attention of one query's rows over the paged cache.

K/V of the query's own rows are in the cache already when this runs. Each row attends to a list of keys in logical
order: the cached slots of the query's context, then the rows that it sees. The list is cut into chunks of a fixed size
that are combined with an online softmax (Milakov and Gimelshein 2018) in order. A chunk's shape and place never depend
on how many rows the query has or on how the prompt was cut, so neither do the bits of the result.
"""

from collections.abc import Callable

import numpy as np

from ridgeway.core.arrays import BoolArray, FloatArray, IntArray
from ridgeway.core.query import Entry

CHUNK = 64
_LOWEST = np.finfo(np.float32).min

Rounding = Callable[[FloatArray], FloatArray]


def exactly(numbers: FloatArray) -> FloatArray:
    """No rounding."""
    return numbers


def attend(
    q: FloatArray,
    keys: FloatArray,
    values: FloatArray,
    entry: Entry,
    sees: BoolArray,
    window: int | None,
    rounded: Rounding = exactly,
) -> FloatArray:
    """q: (R, heads, head_dim), scaled. keys, values: (slots, kv_heads, head_dim), the whole pool.

    sees: (R, R), the query's visibility. window: how many positions back a row sees, itself included; None: all.
    rounded: what happens to queries and weights before they meet keys and values. Returns (R, heads, head_dim).
    """
    q = rounded(q)
    rows, heads, head_dim = q.shape
    kv_heads = keys.shape[1]
    grouped = np.ascontiguousarray(q.reshape(rows, kv_heads, heads // kv_heads, head_dim))
    indexes, lengths = _key_lists(entry, sees)  # (R or 1, T), (R,)
    positions = _key_positions(entry)
    peak = np.full((rows, kv_heads, heads // kv_heads, 1), _LOWEST, dtype=np.float32)
    mass = np.zeros_like(peak)
    mixed = np.zeros_like(grouped)
    for start in range(0, indexes.shape[1], CHUNK):
        index = indexes[:, start : start + CHUNK]  # (R or 1, CHUNK)
        visible = np.arange(start, start + CHUNK)[None, :] < lengths[:, None]  # (R, CHUNK)
        if window is not None:
            visible = visible & (entry.query.positions[:, None] - positions[index] < window)
        if not visible.any():
            continue
        slots = entry.slots[index]
        k = keys[slots].transpose(0, 2, 3, 1)  # (R or 1, kv_heads, head_dim, CHUNK)
        v = values[slots].transpose(0, 2, 1, 3)  # (R or 1, kv_heads, CHUNK, head_dim)
        scores = np.where(visible[:, None, None, :], np.matmul(grouped, k), -np.inf)
        new_peak = np.maximum(peak, scores.max(axis=-1, keepdims=True))
        weights = np.exp(scores - new_peak)
        shrink = np.exp(peak - new_peak)
        mass = mass * shrink + weights.sum(axis=-1, keepdims=True)
        mixed = mixed * shrink + np.matmul(rounded(weights), np.ascontiguousarray(v))
        peak = new_peak
    return np.asarray((mixed / mass).reshape(rows, heads, head_dim), dtype=np.float32)


def _key_lists(entry: Entry, sees: BoolArray) -> tuple[IntArray, IntArray]:
    """For each row the logical indexes of its keys, padded to whole chunks, and how many there are.

    If every row sees a prefix of the rows (causal, bidirectional, blocks), one list serves all of them.
    """
    context = entry.context_slots()
    rows = len(sees)
    counts = sees.sum(axis=1)
    lengths = (len(context) + counts).astype(np.int64)
    padded = -(-int(lengths.max()) // CHUNK) * CHUNK
    if (sees == (np.arange(rows)[None, :] < counts[:, None])).all():
        shared = np.zeros((1, padded), dtype=np.int64)
        shared[0, : len(context)] = context
        shared[0, len(context) : len(context) + counts.max()] = entry.cached + np.arange(counts.max())
        return shared, lengths
    lists = np.zeros((rows, padded), dtype=np.int64)
    lists[:, : len(context)] = context
    for row in range(rows):
        seen = np.flatnonzero(sees[row])
        lists[row, len(context) : len(context) + len(seen)] = entry.cached + seen
    return lists, lengths


def _key_positions(entry: Entry) -> IntArray:
    """Absolute position of each logical slot: cached slots lie at their positions, rows carry theirs."""
    return np.concatenate([np.arange(entry.cached, dtype=np.int64), entry.query.positions])
