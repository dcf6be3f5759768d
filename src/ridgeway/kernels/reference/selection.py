"""From logits to tokens, for all read rows of a batch at once.

Order of operations, as in vLLM: measures of the model's own distribution; penalties, biases and forbidden ids;
greedy rows take the argmax; the others divide by temperature, drop tokens below min_p, outside the top k and outside
the nucleus (Holtzman et al. 2020), and take the argmax of what is left plus Gumbel noise keyed by position and token.
Ties go to the lowest id everywhere.
"""

from typing import Any

import numpy as np

from ridgeway.core.arrays import AnyArray, BoolArray, DoubleArray, FloatArray, IntArray, ints
from ridgeway.core.noise import gumbel
from ridgeway.core.query import Adjustment, Answer, Batch, Readout, Selection
from ridgeway.kernels.reference.distribution import with_distributions

# A nucleus is almost always smaller than this; rows whose nucleus is not are sorted whole.
_CANDIDATES = 256


def answer(logits: FloatArray, batch: Batch) -> tuple[Answer, ...]:
    """logits: (N, vocabulary) of all read rows of the batch in order. Returns an answer for each entry."""
    tokens = choose(adjust(logits, batch), batch.selection)
    answers = []
    start = 0
    for entry in batch.entries:
        read = entry.query.read
        stop = start + len(read)
        answers.append(_measure(logits[start:stop], tokens[start:stop], entry.query.read))
        start = stop
    return with_distributions(tuple(answers), logits, batch)


def adjust(logits: FloatArray, batch: Batch) -> FloatArray:
    """Logits after penalties, biases and forbidden ids."""
    adjustments = batch.selection.adjustments
    forbidding = any(entry.query.read.forbid for entry in batch.entries)
    if not adjustments and not forbidding:
        return logits
    changed = logits.copy()
    for row, change in adjustments.items():
        changed[row, change.ids] = adjusted(logits[row, change.ids], change)
    start = 0
    for entry in batch.entries:
        stop = start + len(entry.query.read)
        changed[start:stop, list(entry.query.read.forbid)] = -np.inf
        start = stop
    return changed


def adjusted(logits: FloatArray, change: Adjustment) -> DoubleArray:
    """What `change` makes of the logits (k,) of its ids."""
    values = logits.astype(np.float64)
    values = np.where(values > 0, values / change.repetition, values * change.repetition)
    return np.asarray(values + change.added)


def choose(logits: FloatArray, selection: Selection) -> IntArray:
    """The token of each row: (N,)."""
    tokens = ints(logits.argmax(axis=-1)) if len(logits) else ints([])
    drawn = np.flatnonzero(selection.sampled & (selection.temperature > 0))
    if len(drawn):
        tokens[drawn] = _draw(logits[drawn], rows_of(selection, drawn))
    return tokens


def choose_among(
    logits: FloatArray, ids: IntArray, mass: DoubleArray, selection: Selection
) -> tuple[IntArray, BoolArray]:
    """The tokens of rows of which only the likeliest tokens are known: (n,), and which of them are certain, (n,).

    logits, ids: (n, c), highest first, ties by id. mass: (n,) of the whole vocabulary at the row's temperature,
    relative to its likeliest token.
    """
    scaled = logits.astype(np.float64) / selection.temperature[:, None]
    scaled -= scaled[:, :1]
    kept, settled = _keep(np.exp(scaled) / mass[:, None], selection, complete=False)
    return _loudest(np.where(kept, scaled, -np.inf), ids, selection), settled


def rows_of(selection: Selection, rows: IntArray) -> Selection:
    """The selection of `rows` alone, without adjustments."""
    arrays = {name: array[rows] for name, array in vars(selection).items() if name != "adjustments"}
    return Selection(**arrays, adjustments={})


def _draw(logits: FloatArray, selection: Selection) -> IntArray:
    """Gumbel-max over what min_p, top_k and top_p leave; logits: (n, vocabulary)."""
    scaled = logits.astype(np.float64) / selection.temperature[:, None]
    scaled -= scaled.max(axis=-1, keepdims=True)
    probability = np.exp(scaled)
    total = probability.sum(axis=-1)
    probability /= total[:, None]
    vocabulary = logits.shape[1]
    keeps_all = (selection.top_k == 0) & (selection.top_p >= 1) & (selection.min_p <= 0)
    tokens = np.empty(len(logits), dtype=np.int64)
    unsettled = np.ones(len(logits), dtype=np.bool_)
    whole = np.flatnonzero(keeps_all)
    if len(whole):
        ids = np.broadcast_to(np.arange(vocabulary, dtype=np.int64), (len(whole), vocabulary))
        tokens[whole] = _loudest(scaled[whole], ids, rows_of(selection, whole))
        unsettled[whole] = False
    for candidates in (min(_CANDIDATES, vocabulary), vocabulary):
        rows = np.flatnonzero(unsettled)
        if not len(rows):
            break
        part = rows_of(selection, rows)
        ids = _likeliest(scaled[rows], candidates)  # (n, candidates), best first
        kept, settled = _keep(np.take_along_axis(probability[rows], ids, axis=-1), part, candidates == vocabulary)
        loud = np.where(kept, np.take_along_axis(scaled[rows], ids, axis=-1), -np.inf)
        tokens[rows[settled]] = _loudest(loud, ids, part)[settled]
        unsettled[rows[settled]] = False
    return tokens


