"""Hidden states for whoever asks: the residual stream behind the last layer, of the rows that are read."""

from collections.abc import Callable

import numpy as np

from ridgeway.core.arrays import FloatArray, IntArray, span
from ridgeway.core.query import Answer, Batch


def with_hidden(
    answers: tuple[Answer, ...], batch: Batch, take: Callable[[IntArray], FloatArray]
) -> tuple[Answer, ...]:
    """The answers, with the hidden states of those whose readout measures them.

    take: numbers of read rows in the batch's order, (n,), to their residual stream, (n, hidden), as a copy.
    """
    if not any("hidden" in entry.query.read.measures for entry in batch.entries):
        return answers
    wanted = ["hidden" in entry.query.read.measures for entry in batch.entries]
    lengths = [len(entry.query.read) for entry in batch.entries]
    reads = span(0, sum(lengths))
    if not all(wanted):
        reads = reads[np.repeat(wanted, lengths)]
    hidden = np.asarray(take(reads), dtype=np.float32)
    result, start = [], 0
    for answer, wants, length in zip(answers, wanted, lengths, strict=True):
        if wants:
            answer = answer._replace(hidden=hidden[start : start + length])
            start += length
        result.append(answer)
    return tuple(result)
