"""What a readout asks for, out of what the stream found in the logits while they were in the cache.

Probabilities need each row's best logit and mass, which come in pieces of 512 tokens; the vocabulary is touched again
only for what cannot be known in one pass: ranks, the top k, and whole rows of logits.
"""

from typing import Any

import numpy as np

from ridgeway.core.arrays import DoubleArray, FloatArray, IntArray, ints
from ridgeway.core.query import Answer, Readout
from ridgeway.kernels.cpu.layout import HEAD_UNIT, U
from ridgeway.kernels.cpu.tiles import OUTPUTS

UNIT_TOKENS = HEAD_UNIT * OUTPUTS
_NO_MASSES = {"logits", "hidden"}
_ONLY_HIDDEN = {"hidden"}


class RowSums:
    """Rows' best logits and masses, out of `bests` (N, 2) and `units` (N, units, UNIT_FLOATS), which the next stream
    overwrites.

    best, best_id: (N,). log_mass: (N,), log of the sum of exp(logit - best). second: (N,) the second best logit.
    entropy: (N,). All but the first two exist only once `measured`.
    """

    def __init__(self, bests: DoubleArray, units: FloatArray) -> None:
        self.best: DoubleArray = bests[:, 0]
        self.best_id: IntArray = bests[:, 1].astype(np.int64)
        self.measured = False
        self._units = units

    def measure(self) -> None:
        """Computes what needs the masses, which the stream must have measured."""
        self.measured = True
        units = self._units.astype(np.float64)
        below = units[:, :, U.best] - self.best[:, None]
        share = np.exp(below)
        mass = (share * units[:, :, U.mass]).sum(axis=1)
        surprise = (share * (units[:, :, U.surprise] + units[:, :, U.mass] * below)).sum(axis=1)
        self.log_mass: DoubleArray = np.log(mass)
        self.entropy: DoubleArray = self.log_mass - surprise / mass
        rows, unit = np.arange(len(units)), self.best_id // UNIT_TOKENS
        others = units[:, :, U.best].copy()
        others[rows, unit] = units[rows, unit, U.second]
        self.second: DoubleArray = others.max(axis=1)


def measures_needed(read: Readout) -> bool:
    """Whether masses are needed: for anything but tokens, whole logits and hidden states."""
    if read.measures - _NO_MASSES:
        return True
    return read.top > 0 or any(token >= 0 for token in read.given.tolist())


def answer_of(
    read: Readout,
    tokens: IntArray,
    logits: FloatArray,
    sums: RowSums,
    rows: slice,
    hidden: FloatArray | None = None,
) -> Answer:
    """The answer of one query, whose read rows are `rows` of the batch's. logits: (n, vocabulary); they are copied.
    hidden: (N, hidden) of all rows that are read, if anybody wants them.
    """
    states = hidden[rows] if hidden is not None and "hidden" in read.measures else None
    if not sums.measured and read.measures <= _ONLY_HIDDEN:  # nearly always
        return Answer(tokens, hidden=states)
    result: dict[str, Any] = {"tokens": tokens, "hidden": states}
    if "logits" in read.measures:
        result["logits"] = logits.copy()
    if not sums.measured or not measures_needed(read):
        return Answer(**result)
    best, log_mass = sums.best[rows], sums.log_mass[rows]

    def log_probability(ids: IntArray) -> DoubleArray:
        picked: DoubleArray = np.take_along_axis(logits, ids, axis=1) - best[:, None] - log_mass[:, None]
        return picked

    chosen = log_probability(tokens[:, None])[:, 0]
    if "logprob" in read.measures:
        result |= {"logprobs": chosen, "ranks": _ranks(logits, tokens)}
    if (read.given >= 0).any():
        ids = np.maximum(read.given, 0)
        asked = np.where(read.given >= 0, log_probability(ids[:, None])[:, 0], np.nan)
        result |= {"given": asked, "given_ranks": np.where(read.given >= 0, _ranks(logits, ids), 1)}
    if read.top:
        top = _likeliest(logits, min(read.top, logits.shape[1]))
        result |= {"top_ids": top, "top_logprobs": log_probability(top)}
    if "confidence" in read.measures:
        result["confidence"] = np.exp(chosen)
    if "margin" in read.measures:
        result["margin"] = np.exp(-log_mass) * (1 - np.exp(sums.second[rows] - best))
    if "entropy" in read.measures:
        result["entropy"] = sums.entropy[rows]
    return Answer(**result)


def _ranks(logits: FloatArray, ids: IntArray) -> IntArray:
    """How many tokens are likelier than `ids` (n,), plus 1."""
    return ints((logits > np.take_along_axis(logits, ids[:, None], axis=1)).sum(axis=1) + 1)


def _likeliest(logits: FloatArray, count: int) -> IntArray:
    """Ids of the `count` highest logits of each row, highest first, ties by id."""
    if count < logits.shape[1]:
        ids = ints(np.argpartition(-logits, count - 1, axis=1)[:, :count]).reshape(len(logits), count)
    else:
        ids = np.broadcast_to(np.arange(logits.shape[1]), logits.shape).copy()
    ids.sort(axis=1)
    order = np.argsort(-np.take_along_axis(logits, ids, axis=1), axis=1, kind="stable")
    return np.take_along_axis(ids, order, axis=1)
