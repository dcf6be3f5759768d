"""Sampling parameters of many requests as arrays over the read rows of a batch.

Executors choose tokens right where the logits are (see `kernels/reference/selection.py`); what they need to know of
the requests is gathered here: temperatures and thresholds, keys of the noise, and for each row that needs it what
penalties, biases and minimal lengths do to a few ids.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ridgeway.core.arrays import NO_INTS, BoolArray, DoubleArray, IntArray, ints, joined
from ridgeway.core.query import Adjustment, Query, Seeds, Selection
from ridgeway.core.sequence import Sequence

_WIDE = 16  # rows


class _Wishes(NamedTuple):
    """What sequences want of the tokens of each row, wherever it stands: these fields of a `Selection`, in order."""

    temperature: DoubleArray
    top_k: IntArray
    top_p: DoubleArray
    min_p: DoubleArray
    seed: Seeds
    sample: IntArray

    @classmethod
    def of(cls, sequences: list[Sequence], counts: list[int]) -> "_Wishes":
        """counts: read rows of each sequence."""

        def spread(values: list[float]) -> DoubleArray:  # to the read rows of each sequence
            return np.repeat(np.asarray(values, dtype=np.float64), counts)

        params = [sequence.params for sequence in sequences]
        return cls(
            temperature=spread([p.temperature for p in params]),
            top_k=spread([p.top_k for p in params]).astype(np.int64),
            top_p=spread([p.top_p for p in params]),
            min_p=spread([p.min_p for p in params]),
            seed=np.repeat(np.asarray([sequence.seed for sequence in sequences], dtype=np.uint64), counts),
            sample=np.repeat(ints([sequence.sample for sequence in sequences]), counts),
        )

    def first(self, count: int) -> "_Wishes":
        """Those of the first rows."""
        cut: list[Any] = [field[:count] for field in self]
        return _Wishes(*cut)


class Selections:
    """Makes the selections of batches that follow each other.

    While the same sequences read as many rows as the last time, which is nearly always, most of it stays as it was. One
    that runs alone may read fewer or more with every draft: of what is made for `_WIDE` rows it is given the first.
    """

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []
        self._counts: list[int] = []
        self._wishes = _Wishes.of([], [])

    def of(self, asked: Iterable[tuple[Sequence, Query]]) -> Selection:
        """The selection of a batch whose queries are `asked`, in order."""
        pairs = [(sequence, query) for sequence, query in asked if len(query.read)]
        sequences, counts = [sequence for sequence, _ in pairs], [len(query.read) for _, query in pairs]
        alone = len(counts) == 1 and counts[0] <= _WIDE
        wide = [_WIDE] if alone else counts
        if sequences != self._sequences or wide != self._counts:
            self._sequences, self._counts = sequences, wide
            self._wishes = _Wishes.of(sequences, wide)
        wishes = self._wishes.first(counts[0]) if alone else self._wishes
        sampled: list[BoolArray] = [query.read.sampled for _, query in pairs]
        predicts: list[IntArray] = [query.read.predicts for _, query in pairs]
        return Selection(
            joined(sampled or [_NONE_SAMPLED]),
            *wishes,
            joined(predicts or [NO_INTS]),
            _adjustments(pairs),
        )


def selection_of(asked: Iterable[tuple[Sequence, Query]]) -> Selection:
    """The selection of a batch whose queries are `asked`, in order."""
    return Selections().of(asked)


_NONE_SAMPLED: BoolArray = np.zeros(0, dtype=np.bool_)


def plain_selection(reads: int) -> Selection:
    """The selection of rows whose tokens nobody draws."""
    zeros = np.zeros(reads)
    none = np.zeros(reads, dtype=np.int64)
    return Selection(
        sampled=np.zeros(reads, dtype=np.bool_),
        temperature=zeros,
        top_k=none,
        top_p=np.ones(reads),
        min_p=zeros,
        seed=np.zeros(reads, dtype=np.uint64),
        sample=none,
        position=none,
        adjustments={},
    )


def _adjustments(pairs: list[tuple[Sequence, Query]]) -> dict[int, Adjustment]:
    adjustments: dict[int, Adjustment] = {}
    start = 0
    for sequence, query in pairs:
        params = sequence.params
        if params.penalizes or params.logit_bias or params.min_tokens:
            for read, (row, position) in enumerate(zip(query.read.rows, query.read.predicts, strict=True)):
                change = _adjustment(sequence, query, int(row), int(position))
                if change is not None and query.read.sampled[read]:
                    adjustments[start + read] = change
        start += len(query.read)
    return adjustments


def _adjustment(sequence: Sequence, query: Query, row: int, position: int) -> Adjustment | None:
    """What the parameters of `sequence` do to the token at `position`, predicted by `row`."""
    params = sequence.params
    added: defaultdict[int, float] = defaultdict(float)
    repetition: dict[int, float] = {}
    if params.penalizes:
        history = _history(sequence, query, row, position)
        answer = Counter(history[sequence.prompt_length :])
        for token, count in answer.items():
            added[token] -= params.presence_penalty + params.frequency_penalty * count
        if params.repetition_penalty != 1:
            repetition = dict.fromkeys(history, params.repetition_penalty)
    for token, bias in params.logit_bias.items():
        if token < sequence.traits.vocab_size:
            added[token] += bias
    if position - sequence.prompt_length < params.min_tokens:
        for token in (*sequence.traits.end_ids, *params.stop_ids):
            added[token] = -np.inf
    ids = sorted({*added, *repetition})
    if not ids:
        return None
    return Adjustment(
        ids=ints(ids),
        repetition=np.asarray([repetition.get(token, 1.0) for token in ids]),
        added=np.asarray([added.get(token, 0.0) for token in ids]),
    )


def _history(sequence: Sequence, query: Query, row: int, position: int) -> list[int]:
    """The known tokens before `position` on the path of `row`: committed ones, then drafted ones."""
    if position <= sequence.committed:
        return sequence.tokens[:position]
    drafted = []
    while row >= 0:
        known = query.masked is None or not query.masked[row]
        if known and sequence.committed <= query.positions[row] < position:
            drafted.append(int(query.tokens[row]))
        row = int(query.parent[row])
    return sequence.tokens + drafted[::-1]
