"""What mask rows said is the next step's draft, and where the next ones stand is decided by what rows cost.

A draft is counted with how deep in its group it was and how sure the model was of it; the counts say what a row is
worth (`mask_layout`), the cost model what it costs. Where mask rows are not worth their time there are none, and a few
are tried now and then.
"""

from collections.abc import Sequence as Sequences
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul
from typing import Literal, NamedTuple

import numpy as np

from ridgeway.core.method import Drafter, DraftTree, Streams
from ridgeway.core.query import Answer, Commit, Query
from ridgeway.core.sequence import Sequence
from ridgeway.core.traits import ModelTraits
from ridgeway.methods.acceptance import Acceptance, Kind, kind_of
from ridgeway.methods.depth import least_gain
from ridgeway.methods.mask_layout import (
    NO_MASKS,
    MaskLayout,
    Space,
    candidates,
    linear,
    of_candidates,
    quadratic,
    worthwhile,
)
from ridgeway.methods.verify import room

_FRESH, _STALE, _AHEAD = range(3)  # drafts behind the true text; behind a refused draft; mask rows yet to be read
_HOPE = 0.5  # chance of a mask row's token before any was seen
_SMOOTHING = 0.1  # of the newest step in the mean gain
_TRYING = 0.01  # share of the time that may be spent on mask rows that do not look worth it, to see whether they are
_TRY_EVERY = 32

Layout = Literal["pruned", "quadratic", "linear"]


class Guess(NamedTuple):
    """A draft, with what it is counted with: the model's confidence in it, and how deep in its group it was."""

    token: int
    confidence: float
    source: int
    depth: int

    @property
    def kinds(self) -> list[Kind]:
        own = kind_of(self.source, self.confidence, self.depth)
        return [own, ahead(self.depth)] if self.source == _FRESH else [own]


def ahead(depth: int) -> Kind:
    return kind_of(_AHEAD, _HOPE, depth)


@dataclass
class Drafts:
    """State of a sequence. guesses: for the tokens after the newest. layout: of the coming or present step."""

    acceptance: Acceptance
    guesses: list[Guess] = field(default_factory=list)
    layout: MaskLayout = NO_MASKS
    words: str = "plain decoding so far: the answer was too short to draft"


