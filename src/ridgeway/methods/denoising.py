"""Denoising: many positions per weight stream, revealed over a few of them.

A model that was trained to fill in masks is given a canvas of them and proposes a token for every one at once. A step
reveals some, the next one sees them. Decoding is memory-bound, so a stream over a whole canvas takes about as long as
one over a single row, as long as the rows stay left of the ridge point: what counts is how many positions a step
can safely reveal.

    rows       p p p p | t t t M M M M M     p: finished tokens without K/V yet, kept in the cache
    read                       * *           M: masks; of the present region the masked ones are read
    revealed                   a             and what the rule chooses of the proposals becomes known

`Diffusion` denoises the whole answer as one canvas, `BlockDiffusion` one block after the other. Here is what they
share: opening canvases, planning rows, revealing, and committing whatever is known with no mask before it, so that an
end token ends the answer in the very step that settles it.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ridgeway.core.arrays import NO_INTS, BoolArray, IntArray, ints
from ridgeway.core.errors import RequestError
from ridgeway.core.method import DraftTree, Rows
from ridgeway.core.outputs import RevealCounts
from ridgeway.core.query import NOTHING, Answer, Commit, Measure, Query, Readout, Reveal, Span
from ridgeway.core.sequence import Sequence
from ridgeway.core.traits import Attention, ModelTraits
from ridgeway.core.visibility import BIDIRECTIONAL, Causal, Tree, Visibility
from ridgeway.methods.canvas import Canvas
from ridgeway.methods.reveal import Remask
from ridgeway.methods.reveal_options import RevealOptions, of_the_drawn
from ridgeway.methods.reveal_schedule import Schedule


@dataclass(frozen=True)
class Denoising(RevealOptions):
    """What all methods share that denoise."""

    lossless = False
    attention: ClassVar[Attention]  # what a model has to be trained for; `causal-block` always does

    @property
    def approximate(self) -> str | None:
        """What makes the K/V that a step sees approximate, in words; None if nothing does."""
        return None

    @property
    def label(self) -> str:
        return f"{self.name} ({self.approximate})" if self.approximate else self.name

    def refusal(self, traits: ModelTraits) -> str | None:
        if traits.attention not in (self.attention, "causal-block"):
            return f"it needs {self.needs}, and this model {traits.words}"
        if self.mask_id is None and traits.mask_id is None:
            return f"it needs {self.needs}, and this model states no mask token; give mask_id=ID"
        if not 0 <= self.mask_of(traits) < traits.vocab_size:
            return f"mask_id={self.mask_id} is not in the vocabulary (0 to {traits.vocab_size - 1})"
        return None

    def caution(self, traits: ModelTraits) -> str | None:
        return "; ".join(filter(None, (self.mismatch(traits), self.idle))) or None

    def mismatch(self, traits: ModelTraits) -> str | None:
        """How what is asked for differs from what the model was trained for, as a sentence."""
        return None

    def mask_of(self, traits: ModelTraits) -> int:
        """Id of the mask token."""
        stated = traits.mask_id if self.mask_id is None else self.mask_id
        assert stated is not None, "a model without a mask token is refused"
        return stated

    # What a canvas is: the difference between whole-sequence and block diffusion.

    @abstractmethod
    def next_canvas(self, sequence: Sequence) -> Canvas:
        """The canvas that begins with, or after, the committed tokens."""

    @abstractmethod
    def steps_of(self, canvas: Canvas, region: int) -> int:
        """How many steps the schedule has for a region."""

    @abstractmethod
    def later(self, sequence: Sequence, canvas: Canvas) -> tuple[int, bool]:
        """Weight streams that the canvases after this one would take at least, and whether just as many."""

    def window(self, canvas: Canvas) -> tuple[int, int]:
        """Positions that are computed in each step; an approximate cache holds K/V of all others of the canvas."""
        return canvas.start, canvas.stop

    def fuses(self, sequence: Sequence, canvas: Canvas) -> bool:
        """Whether finished tokens share a stream with the canvas, which saves one for each block."""
        return True

    def must_refresh(self, sequence: Sequence, canvas: Canvas) -> bool:
        """Whether the K/V that an approximate cache holds must be computed anew within a region."""
        return False

    def refresh_reveals(self, sequence: Sequence, canvas: Canvas) -> IntArray:
        """Positions of the region that the stream which refreshes an approximate cache may reveal."""
        return canvas.open_positions()

    # The method itself.

    def start(self, sequence: Sequence) -> Canvas | None:
        mask = self.mask_of(sequence.traits)
        if mask in sequence.tokens:
            raise RequestError(f"the prompt holds the mask token, {mask}, at position {sequence.tokens.index(mask)}")
        sequence.reveals = RevealCounts(approximate=self.approximate)
        return None

    def demand(self, sequence: Sequence) -> Rows:
        canvas = self._canvas(sequence)
        first, stop = self._rows_of(sequence, canvas)
        finished, width = max(0, canvas.start - sequence.cached), stop - first
        if not finished:
            return Rows(width, width)
        if not self._fuses(sequence, canvas):
            unit = self.visibility(sequence.traits).unit or 1
            return Rows(min(unit, finished), finished, unit)
        unit = 1 if self._tied(sequence, canvas) else min(self.visibility(sequence.traits).unit or 1, finished)
        least = finished + width if self._tied(sequence, canvas) and finished == 1 else unit
        return Rows(least, finished + width, unit)

    def plan(self, sequence: Sequence, rows: int, draft: DraftTree | None) -> Query:
        canvas = self._canvas(sequence)
        canvas.forced, canvas.holding = -1, None
        first, stop = self._rows_of(sequence, canvas)
        finished = max(0, canvas.start - sequence.cached)
        fuses = self._fuses(sequence, canvas)
        denoises = not finished or (fuses and rows >= finished + stop - first)
        if not denoises:
            finished = min(rows, finished - (1 if fuses and self._tied(sequence, canvas) else 0))
        begin = sequence.cached
        tokens, positions = ints(sequence.tokens[begin : begin + finished]), begin + np.arange(finished)
        reads = NO_INTS
        if self._shift(sequence) and begin + finished == canvas.start and canvas.is_masked(canvas.start):
            # The row before the canvas is that of a finished token: what it predicts is as sure as plain decoding.
            canvas.forced, reads = canvas.start, ints([canvas.start])
        if denoises:
            shown, open_positions = self._look(sequence, canvas, finished)
            tokens = np.concatenate([tokens, shown[first - canvas.start : stop - canvas.start]])
            positions = np.concatenate([positions, np.arange(first, stop)])
            inside = open_positions - self._shift(sequence) >= first
            reads = np.concatenate([reads, open_positions[inside]])
        return Query(
            tokens,
            positions,
            self._sees(sequence, finished, len(tokens)),
            self._readout(sequence, canvas, reads, positions),
            parent=np.full(len(tokens), -1, dtype=np.int64),
            context=self._context(sequence, canvas),
        )

    def commit(self, sequence: Sequence, query: Query, answer: Answer) -> Commit:
        canvas = self._canvas(sequence)
        keep = np.arange(int((query.positions < canvas.start).sum()))
        hold = canvas.holding
        if not len(query.read):
            return Commit(NO_INTS, keep, hold=hold)
        if answer.distribution is not None:
            answer = of_the_drawn(answer, answer.distribution)
        region, positions, denoises = canvas.present, query.read.predicts, len(query) > len(keep)
        chosen = canvas.choose(sequence, positions, answer, self.rule, self._schedule(canvas, region), self.capped)
        canvas.take(positions, answer, chosen, remember=sequence.params.logprobs is not None)
        canvas.step += denoises  # the commit of a block may give a token besides, but is no denoising step
        again = NO_INTS
        if self.remask and canvas.present != region:
            again = canvas.think_again(Remask(self.remask), region)
        tokens, source, earlier = self._settled(sequence, canvas, positions)
        if canvas.present != region:
            canvas.step = 0
        if canvas.present != region or self.must_refresh(sequence, canvas):
            canvas.refreshed, hold = None, NO_INTS
        self._count(sequence, canvas, tokens, len(query) - len(keep), len(positions), int(chosen.sum()))
        if not len(canvas.masked):
            sequence.state = None
        shown = np.where(canvas.tokens == canvas.mask, -1, canvas.tokens)
        reveal = Reveal(canvas.start, shown, positions, answer.tokens, answer.confidence, chosen, again)
        return Commit(ints(tokens), keep, ints(source), earlier, hold, reveal)

    # Rows.

    def _canvas(self, sequence: Sequence) -> Canvas:
        if sequence.state is None:
            sequence.state = self.next_canvas(sequence)
        canvas: Canvas = sequence.state
        return canvas

    @staticmethod
    def _shift(sequence: Sequence) -> int:
        """How far before the position that it predicts a row of the canvas is."""
        traits = sequence.traits
        return (traits.mask_shift if traits.autoregressive else traits.logit_shift).value

    def _rows_of(self, sequence: Sequence, canvas: Canvas) -> tuple[int, int]:
        """First and past-the-last position of the canvas that the next denoising step computes."""
        if canvas.refreshed is not None and sequence.held:
            return self.window(canvas)
        return canvas.start, canvas.stop

    def _fuses(self, sequence: Sequence, canvas: Canvas) -> bool:
        """Besides what `fuses` says: inside a block whose own rows predict the next token, the first must be known."""
        blind = self._shift(sequence) and not isinstance(self.visibility(sequence.traits), Causal)
        replays = canvas.refreshed is not None
        return self.fuses(sequence, canvas) and not replays and not (blind and canvas.is_masked(canvas.start))

    def _tied(self, sequence: Sequence, canvas: Canvas) -> bool:
        """Whether the last finished token's row has to wait for the canvas, whose first token it predicts.

        Otherwise what is revealed would depend on how many rows there is room for.
        """
        return bool(self._shift(sequence)) and canvas.is_masked(canvas.start)

    def _look(self, sequence: Sequence, canvas: Canvas, finished: int) -> tuple[IntArray, IntArray]:
        """Tokens of the canvas as the next step sees it, and positions that it may reveal; decides what is held."""
        low, high = self.window(canvas)
        approximates = (low, high) != (canvas.start, canvas.stop)
        if not approximates or (canvas.refreshed is not None and sequence.held):
            return canvas.tokens, canvas.open_positions()
        outside = np.concatenate([np.arange(canvas.start, low), np.arange(high, canvas.stop)])
        canvas.holding = finished + outside - canvas.start
        if canvas.refreshed is not None:  # what was held is lost: it is computed once more, from the same tokens
            return canvas.refreshed, NO_INTS
        canvas.refreshed = canvas.tokens.copy()
        reveals = self.refresh_reveals(sequence, canvas)
        if len(reveals) == 1:
            canvas.forced = int(reveals[0])
        return canvas.tokens, reveals

    def _sees(self, sequence: Sequence, finished: int, rows: int) -> Visibility:
        """Who sees whom among `finished` rows and those of the canvas after them."""
        visibility = self.visibility(sequence.traits)
        if not isinstance(visibility, Causal) or finished == rows:
            return visibility
        if not finished:
            return BIDIRECTIONAL
        sees: BoolArray = np.ones((rows, rows), dtype=np.bool_)
        sees[:finished] = np.tri(finished, rows, dtype=np.bool_)
        return Tree(sees)

    @staticmethod
    def _context(sequence: Sequence, canvas: Canvas) -> tuple[Span, ...] | None:
        """What the rows see of the cache. After a preemption, K/V of canvas tokens may have been found there that were
        computed for another request: they are those of finished tokens, not of these."""
        if sequence.cached <= canvas.start:
            return None
        return Span(0, canvas.start), Span(sequence.cached, sequence.cached + sequence.held)

    def _readout(self, sequence: Sequence, canvas: Canvas, reads: IntArray, positions: IntArray) -> Readout:
        if not len(reads):
            return NOTHING
        measures: set[Measure] = set(self.rule.needs)
        if sequence.params.trace or self.remask:
            measures.add("confidence")
        if measures and self.measures_drawn(sequence.params):
            measures.add("distribution")
        rows = np.searchsorted(positions, reads - self._shift(sequence))
        return Readout.of(rows, reads, forbid=(canvas.mask,), measures=measures)

    # Tokens.

    def _schedule(self, canvas: Canvas, region: int) -> Schedule | None:
        low, high = canvas.bounds(region)
        return self.schedule(high - low, self.steps_of(canvas, region))

    def _settled(
        self, sequence: Sequence, canvas: Canvas, positions: IntArray
    ) -> tuple[list[int], list[int], dict[int, Answer]]:
        """Tokens that are known with no mask before them and final, and where each was read."""
        limit = canvas.stop
        if self.remask and len(canvas.masked):
            limit = canvas.bounds(canvas.present)[0]
        tokens = canvas.known_from(sequence.committed, limit)
        rows = {int(position): row for row, position in enumerate(positions)}
        source, earlier = [], {}
        for place in range(len(tokens)):
            position = sequence.committed + place
            now = canvas.found_at.get(position) == canvas.draws
            source.append(rows[position] if now else -1)
            if not now and position in canvas.answers:
                earlier[place] = canvas.answers.pop(position)
        return tokens, source, earlier

    def _count(
        self, sequence: Sequence, canvas: Canvas, tokens: list[int], rows: int, masked: int, revealed: int
    ) -> None:
        """Keep the counts, and how many streams are saved if one of the `tokens` ends the answer."""
        counts, params = sequence.reveals, sequence.params
        assert counts is not None
        if rows:
            counts.streams += 1
            counts.rows += rows
            counts.masked += masked
            counts.revealed += revealed
        ends = {*params.stop_ids, *(() if params.ignore_eos else sequence.traits.end_ids)}
        if params.stop_strings or not ends.isdisjoint(tokens):
            counts.left, counts.exact = self._left(sequence, canvas)

    def _left(self, sequence: Sequence, canvas: Canvas) -> tuple[int, bool]:
        """Weight streams that the answer would take to its full length at least, and whether just as many."""
        streams, exact = self.later(sequence, canvas)
        for region in range(canvas.present, canvas.regions):
            low, high = canvas.bounds(region)
            needed = max(low, min(high, sequence.max_committed))  # what lies behind need not be known
            masked = int((canvas.tokens[low - canvas.start : needed - canvas.start] == canvas.mask).sum())
            schedule = None if self.rule.adaptive or needed < high else self._schedule(canvas, region)
            step = canvas.step if region == canvas.present else 0
            left = None if schedule is None else schedule.left(step, masked)
            streams += left if left is not None else int(masked > 0)
            exact &= left is not None or masked == 0
        return streams, exact and not self.remask
