"""Weight streams that a drafter runs on its own, behind the K/V of a sequence.

A fork shares all whole pages of the sequence and has a copy of the last one, so it can write without disturbing
anything; when the drafter is done, its pages go back. Every stream is counted.
"""

from collections.abc import Sequence as Sequences
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType

import numpy as np

from ridgeway.cache.pages import PagedCache, PageTable
from ridgeway.core.arrays import BoolArray
from ridgeway.core.errors import OutOfPagesError
from ridgeway.core.executor import Executor
from ridgeway.core.method import View
from ridgeway.core.query import Answer, Batch, Entry, Query
from ridgeway.core.sequence import Sequence
from ridgeway.engine.request import Running
from ridgeway.engine.sampling import selection_of


@dataclass
class Fork:
    """A sequence's K/V with room to go on. tokens: of the sequence, then the drafter's own; cached: with K/V."""

    sequence: Sequence
    table: PageTable
    tokens: list[int]
    cached: int


class EngineStreams:
    """The `Streams` of one round of drafting; a context manager that gives all forks' pages back."""

    def __init__(self, executor: Executor, cache: PagedCache, running: Sequences[Running]) -> None:
        self._executor = executor
        self._cache = cache
        self._tables = {entry.sequence.key: entry.table for entry in running}
        self._forks: list[Fork] = []
        self.streams: list[tuple[Batch, float]] = []  # each stream and its seconds

    def __enter__(self) -> "EngineStreams":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for fork in self._forks:
            self._cache.release(fork.table)
        self._forks.clear()

    def fork(self, sequence: Sequence) -> Fork:
        """A view of `sequence` that can be written to. Raises OutOfPagesError."""
        source, size = self._tables[sequence.key], self._cache.page_size
        whole = sequence.cached // size
        table = PageTable(scope=source.scope, pages=source.pages[:whole])
        for page in table.pages:
            self._cache.pool.hold(page)
        fork = Fork(sequence, table, list(sequence.tokens), sequence.cached)
        self._forks.append(fork)
        if not self._cache.reserve(table, sequence.cached + 1):
            raise OutOfPagesError("no page is left for a draft's own K/V")
        if sequence.cached % size:
            rest = slice(whole * size, sequence.cached)
            theirs = self._cache.slots(source, sequence.cached)[rest]
            self._executor.move(theirs, self._cache.slots(table, sequence.cached)[rest])
        return fork

    def forward(
        self, views: Sequences[View], queries: Sequences[Query], sublayers: BoolArray | None = None
    ) -> list[Answer]:
        """One weight stream over the forks. A query that continues its fork's cached tokens becomes cached itself."""
        forks = [view for view in views if isinstance(view, Fork)]
        assert len(forks) == len(queries), "views come from fork()"
        for fork, query in zip(forks, queries, strict=True):
            if not self._cache.reserve(fork.table, fork.cached + len(query)):
                raise OutOfPagesError("no page is left for a draft's own K/V")
        entries = tuple(
            Entry(query, fork.cached, self._cache.slots(fork.table, fork.cached + len(query)))
            for fork, query in zip(forks, queries, strict=True)
        )
        asked = ((fork.sequence, query) for fork, query in zip(forks, queries, strict=True))
        batch = Batch(entries, selection_of(asked), sublayers)
        start = perf_counter()
        answers = self._executor.forward(batch).answers
        self.streams.append((batch, perf_counter() - start))
        for fork, query in zip(forks, queries, strict=True):
            follows = fork.cached + np.arange(len(query))
            if (query.positions == follows).all() and query.visibility.key == "causal":
                fork.cached += len(query)
        return list(answers)