class MaskDrafter(Drafter):
    """Proposes what mask rows said in the step before, and says where the next ones stand.

    layout: `pruned`, `quadratic` or `linear`. block: most mask rows of a group, and most drafts. mask_id: as in the
    method's options.
    """

    def __init__(self, layout: Layout, block: int, mask_id: int | None) -> None:
        self.layout = layout
        self.block = block
        self.mask_id = mask_id
        self.acceptance = Acceptance()
        self._gain = 1.0  # mean tokens per second over those of plain decoding
        self._on = False
        self._steps = 0
        self._time = self._tried = 0.0  # seconds of all steps, and of them for the sake of learning

    def start(self) -> Drafts:
        return Drafts(Acceptance(self.acceptance, weight=8.0, memory=40.0))

    def space(self, sequence: Sequence, rows: int) -> Space:
        return Space(len(sequence.state.guesses), self.block, rows, room(sequence))

    def propose(self, sequences: Sequences[Sequence], depths: Sequences[int], streams: Streams) -> list[DraftTree]:
        spaces = [self.space(sequence, rows) for sequence, rows in zip(sequences, depths, strict=True)]
        survivals = [self._survival(sequence.state) for sequence in sequences]
        if self.layout == "pruned":
            self._prune(sequences, spaces, survivals, streams)
        else:
            arrange = linear if self.layout == "linear" else quadratic
            for sequence, space in zip(sequences, spaces, strict=True):
                sequence.state.layout = arrange(space)
                if space.room > 2 * self.block:
                    sequence.state.words = f"{self.layout} layout: {_rows(sequence.state.layout)}"
        trees = []
        for sequence, survival in zip(sequences, survivals, strict=True):
            state = sequence.state
            count = state.layout.drafts
            trees.append(DraftTree.chain([guess.token for guess in state.guesses[:count]], survival[:count]))
        return trees

    def observe(self, sequence: Sequence, query: Query, answer: Answer, commit: Commit) -> None:
        """Compare drafts, verified or not, with the text that came, and take in the next ones."""
        if not len(query.read):
            return
        state = sequence.state
        for guess, token in zip(state.guesses, commit.tokens, strict=False):
            for kind in guess.kinds:
                state.acceptance.observe(kind, guess.token == token)
            if guess.token != token:
                break
        state.guesses = self._next(sequence, answer, len(commit.tokens) - 1)
        state.layout = NO_MASKS

    def _next(self, sequence: Sequence, answer: Answer, accepted: int) -> list[Guess]:
        """Drafts behind the last committed token, of which there are no gaps.

        A place that several guess is left to the group behind the last accepted draft, or the nearest before it. With
        a layout that leaves groups out, guesses behind a refused draft are better than none: other groups, what the
        target drew behind refused drafts (a step of Jacobi iteration), and drafts that were not verified.
        """
        state = sequence.state
        layout, mask_id = state.layout, mask_of(self.mask_id, sequence.traits)
        confidence = np.zeros(len(answer.tokens)) if answer.confidence is None else answer.confidence
        by_place: dict[int, Guess] = {}  # 0: the first token after the newest one before this step

        def offer(place: int, read: int, source: int, depth: int) -> None:
            by_place[place] = Guess(int(answer.tokens[read]), float(confidence[read]), source, depth)

        groups = list(range(layout.drafts + 1))
        if self.layout == "pruned":
            for place, guess in enumerate(state.guesses):
                by_place[place] = guess._replace(source=_STALE)
            for draft in range(accepted + 1, layout.drafts + 1):
                offer(draft, draft, _STALE, draft - accepted)
            groups = [*range(layout.drafts, accepted, -1), *range(accepted + 1)]  # the best ones last
        else:
            groups = [accepted]
        first_read = list(accumulate(layout.groups, initial=layout.drafts + 1))
        for group in groups:
            for mask in range(layout.groups[group]):
                source = _FRESH if group == accepted else _STALE
                offer(group + 1 + mask, first_read[group] + mask, source, mask + 1)
        guesses: list[Guess] = []
        for place in range(accepted + 1, accepted + 1 + self.block):
            guess = by_place.get(place)
            if guess is None or guess.token == mask_id:
                break
            guesses.append(guess)
        return guesses

    def _survival(self, state: Drafts) -> list[float]:
        """(drafts,) estimated chance that each draft and all before it are accepted.

        What is known of the confidence that a draft came with, and before that, of its depth: an untrained model is
        confident of nonsense.
        """
        acceptance = state.acceptance
        chances = (
            acceptance.chance(guess.kinds[0], acceptance.chance(ahead(guess.depth), _HOPE)) for guess in state.guesses
        )
        return list(accumulate(chances, mul))

    def _prune(
        self,
        sequences: Sequences[Sequence],
        spaces: Sequences[Space],
        survivals: Sequences[Sequences[float]],
        streams: Streams,
    ) -> None:
        """Give each sequence the rows that pay: the most worth of all sequences first."""
        offers = []
        for sequence, space, survival in zip(sequences, spaces, survivals, strict=True):
            acceptance = sequence.state.acceptance
            next_ones = accumulate((acceptance.chance(ahead(d), _HOPE) for d in range(1, self.block + 1)), mul)
            offers.append(candidates(space, survival, list(next_ones)))
        worth = np.concatenate([[row.worth for row in rows] for rows in offers])
        order = np.argsort(-worth, kind="stable")
        plain, certain = streams.price(0), streams.certain
        listed = [float(one) for one in worth[order]]
        chosen, profit = worthwhile(listed, streams.price, self._gain * certain / plain)
        if profit < (least_gain(certain, self._on) - 1) * certain:
            chosen = 0
        self._on = chosen > 0
        taken = np.zeros(len(worth), dtype=np.bool_)
        taken[order[:chosen]] = True
        trial = 0 if chosen else self._trial(spaces[0], streams)

        expected, start = float(certain), 0
        for place, (sequence, rows, survival) in enumerate(zip(sequences, offers, survivals, strict=True)):
            own = [row for row, take in zip(rows, taken[start : start + len(rows)], strict=True) if take]
            start += len(rows)
            state = sequence.state
            state.layout = MaskLayout((trial,)) if trial and place == 0 else of_candidates(own)
            expected += sum(survival[: state.layout.drafts])
            if spaces[place].room > 2 * self.block:  # near its end an answer has no use for more, whatever rows cost
                state.words = self._words(state.layout, listed[:1], streams)
        gain = expected * plain / (streams.price(chosen) * certain)
        self._gain += _SMOOTHING * (max(1.0, gain) - self._gain)
        self._time += streams.price(chosen)

    def _trial(self, space: Space, streams: Streams) -> int:
        """Mask rows to be tried, now and then and for little time, though they do not look worth it."""
        self._steps += 1
        masks = min(space.masks(0), space.rows)
        if self._steps % _TRY_EVERY or not masks:
            return 0
        extra = streams.price(masks) - streams.price(0)
        if self._tried + extra > _TRYING * self._time:
            return 0
        self._tried += extra
        return masks

    def _words(self, layout: MaskLayout, best: Sequences[float], streams: Streams) -> str:
        cost, worth = 1e3 * (streams.price(1) - streams.price(0)), best[0] if best else 0.0
        row = f"the first row beside plain decoding's costs {cost:.2f} ms and brings {worth:.2f} tokens"
        if layout.rows:
            return f"{_rows(layout)}: {row}; {self._gain:.2f}x expected"
        return f"off: {row}"


def mask_of(mask_id: int | None, traits: ModelTraits) -> int | None:
    return traits.mask_id if mask_id is None else mask_id


def _rows(layout: MaskLayout) -> str:
    drafts = f"{layout.drafts} draft" + ("" if layout.drafts == 1 else "s")
    groups = " + ".join(str(size) for size in layout.groups)
    return f"verifying {drafts}, with {groups} mask rows behind the places where the text may end"
