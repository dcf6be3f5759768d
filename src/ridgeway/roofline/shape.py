"""What the cost of a weight stream depends on in a query: how many rows, how many are read, what they see.

Keys that several rows of one query see are read once for all of them; the products are per row and key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from ridgeway.core.arrays import IntArray, ints
from ridgeway.core.query import Entry, Span
from ridgeway.core.visibility import CAUSAL, Bidirectional, Block, Causal, Visibility
from ridgeway.models.config import ModelConfig


class Seen(NamedTuple):
    """keys: K/V slots that any row sees, its query's rows included. pairs: how many (row, key) meet."""

    keys: int
    pairs: int


@dataclass(frozen=True)
class QueryShape:
    """rows: of the query. cached: slots of its sequence with K/V. reads: rows that meet the head.

    visibility: which rows of the query see which. positions: (rows,) absolute positions, None: those that
    follow the cached ones. context: cached slots that are seen; None: all.
    """

    rows: int
    cached: int = 0
    reads: int = 1
    visibility: Visibility = CAUSAL
    positions: IntArray | None = None
    context: tuple[Span, ...] | None = None

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """The shape of a query in its place in the cache."""
        query = entry.query
        rows, first = len(query), query.positions.item(0)
        # Positions that follow each other need no array: the commonest queries are counted in closed form.
        follows = first == entry.cached and (rows == 1 or bool((np.diff(query.positions) == 1).all()))
        positions = None if follows else query.positions
        return cls(rows, entry.cached, len(query.read), query.visibility, positions, query.context)

    @property
    def follows(self) -> bool:
        """Whether its rows stand right after all that is cached, and see it: counts say everything then."""
        return self.positions is None and self.context is None

    def seen(self, window: int | None = None) -> Seen:
        """What rows see in a layer where they look back `window` positions, their own included; None: all."""
        if window is None:
            context = self._context_length()
            return Seen(context + self.rows, self.rows * context + self._own_pairs())
        if self.positions is None and self.context is None and isinstance(self.visibility, Causal):
            reach = np.minimum(self.cached + 1 + np.arange(self.rows), window)
            oldest = max(0, self.cached + 1 - window)
            return Seen(self.cached + self.rows - oldest, int(reach.sum()))
        if self.positions is None and not self.cached and isinstance(self.visibility, Bidirectional):
            beyond = max(0, self.rows - window)  # rows that cannot look back to the first one
            return Seen(self.rows, self.rows**2 - beyond * (beyond + 1) // 2)
        return self._seen_one_by_one(window)

    def _context_length(self) -> int:
        if self.context is None:
            return self.cached
        return sum(span.stop - span.start for span in self.context)

    def _own_pairs(self) -> int:
        if isinstance(self.visibility, Causal):
            return self.rows * (self.rows + 1) // 2
        if isinstance(self.visibility, Bidirectional):
            return self.rows**2
        if isinstance(self.visibility, Block):
            blocks = self._positions() // self.visibility.size
            return int(np.searchsorted(np.sort(blocks), blocks, side="right").sum())
        return int(self.visibility.matrix(self._positions()).sum())

    def _seen_one_by_one(self, window: int) -> Seen:
        """A window looks back only: a key is seen if it lies less than `window` positions before the row."""
        positions = self._positions()
        spans = ((0, self.cached),) if self.context is None else self.context
        context = np.concatenate([ints([]), *(np.arange(*span) for span in spans)])
        starts = np.searchsorted(context, positions - window, side="right")
        near = positions[:, None] - positions[None, :] < window
        own = self.visibility.matrix(positions) & near
        keys = len(context) - int(starts.min()) + self.rows
        return Seen(keys, int((len(context) - starts).sum() + own.sum()))

    def _positions(self) -> IntArray:
        return self.cached + np.arange(self.rows) if self.positions is None else self.positions


def slot_elements(config: ModelConfig) -> int:
    """Numbers that one layer caches of one token: a key and a value per K/V head, or one compressed vector."""
    if config.latent is not None:
        return config.latent.rank + config.latent.rope_dim
    return 2 * config.kv_heads * config.head_dim


def attention_flops(config: ModelConfig, shape: QueryShape, seen: Seen) -> int:
    """FLOPs of one layer's scores and mixing for one query: 4 per (row, key), head and element of a head.

    Latent attention may work on compressed vectors (longer, but as they are cached) or decompress the cached ones
    first (DeepSeek-V2, section 2.1.2): the cheaper of both is counted. Decompressing a row's own vector costs what
    moving it into the queries does, and is counted with the matrices.
    """
    latent = config.latent
    if latent is None:
        return seen.pairs * 4 * config.heads * config.head_dim
    compressed = 2 * config.heads * (2 * latent.rank + latent.rope_dim)
    plain = 2 * config.heads * (latent.key_dim + latent.rope_dim + latent.value_dim)
    decompress = 2 * latent.rank * config.heads * (latent.key_dim + latent.value_dim)
    return min(seen.pairs * compressed, seen.pairs * plain + (seen.keys - shape.rows) * decompress)


def shared_keys(entries: Sequence[Entry], window: int | None = None) -> int:
    """How many of the cached keys that queries of one batch see are seen by another of them before it.

    Samples of one request and requests with a common prefix share slots; a cache may then serve the second
    reader.
    """
    firsts = [entry.slots.item(0) for entry in entries if entry.cached]
    if len(set(firsts)) == len(firsts):  # slots are shared from a sequence's beginning on, or not at all
        return 0
    seen = [_context_in_memory(entry, window) for entry in entries]
    marks = np.zeros(max(int(slots.max(initial=0)) for slots in seen) + 1, dtype=np.bool_)
    for slots in seen:
        marks[slots] = True
    return sum(len(slots) for slots in seen) - int(marks.sum())


def _context_in_memory(entry: Entry, window: int | None) -> IntArray:
    """Physical slots of the cached keys that the query's rows see."""
    context = entry.context_slots()
    if window is not None:
        context = context[context > entry.query.positions.min() - window]
    return entry.slots[context]