def _likeliest(scores: DoubleArray, count: int) -> IntArray:
    """Ids of the `count` highest scores of each row, highest first, ties by id; the last few may be cut among ties."""
    if count < scores.shape[1]:
        ids = ints(np.argpartition(-scores, count - 1, axis=-1)[:, :count]).reshape(len(scores), count)
    else:
        ids = np.broadcast_to(np.arange(scores.shape[1], dtype=np.int64), scores.shape).copy()
    ids.sort(axis=-1)
    order = np.argsort(-np.take_along_axis(scores, ids, axis=-1), axis=-1, kind="stable")
    return np.take_along_axis(ids, order, axis=-1)


def _keep(probability: DoubleArray, selection: Selection, complete: bool) -> tuple[AnyArray, AnyArray]:
    """Which candidates are kept, (n, c), and in which rows that is certain, (n,).

    probability: (n, c), highest first. It is certain if some candidate is dropped for being too unlikely, so that what
    is not among the candidates would be dropped too, and that candidate is no tie of the last one kept.
    """
    rank = np.arange(probability.shape[1])[None, :]
    kept = probability >= selection.min_p[:, None] * probability[:, :1]
    kept &= (rank < selection.top_k[:, None]) | (selection.top_k[:, None] == 0)
    share = np.where(kept, probability, 0.0)
    share /= share.sum(axis=-1, keepdims=True)
    if complete:
        before = np.cumsum(share, axis=-1) - share
        kept &= (before < selection.top_p[:, None]) | (selection.top_p[:, None] >= 1)
        return kept, np.ones(len(probability), dtype=np.bool_)
    # The nucleus is a share of what top_k and min_p leave. If they cut within the candidates, that is known; if there
    # are neither, it is all probability; else the candidates cannot tell.
    bounded = ~kept[:, -1]
    alone = (selection.top_k == 0) & (selection.min_p <= 0)
    share = np.where(bounded[:, None], share, probability)
    before = np.cumsum(share, axis=-1) - share
    kept &= (before < selection.top_p[:, None]) | (selection.top_p[:, None] >= 1)
    last = np.maximum(kept.sum(axis=-1) - 1, 0)
    lowest_kept = np.take_along_axis(probability, last[:, None], axis=-1)[:, 0]
    return kept, (bounded | alone) & ~kept[:, -1] & (lowest_kept > probability[:, -1])


def _loudest(scores: DoubleArray, ids: IntArray, selection: Selection) -> IntArray:
    """The id with the highest score plus noise; scores, ids: (n, c)."""
    noise = gumbel(
        selection.seed[:, None], selection.sample[:, None].astype(np.uint64), selection.position[:, None], ids
    )
    loud = np.where(np.isneginf(scores), -np.inf, scores + noise)
    best = loud.argmax(axis=-1)
    return ints(np.take_along_axis(ids, best[:, None], axis=-1))


def _measure(logits: FloatArray, tokens: IntArray, read: Readout) -> Answer:
    """What a readout asks for beside the tokens."""
    wants = read.measures
    asks_given = bool((read.given >= 0).any())
    if not (wants or read.top or asks_given) or not len(read):
        return Answer(tokens)
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=-1, keepdims=True)
    log_probability = exact - np.log(np.exp(exact).sum(axis=-1, keepdims=True))
    probability = np.exp(log_probability)
    chosen = np.take_along_axis(log_probability, tokens[:, None], axis=-1)[:, 0]
    result: dict[str, Any] = {"tokens": tokens}
    if "logprob" in wants:
        result |= {"logprobs": chosen, "ranks": _ranks(log_probability, chosen)}
    if asks_given:
        asked = np.take_along_axis(log_probability, np.maximum(read.given, 0)[:, None], axis=-1)[:, 0]
        asked = np.where(read.given >= 0, asked, np.nan)
        result |= {"given": asked, "given_ranks": _ranks(log_probability, asked)}
    if read.top:
        ids = _likeliest(log_probability, min(read.top, logits.shape[1]))
        result |= {"top_ids": ids, "top_logprobs": np.take_along_axis(log_probability, ids, axis=-1)}
    if "confidence" in wants:
        result["confidence"] = np.exp(chosen)
    if "margin" in wants:
        best = np.partition(probability, -2, axis=-1)
        result["margin"] = best[:, -1] - best[:, -2]
    if "entropy" in wants:
        result["entropy"] = -(probability * np.where(probability > 0, log_probability, 0.0)).sum(axis=-1)
    if "logits" in wants:
        result["logits"] = logits.copy()
    return Answer(**result)


def _ranks(log_probability: DoubleArray, chosen: DoubleArray) -> IntArray:
    return ints((log_probability > chosen[:, None]).sum(axis=-1) + 1)
