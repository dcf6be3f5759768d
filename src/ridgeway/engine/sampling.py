"""Sampling parameters of many requests as arrays over the read rows of a batch.

Executors choose tokens right where the logits are (see `kernels/reference/selection.py`); what they need to know of
the requests is gathered here: temperatures and thresholds, keys of the noise, and for each row that needs it what
penalties, biases and minimal lengths do to a few ids.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from ridgeway.core.arrays import DoubleArray, ints
from ridgeway.core.query import Adjustment, Query, Selection
from ridgeway.core.sequence import Sequence


def selection_of(asked: Iterable[tuple[Sequence, Query]]) -> Selection:
    """The selection of a batch whose queries are `asked`, in order."""
    pairs = [(sequence, query) for sequence, query in asked if len(query.read)]
    counts = [len(query.read) for _, query in pairs]

    def spread(values: list[float]) -> DoubleArray:  # to the read rows of each sequence
        return np.repeat(np.asarray(values, dtype=np.float64), counts)

    params = [sequence.params for sequence, _ in pairs]
    return Selection(
        sampled=np.concatenate([np.zeros(0, dtype=np.bool_), *(query.read.sampled for _, query in pairs)]),
        temperature=spread([p.temperature for p in params]),
        top_k=spread([p.top_k for p in params]).astype(np.int64),
        top_p=spread([p.top_p for p in params]),
        min_p=spread([p.min_p for p in params]),
        seed=np.repeat(np.asarray([sequence.seed for sequence, _ in pairs], dtype=np.uint64), counts),
        sample=np.repeat(ints([sequence.sample for sequence, _ in pairs]), counts),
        position=np.concatenate([ints([]), *(query.read.predicts for _, query in pairs)]),
        adjustments=_adjustments(pairs),
    )


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
