"""Hidden states for whoever asks: the residual stream behind the last layer, of the rows that are read."""

from collections.abc import Callable

import numpy as np

from ridgeway.core.arrays import FloatArray, IntArray
from ridgeway.core.query import Answer, Batch


def with_hidden(
    answers: tuple[Answer, ...], batch: Batch, take: Callable[[IntArray], FloatArray]
) -> tuple[Answer, ...]:
    """The answers, with the hidden states of those whose readout measures them.

    take: rows of the batch, (n,), to their residual stream, (n, hidden), as a copy.
    """
    if not any("hidden" in entry.query.read.measures for entry in batch.entries):
        return answers
    wanted = ["hidden" in entry.query.read.measures for entry in batch.entries]
    lengths = [len(entry.query.read) for entry in batch.entries]
    rows = batch.read_rows
    if not all(wanted):
        rows = rows[np.repeat(wanted, lengths)]
    hidden = np.asarray(take(rows), dtype=np.float32)
    result, start = [], 0
    for answer, wants, length in zip(answers, wanted, lengths, strict=True):
        if wants:
            answer = answer._replace(hidden=hidden[start : start + length])
            start += length
        result.append(answer)
    return tuple(result)
