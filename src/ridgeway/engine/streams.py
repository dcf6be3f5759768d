"""Weight streams that a drafter runs on its own, behind the K/V of a sequence.

A fork in the target's cache shares all whole pages of the sequence and has a copy of the last one, so it can write
without disturbing anything; when the drafter is done, its pages go back. A draft model has pages of its own. Every
stream is counted, by the cost model of the model that ran it.
"""

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Sequences
from time import perf_counter
from types import TracebackType
from typing import NamedTuple

import numpy as np

from ridgeway.cache.pages import PageTable
from ridgeway.core.arrays import NO_INTS, BoolArray, FloatArray, ints
from ridgeway.core.drafting import Guessed, Unroller, Unrolling
from ridgeway.core.errors import MethodError
from ridgeway.core.method import View
from ridgeway.core.query import Answer, Batch, Entry, Query
from ridgeway.core.sequence import Sequence
from ridgeway.engine.draft_models import DraftModel, Fork, Weights
from ridgeway.engine.request import Running
from ridgeway.engine.sampling import selection_of
from ridgeway.roofline.traffic import Cost


class DraftStream(NamedTuple):
    """A weight stream that a drafter ran."""

    model: Weights
    batch: Batch
    seconds: float


class HeadWork(NamedTuple):
    """Work of the draft head, which a drafter asked for. seen: tokens whose K/V each of its `steps` reads."""

    head: Unroller
    steps: int
    sequences: int
    seen: int
    seconds: float

    @property
    def cost(self) -> Cost:
        return Cost(
            weight_bytes=self.steps * self.head.held_bytes,
            kv_read_bytes=self.steps * self.head.seen_bytes * self.seen,
            matrix_flops=self.steps * self.sequences * self.head.operations,
        )


class EngineStreams:
    """The `Streams` of one round of drafting; a context manager that gives back the pages of all forks.

    target: the model that verifies. models: those that only draft, by name. price, certain: see
    `core.method.Streams`. unroller: the target's draft head, None if it has none.
    """

    def __init__(
        self,
        target: Weights,
        models: Mapping[str, DraftModel],
        running: Sequences[Running],
        price: Callable[[int], float],
        certain: int,
        unroller: Unroller | None = None,
    ) -> None:
        self._target = target
        self._models = models
        self._tables = {entry.sequence.key: entry.table for entry in running}
        self._price = price
        self.certain = certain
        self._unroller = unroller
        self._forks: list[Fork] = []
        for model in models.values():
            model.begin_round()
        self.streams: list[DraftStream] = []
        self.unrolled: list[HeadWork] = []

    def __enter__(self) -> "EngineStreams":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for fork in self._forks:
            self._target.cache.release(fork.table)
        self._forks.clear()

    def price(self, drafted: int) -> float:
        return self._price(drafted)

    def fork(self, sequence: Sequence, model: str | None = None, drafts: int = 1) -> Fork:
        """A view of `sequence` that can be written to. Raises OutOfPagesError, MethodError."""
        slots = sequence.committed + drafts
        if model is not None:
            if model not in self._models:
                raise MethodError(f"there is no draft model {model!r} here; LLM.add_draft_model adds one")
            return self._models[model].view(sequence, slots)
        cache, source = self._target.cache, self._tables[sequence.key]
        whole = sequence.cached // cache.page_size
        table = PageTable(scope=source.scope, pages=source.pages[:whole])
        for page in table.pages:
            cache.pool.hold(page)
        fork = Fork(self._target, sequence, table, list(sequence.tokens), sequence.cached)
        self._forks.append(fork)
        fork.reserve(slots)
        if sequence.cached % cache.page_size:
            rest = slice(whole * cache.page_size, sequence.cached)
            theirs = cache.slots(source, sequence.cached)[rest]
            self._target.executor.move(theirs, cache.slots(table, sequence.cached)[rest])
        return fork

    def unroll(self, sequences: Sequences[Sequence], hidden: FloatArray, depth: int, least: float = 0.0) -> Guessed:
        """See `core.method.Streams`."""
        head = self._unroller
        if head is None:
            raise MethodError("this model has no draft head: `ridgeway train` makes one")
        cache, seen = self._target.cache, (NO_INTS,) * len(sequences)
        if head.seen_bytes:
            if any(sequence.pending != 1 for sequence in sequences):
                raise MethodError("this draft head looks at the K/V of all tokens before the newest; some are missing")
            seen = tuple(cache.slots(self._tables[sequence.key], sequence.cached) for sequence in sequences)
        asked = Unrolling(
            hidden=hidden,
            tokens=ints([sequence.tokens[-1] for sequence in sequences]),
            positions=ints([sequence.committed for sequence in sequences]),
            temperature=np.array([sequence.params.temperature for sequence in sequences]),
            seed=np.array([sequence.seed for sequence in sequences], dtype=np.uint64),
            sample=ints([sequence.sample for sequence in sequences]),
            seen=seen,
            depth=depth,
            least=least,
        )
        start = perf_counter()
        guessed = head.unroll(asked)
        seconds = perf_counter() - start
        cached = sum(sequence.cached for sequence in sequences)
        self.unrolled.append(HeadWork(head, guessed.steps, len(sequences), cached, seconds))
        return guessed

    def forward(
        self, views: Sequences[View], queries: Sequences[Query], sublayers: BoolArray | None = None
    ) -> list[Answer]:
        """One weight stream over the forks. A query that continues its fork's cached tokens becomes cached itself."""
        forks = [view for view in views if isinstance(view, Fork)]
        assert len(forks) == len(queries), "views come from fork()"
        model = forks[0].model
        assert all(fork.model is model for fork in forks), "one weight stream is of one model"
        for fork, query in zip(forks, queries, strict=True):
            fork.reserve(fork.cached + len(query))
        entries = tuple(
            Entry(query, fork.cached, model.cache.slots(fork.table, fork.cached + len(query)))
            for fork, query in zip(forks, queries, strict=True)
        )
        asked = ((fork.sequence, query) for fork, query in zip(forks, queries, strict=True))
        batch = Batch(entries, selection_of(asked), sublayers)
        start = perf_counter()
        answers = model.executor.forward(batch).answers
        self.streams.append(DraftStream(model, batch, perf_counter() - start))
        for fork, query in zip(forks, queries, strict=True):
            follows = fork.cached + np.arange(len(query))
            if (query.positions == follows).all() and query.visibility.key == "causal":
                fork.cached += len(query)
        return list(answers)
