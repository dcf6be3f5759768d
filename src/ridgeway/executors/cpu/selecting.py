"""Choosing the tokens of a batch: the compiled kernel for what is large, the oracle's own code for what is left."""

from functools import lru_cache

import numpy as np

from ridgeway.core.arrays import AnyArray, DoubleArray, FloatArray, IntArray, ints
from ridgeway.core.query import Batch, Selection
from ridgeway.executors.cpu.answers import RowSums
from ridgeway.kernels.cpu.compilation import Compiler
from ridgeway.kernels.cpu.kernels import select_kernel
from ridgeway.kernels.cpu.layout import (
    DRAW_LONGS,
    MOST_CANDIDATES,
    PIECE,
    SCRATCH_BYTES,
    TASK_DOUBLES,
    TASK_LONGS,
    WANTED_CANDIDATES,
    D,
    N,
    T,
)
from ridgeway.kernels.cpu.residence import aligned
from ridgeway.kernels.cpu.team import Team
from ridgeway.kernels.reference.selection import adjusted, choose, choose_among, rows_of


class Selector:
    """Draws tokens with a team."""

    def __init__(self, compiler: Compiler, team: Team) -> None:
        self._kernel = select_kernel(compiler)
        self._team = team
        self._scratch = aligned(team.threads * SCRATCH_BYTES)

    def choose(self, batch: Batch, logits: FloatArray, sums: RowSums) -> IntArray:
        """The token of each read row, (N,). logits: (N, vocabulary) in memory of the stream; unchanged afterwards."""
        selection = batch.selection
        changes = _changes(batch, logits)
        if not changes and not any(selection.temperature.tolist()):
            return sums.best_id
        drawn = np.flatnonzero(selection.sampled & (selection.temperature > 0))
        tokens, best = sums.best_id.copy(), sums.best.copy()
        kept = [(row, ids, logits[row, ids].copy()) for row, ids, _ in changes]
        for row, ids, values in changes:
            logits[row, ids] = values
        for row in {row for row, _, _ in changes}:
            tokens[row] = logits[row].argmax()
            best[row] = logits[row, tokens[row]]
        if len(drawn):
            tokens[drawn] = self._draw(logits, selection, drawn, tokens, best)
        for row, ids, values in kept:
            logits[row, ids] = values
        return tokens

    def _draw(
        self, logits: FloatArray, selection: Selection, rows: IntArray, tokens: IntArray, best: DoubleArray
    ) -> IntArray:
        """Tokens of `rows`; tokens, best: each row's likeliest and its logit."""
        vocabulary = logits.shape[1]
        whole = (selection.top_k == 0) & (selection.top_p >= 1) & (selection.min_p <= 0)
        untruncated = whole[rows].tolist()
        owner, pieces = _pieces(vocabulary, tuple(untruncated))
        results, winners, candidates = self._run(logits, selection, rows, owner, pieces, tokens, best)
        if all(untruncated):  # as by far the most are
            likeliest = results.reshape(len(rows), -1).argmax(axis=1)
            return np.take_along_axis(winners.reshape(len(rows), -1), likeliest[:, None], axis=1)[:, 0]
        chosen = tokens[rows]
        unsettled: list[int] = []
        first_task = np.searchsorted(owner, np.arange(len(rows)))
        for place in range(len(rows)):
            first = first_task[place]
            if untruncated[place]:
                own = slice(first, first + -(-vocabulary // PIECE))
                chosen[place] = winners[own][results[own].argmax()]
            elif winners[first] < 0:
                chosen[place] = -1 - winners[first]
            else:
                unsettled.append(place)
        for limit in (WANTED_CANDIDATES, MOST_CANDIDATES):
            able = [place for place in unsettled if winners[first_task[place]] > 0]
            if able:
                ids = _likeliest(logits, rows[able], candidates[first_task[able]], winners[first_task[able]], limit)
                scores = np.take_along_axis(logits[rows[able]], ids, axis=1)
                masses = results[first_task[able]]
                chosen[able], settled = choose_among(scores, ids, masses, rows_of(selection, rows[able]))
                done = set(np.asarray(able)[settled])
                unsettled = [place for place in unsettled if place not in done]
        if unsettled:
            part = rows[unsettled]
            chosen[unsettled] = choose(logits[part], rows_of(selection, part))
        return chosen

    def _run(
        self,
        logits: FloatArray,
        selection: Selection,
        rows: IntArray,
        owner: IntArray,
        pieces: IntArray,
        tokens: IntArray,
        best: DoubleArray,
    ) -> tuple[DoubleArray, IntArray, AnyArray]:
        count = len(owner)
        some = slice(None) if len(rows) == len(tokens) else rows
        wished = np.empty((len(rows), TASK_DOUBLES))
        wished[:, N.temperature], wished[:, N.best] = selection.temperature[some], best[some]
        wished[:, N.top_p], wished[:, N.min_p] = selection.top_p[some], selection.min_p[some]
        numbers = wished[owner]
        asked = np.empty((len(rows), TASK_LONGS), dtype=np.int64)
        asked[:, T.logits] = logits.ctypes.data + rows * logits.strides[0]
        asked[:, T.seed] = selection.seed[some].view(np.int64)
        asked[:, T.sample], asked[:, T.position] = selection.sample[some], selection.position[some]
        asked[:, T.best_token], asked[:, T.top_k] = tokens[some], selection.top_k[some]
        fields = asked[owner]
        fields[:, T.first : T.truncated + 1] = pieces
        results, winners = np.empty(count), np.empty(count, dtype=np.int64)
        candidates = np.empty((count if pieces[:, 2].any() else 0, MOST_CANDIDATES), dtype=np.int32)
        table = np.zeros(DRAW_LONGS, dtype=np.int64)
        table[D.first_phase] = self._team.phase
        table[D.threads], table[D.tasks] = self._team.threads, count
        table[D.task_longs], table[D.task_doubles] = fields.ctypes.data, numbers.ctypes.data
        table[D.results], table[D.winners] = results.ctypes.data, winners.ctypes.data
        table[D.candidates] = candidates.ctypes.data
        control, place = self._team.address, table.ctypes.data
        scratch = self._scratch.ctypes.data
        self._team.run(lambda member, number: self._kernel(control, place, member, number, scratch))
        return results, winners, candidates


@lru_cache(maxsize=32)
def _pieces(vocabulary: int, whole: tuple[bool, ...]) -> tuple[IntArray, IntArray]:
    """The tasks in which tokens are drawn for rows from the whole vocabulary, or not: of which row, and (tasks, 3)
    the first token, how many, and whether the row's distribution is truncated.
    """
    tasks = [
        (row, first, min(step, vocabulary - first), not untruncated)
        for row, untruncated in enumerate(whole)
        for step in (PIECE if untruncated else vocabulary,)
        for first in range(0, vocabulary, step)
    ]
    table = np.array(tasks, dtype=np.int64)
    owner, pieces = table[:, 0].copy(), table[:, 1:].copy()
    for shared in (owner, pieces):
        shared.setflags(write=False)
    return owner, pieces


def _likeliest(logits: FloatArray, rows: IntArray, candidates: AnyArray, counts: IntArray, limit: int) -> IntArray:
    """For each of `rows` the ids of its candidates with the highest logits, highest first, ties by id: (n, c).

    candidates: (n, MOST_CANDIDATES), ascending, of which the first `counts` (n,) exist. c: at most `limit`, at most
    the fewest that a row has.
    """
    width = min(limit, int(counts.min()))
    found = np.empty((len(rows), width), dtype=np.int64)
    for place, (row, count) in enumerate(zip(rows, counts, strict=True)):
        ids = candidates[place, :count]
        values = logits[row, ids]
        if width < count:
            values_above = -np.partition(-values, width - 1)[width - 1]
            above = np.flatnonzero(values >= values_above)
            ids, values = ids[above], values[above]
        found[place] = ids[np.argsort(-values, kind="stable")[:width]]
    return found


def _changes(batch: Batch, logits: FloatArray) -> list[tuple[int, IntArray, DoubleArray]]:
    """Logits that penalties, biases and forbidden ids replace: (row, ids, values)."""
    changes = []
    for row, change in batch.selection.adjustments.items():
        changes.append((row, change.ids, adjusted(logits[row, change.ids], change)))
    start = 0
    for entry in batch.entries:
        read = entry.query.read
        if read.forbid:
            ids = ints(list(read.forbid))
            changes += [(start + n, ids, np.full(len(ids), -np.inf)) for n in range(len(read))]
        start += len(read)
    return changes
