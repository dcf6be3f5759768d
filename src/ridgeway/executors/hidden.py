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
    hidden = np.asarray(take(batch.read_rows), dtype=np.float32)
    result, start = [], 0
    for answer, entry in zip(answers, batch.entries, strict=True):
        stop = start + len(entry.query.read)
        if "hidden" in entry.query.read.measures:
            answer = answer._replace(hidden=hidden[start:stop])
        result.append(answer)
        start = stop
    return tuple(result)
