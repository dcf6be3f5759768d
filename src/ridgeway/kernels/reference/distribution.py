"""What a token is drawn from, as whole rows of the vocabulary: for the one acceptance rule that needs it."""

import numpy as np

from ridgeway.core.arrays import BoolArray, DoubleArray, FloatArray
from ridgeway.core.query import Answer, Batch


def with_distributions(answers: tuple[Answer, ...], logits: FloatArray, batch: Batch) -> tuple[Answer, ...]:
    """The answers, with the distributions of those whose readout measures them. logits: (N, vocabulary), unadjusted."""
    if not any("distribution" in entry.query.read.measures for entry in batch.entries):
        return answers
    result, start = [], 0
    for answer, entry in zip(answers, batch.entries, strict=True):
        stop = start + len(entry.query.read)
        if "distribution" in entry.query.read.measures:
            rows = [_row(logits[row], batch, row, entry.query.read.forbid) for row in range(start, stop)]
            answer = answer._replace(distribution=np.stack(rows))
        result.append(answer)
        start = stop
    return tuple(result)


def _row(logits: FloatArray, batch: Batch, row: int, forbid: tuple[int, ...]) -> DoubleArray:
    """The distribution of one row: (vocabulary,). In the order of operations of `selection`."""
    params, values = batch.selection, logits.astype(np.float64)
    change = batch.selection.adjustments.get(row)
    if change is not None:
        few = values[change.ids]
        values[change.ids] = np.where(few > 0, few / change.repetition, few * change.repetition) + change.added
    values[list(forbid)] = -np.inf
    result = np.zeros(len(values))
    temperature = float(params.temperature[row])
    if not params.sampled[row] or temperature == 0:
        result[values.argmax()] = 1.0
        return result
    order = np.argsort(-values, kind="stable")  # likeliest first, ties by id
    share = np.exp((values[order] - values[order[0]]) / temperature)
    kept: BoolArray = share >= params.min_p[row]
    if params.top_k[row]:
        kept[params.top_k[row] :] = False
    share = np.where(kept, share, 0.0)
    share /= share.sum()
    if params.top_p[row] < 1:
        share[np.cumsum(share) - share >= params.top_p[row]] = 0.0
    result[order] = share / share.sum()
    return result
