"""Hidden states for whoever asks: the residual stream behind the last layer, of the rows that are read."""

from collections.abc import Callable
from dataclasses import replace

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
    result, first = [], 0
    for answer, entry in zip(answers, batch.entries, strict=True):
        if "hidden" in entry.query.read.measures:
            answer = replace(answer, hidden=np.asarray(take(first + entry.query.read.rows), dtype=np.float32))
        result.append(answer)
        first += len(entry.query)
    return tuple(result)
