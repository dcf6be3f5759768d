"""The positions that are denoised together: what is known of them, what is masked, and what may be revealed now.

A canvas is a stretch of absolute positions. Its first tokens may be known from the start: a whole prompt where every
token sees every other, or the end of a prompt that does not fill a block. The masked rest is revealed region by region
from left to right: the whole answer at once, or the semi-autoregressive blocks of LLaDA, or Fast-dLLM's sub-blocks.
"""

from dataclasses import dataclass, field

import numpy as np

from ridgeway.core.arrays import BoolArray, DoubleArray, IntArray, ints
from ridgeway.core.noise import Purpose, uniform
from ridgeway.core.query import Answer
from ridgeway.core.sequence import Sequence
from ridgeway.methods.reveal import Masked, Remask, RevealRule
from ridgeway.methods.reveal_schedule import Ancestral, Schedule


@dataclass
class Canvas:
    """start: absolute position of the first token. tokens: known ones, `mask` elsewhere. origin: where regions begin,
    and `region` how many positions each has.

    step: of the present region, from 0. draws: how often noise was drawn. forced: a position
    that the step at hand reveals whatever the rule says, -1 for none. refreshed: the tokens under which the K/V that
    are held were computed, None if none are to be held; holding: rows of the query at hand that will be held.
    """

    start: int
    tokens: IntArray
    mask: int
    origin: int
    region: int
    step: int = 0
    draws: int = 0
    forced: int = -1
    refreshed: IntArray | None = None
    holding: IntArray | None = None
    confidence: dict[int, float] = field(default_factory=dict)  # of revealed tokens, by position
    found_at: dict[int, int] = field(default_factory=dict)  # value of `draws` when a position was revealed
    answers: dict[int, Answer] = field(default_factory=dict)  # what they were read out of, until they are committed
    remasked: dict[int, int] = field(default_factory=dict)  # how often, by position

    @property
    def stop(self) -> int:
        return self.start + len(self.tokens)

    @property
    def masked(self) -> IntArray:
        """Absolute positions that are masked, from left to right."""
        return self.start + np.flatnonzero(self.tokens == self.mask)

    def bounds(self, number: int) -> tuple[int, int]:
        """First and past-the-last position of region `number`."""
        low = self.origin + number * self.region
        return low, min(low + self.region, self.stop)

    @property
    def regions(self) -> int:
        return -(-(self.stop - self.origin) // self.region)

    @property
    def present(self) -> int:
        """Number of the region that is being revealed: the leftmost that is masked anywhere."""
        masked = self.masked
        return (int(masked[0]) - self.origin) // self.region if len(masked) else self.regions

    def open_positions(self) -> IntArray:
        """Masked positions of the present region."""
        low, high = self.bounds(self.present)
        masked = self.masked
        return masked[(masked >= low) & (masked < high)]

    def is_masked(self, position: int) -> bool:
        return bool(self.tokens[position - self.start] == self.mask)

    def known_from(self, position: int, limit: int) -> list[int]:
        """The tokens from `position` on, up to the first mask or `limit`."""
        tokens: list[int] = []
        for token in self.tokens[position - self.start : limit - self.start]:
            if token == self.mask:
                break
            tokens.append(int(token))
        return tokens

    def choose(
        self,
        sequence: Sequence,
        positions: IntArray,
        answer: Answer,
        rule: RevealRule,
        schedule: Schedule | None,
        capped: bool,
    ) -> BoolArray:
        """(n,) which of the masked `positions` (n,), for which `answer` proposes tokens, the rule reveals.

        schedule: how many it should choose; None: the rule decides alone. capped: the schedule's counts up to this step
        are the most that may be revealed by now.
        """
        count, noise = 1, self._noise(sequence, positions)
        if schedule is not None and capped:
            count = max(1, schedule.total(self.step) - (schedule.size - len(positions)))
        elif schedule is not None:
            count = schedule.count(self.step, len(positions), noise)
            while not count and isinstance(schedule, Ancestral):
                # Nothing would be revealed, and a model that knows no time would answer the same again.
                self.step += 1
                noise = self._noise(sequence, positions)
                count = schedule.count(self.step, len(positions), noise)
        chosen: BoolArray = positions == self.forced
        if count:
            chosen |= rule(Masked(positions, noise, answer.confidence, answer.margin, answer.entropy), count)
        return chosen

    def take(self, positions: IntArray, answer: Answer, chosen: BoolArray, remember: bool) -> None:
        """Let the tokens of the chosen positions be known; remember: and what they were read out of."""
        for row in np.flatnonzero(chosen):
            position = int(positions[row])
            self.tokens[position - self.start] = answer.tokens[row]
            self.found_at[position] = self.draws
            if answer.confidence is not None:
                self.confidence[position] = float(answer.confidence[row])
            if remember:
                self.answers[position] = answer.part(int(row), int(row) + 1)

    def think_again(self, remask: Remask, region: int) -> IntArray:
        """Mask again what `remask` chooses of the tokens that were revealed in a region: (m,) their positions."""
        low, high = self.bounds(region)
        revealed = [position for position in sorted(self.confidence) if low <= position < high]
        often = ints([self.remasked.get(position, 0) for position in revealed])
        doubtful = remask.choose(np.asarray([self.confidence[position] for position in revealed]), often)
        again = ints(revealed)[doubtful]
        for position in again:
            self.remasked[int(position)] = self.remasked.get(int(position), 0) + 1
        self.tokens[again - self.start] = self.mask
        return again

    def _noise(self, sequence: Sequence, positions: IntArray) -> DoubleArray:
        """Uniform numbers for `positions`, others at each call, the same in any batch."""
        self.draws += 1
        return uniform(sequence.seed, sequence.sample, positions, Purpose.REVEAL, self.draws)
