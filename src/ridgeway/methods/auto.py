"""The controller: draft what pays, from whichever drafter is right, and be as fast as plain decoding where none is.

Guesses of several drafters are merged into one tree for each sequence. Those out of texts come for nothing; a model's
draft head, where it has one, is asked if what it adds is worth what it takes (`asking`). Each guess
carries an estimated chance to survive (`acceptance`), and all guesses of all sequences compete for the rows of the next
step (`depth`), priced by the cost model as calibrated by the steps that were measured. Where drafting does not pay it
rests, and the guesses that it would have made are judged by the text that comes, which costs next to nothing.

    each step, for each sequence that does not rest:
        guesses  <- from its own text and from earlier answers, merged; chance = what was seen of their kind
        guesses  <- of the draft head, if it is expected to add more tokens per second than asking it takes
    all guesses, likeliest first; n* = argmax over n of (certain + sum of the first n chances) / price(n)
    draft those; afterwards compare all guesses, drafted or not, with the text
"""

from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Sequences
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from weakref import WeakKeyDictionary

from ridgeway.core.duration import Duration
from ridgeway.core.method import NO_DRAFT, Drafter, DraftTree, Rows, Streams
from ridgeway.core.query import Answer, Commit, Measure, Query
from ridgeway.core.sequence import Sequence
from ridgeway.methods.acceptance import Acceptance, Guesses
from ridgeway.methods.asking import Asking
from ridgeway.methods.depth import Choice, choose, least_gain
from ridgeway.methods.head_drafter import HeadDrafter
from ridgeway.methods.matches import AnswersDrafter, TextDrafter
from ridgeway.methods.recycling import RecyclingDrafter
from ridgeway.methods.suffix import SuffixDrafter
from ridgeway.methods.trie import Guesser
from ridgeway.methods.verify import Speculative

_THINKING = 0.005  # share of the time that guessing may take while nothing is drafted
_LONGEST_REST = 16  # steps
_MANY = 8  # sequences that leave a newcomer half as much hope
_PATIENCE = 4  # times its own rest that a sequence may rest to wake with another
_REVISE = 48  # guessing steps after which a request's drafters are looked over
_TRYING = 0.01  # share of the time that may be spent on depths that do not look best, to learn what they take
_TRY_EVERY = 32
_WORTHY = 0.03  # tokens that the draft head adds; below that it is not asked
_DRAFTERS = ("text", "answers", "head", "suffix", "recycling")
_HIDDEN: frozenset[Measure] = frozenset({"hidden"})
_LINES = 16  # of explanation, kept for a request


@dataclass(eq=False)
class Known:
    """What the controller knows of a sequence. seen: committed tokens that were compared with guesses."""

    acceptance: Acceptance
    drafters: list[int]
    seen: int
    guesses: Guesses = field(default_factory=Guesses)
    rest: int = 0  # steps
    last_rest: int = 0  # how long it would have rested alone
    steps: int = 0  # in which it guessed
    drafted: int = 0  # tokens, in the step to come
    choice: Choice | None = None
    surest: float = 0.0  # chance of the likeliest first guess that came for nothing
    expected: float | None = None  # accepted drafts, had the head not been asked; None: it was not
    guessed: Counter[int] = field(default_factory=Counter)  # by drafter, since the last look-over
    right: Counter[int] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)


Ranked = tuple[float, int, int]  # minus its chance to survive, whose guess it is, which node of the tree


class Controller(Drafter):
    """Decides for all its sequences at once. drafters: by name. clock: tells how long guessing itself takes.

    head: asks the draft heads of models that have one.
    """

    def __init__(
        self,
        drafters: dict[str, Guesser],
        clock: Callable[[], float] = perf_counter,
        head: HeadDrafter | None = None,
    ) -> None:
        self.clock = clock
        self.names = [*drafters, "the draft head"]
        self.drafters = list(drafters.values())
        self.head = head
        self.asking = Asking()
        self.acceptance = Acceptance()
        self.thinking = Duration()  # guessing for one sequence
        self.known: WeakKeyDictionary[Sequence, Known] = WeakKeyDictionary()
        self._on = False
        self._steps = 0
        self._time = self._tried = 0.0  # seconds of all steps, and of them for the sake of learning

    def of(self, sequence: Sequence) -> Known:
        known: Known | None = sequence.state
        if known is None:
            own = Acceptance(self.acceptance, weight=8.0, memory=60.0)
            known = Known(own, self._all(sequence), sequence.committed)
            known.rest = known.last_rest = self._first_rest()
            sequence.state = self.known[sequence] = known
        assert isinstance(known, Known), "a method that keeps a state of its own cannot share it with the controller"
        return known

    def _first_rest(self) -> int:
        """How long a sequence rests that joins others: nearly as long as those that rest least, where these are many
        and fill the machine; hardly at all beside one or two.
        """
        others = [one.last_rest for sequence, one in self.known.items() if one.choice and not sequence.finished]
        return min(others, default=0) * len(others) // (len(others) + _MANY)

    @property
    def _head_number(self) -> int:
        return len(self.drafters)

    def _all(self, sequence: Sequence) -> list[int]:
        """Numbers of all drafters that can guess for a sequence."""
        has_head = self.head is not None and sequence.traits.draft_head
        return list(range(len(self.drafters) + has_head))

    def propose(self, sequences: Sequences[Sequence], depths: Sequences[int], streams: Streams) -> list[DraftTree]:
        began = self.clock()
        known = [self._guess(sequence, depth) for sequence, depth in zip(sequences, depths, strict=True)]
        ranked = _ranked(known)
        choice = self._choose(ranked, streams)
        thought = self.clock() - began
        asked = self._worth_asking(sequences, known, ranked[: choice.drafted], choice, streams)
        if asked:
            self._ask([sequences[place] for place in asked], [known[place] for place in asked], streams)
            free = choice.drafted
            ranked = _ranked(known)
            choice = self._choose(ranked, streams)
            self.asking.drafted(len(asked), choice.drafted - free)
        choice = self._perhaps_more(choice, len(ranked), streams)
        chosen: list[list[int]] = [[] for _ in known]
        for _, owner, node in ranked[: choice.drafted]:
            chosen[owner].append(node)
        drafts = [
            one.guesses.tree(sorted(nodes[:depth])) if nodes else NO_DRAFT
            for one, nodes, depth in zip(known, chosen, depths, strict=True)
        ]
        resting = {one.rest for one in self.known.values() if one.choice}
        for one, nodes in zip(known, chosen, strict=True):
            self._settle(one, choice, len(nodes), resting)
        self.thinking.observe(thought / len(sequences))
        return drafts

    def observe(self, sequence: Sequence, query: Query, answer: Answer, commit: Commit) -> None:
        known = self.of(sequence)
        if self.head is not None and answer.hidden is not None:
            self.head.observe(sequence, query, answer, commit)
        if known.guesses.undecided and sequence.committed > known.seen:
            known.right.update(known.guesses.watch(sequence.tokens[known.seen :], known.acceptance))
            known.seen = sequence.committed
        if known.expected is not None:
            self.asking.brought(known.surest, len(commit.tokens) - 1, known.expected)
            known.expected = None
        if known.rest and not sequence.finished:
            known.rest -= 1
            return
        known.rest = 0
        for number in self._free(known):
            self.drafters[number].observe(sequence, query, answer, commit)

    def _guess(self, sequence: Sequence, depth: int) -> Known:
        """What the request's drafters guess, as one tree, each guess with its estimated survival."""
        known = self.of(sequence)
        known.steps += 1
        known.seen = sequence.committed
        if known.steps % _REVISE == 0:
            self._revise(known, self._all(sequence))
        guesses = known.guesses = Guesses()
        for number in self._free(known):
            one = self.drafters[number].guess(sequence, depth)
            if one.tokens:
                guesses.merge(number, one, known.acceptance)
                known.guessed[number] += 1
        known.surest = max(guesses.survival, default=0.0)
        return known

    def _free(self, known: Known) -> list[int]:
        """The request's drafters whose guesses come for nothing."""
        return [number for number in known.drafters if number < self._head_number]

    def _worth_asking(
        self,
        sequences: Sequences[Sequence],
        known: Sequences[Known],
        drafted: Sequences[Ranked],
        choice: Choice,
        streams: Streams,
    ) -> list[int]:
        """Places of the sequences for which to ask the draft head. drafted: the free guesses that were chosen."""
        able = [
            place
            for place, (sequence, one) in enumerate(zip(sequences, known, strict=True))
            if self._head_number in one.drafters and self.head is not None and self.head.ready(sequence)
        ]
        if not able:
            return []
        expected = [0.0] * len(known)
        for negative, owner, _ in drafted:
            expected[owner] -= negative
        added = {place: self.asking.added(known[place].surest) for place in able}
        worthy = [place for place in able if added[place] > _WORTHY]
        now = choice.certain + sum(expected)
        more = sum(added[place] for place in worthy)
        plain = streams.price(choice.drafted)
        asking = streams.price(choice.drafted + self.asking.rows(len(worthy))) if worthy else plain
        asking += self.asking.seconds(len(worthy), plain)
        # What pays for asking has begun to draft already, so hysteresis asks for no more.
        if not worthy or (now + more) * plain < least_gain(choice.certain, was_on=True) * now * asking:
            # Whether it would pay shows only if it is tried, now and then.
            cost = self.asking.seconds(len(able), plain)
            if self._steps % _TRY_EVERY or self._tried + cost > _TRYING * self._time:
                return []
            self._tried += cost
            worthy = able
        for place in worthy:
            known[place].expected = expected[place]
        return worthy

    def _ask(self, sequences: Sequences[Sequence], known: Sequences[Known], streams: Streams) -> None:
        """Merges what the draft head guesses."""
        assert self.head is not None
        began = self.clock()
        guessed = self.head.guess(sequences, streams)
        self.asking.took(len(sequences), self.clock() - began)
        for one, tree in zip(known, guessed, strict=True):
            one.guesses.merge(self._head_number, tree, one.acceptance)
            one.guessed[self._head_number] += 1

    def _choose(self, ranked: Sequences[Ranked], streams: Streams) -> Choice:
        survival = [-negative for negative, _, _ in ranked]
        return choose(survival, streams.certain, streams.price, self._on)

    def _perhaps_more(self, choice: Choice, guesses: int, streams: Streams) -> Choice:
        """The choice; now and then more than that is drafted, to learn what it takes."""
        self._steps += 1
        self._on = choice.drafted > 0
        self._time += streams.price(choice.drafted)
        more = min(guesses, choice.drafted + max(1, choice.drafted // 2))
        if self._steps % _TRY_EVERY == 0 and more > choice.drafted:
            # What a step takes with more rows is known for sure only if it is tried, now and then.
            extra = streams.price(more) - streams.price(choice.drafted)
            if self._tried + extra <= _TRYING * self._time:
                self._tried += extra
                return choice._replace(drafted=more)
        return choice

    def _settle(self, known: Known, choice: Choice, drafted: int, resting: set[int]) -> None:
        """Remember what was chosen for a sequence; where nothing was, rest longer each time, as long as it may.

        resting: how long others still do. It wakes with the nearest of them that is in reach: guessing for several at
        once takes less than doing it for each in steps of their own.
        """
        if drafted:
            known.rest = known.last_rest = 0
        else:
            affordable = self.thinking.seconds * choice.certain / (_THINKING * choice.price)
            longer = (known.last_rest + 1) * (1 + choice.certain) - 1  # the fuller the machine, the less hope
            alone = known.last_rest = int(min(longer, affordable, _LONGEST_REST))
            in_reach = (rest for rest in resting if alone <= 2 * rest and rest <= _PATIENCE * alone)
            known.rest = min(in_reach, key=lambda rest: abs(rest - alone), default=alone)
        known.choice, known.drafted = choice, drafted

    def _revise(self, known: Known, everyone: list[int]) -> None:
        """Leave out drafters of whose guesses hardly any came true; every other time all get another chance."""
        if len(known.lines) < _LINES:
            known.lines.append(f"after {known.steps} decisions: {self.words(known)}")
        if len(known.drafters) < len(everyone):
            known.drafters = everyone
        else:
            worth = [number for number in known.drafters if known.right[number] >= 0.05 * known.guessed[number]]
            known.drafters = worth or known.drafters[:1]
        known.guessed.clear()
        known.right.clear()

    def words(self, known: Known) -> str:
        """What was chosen for a sequence, and why."""
        choice = known.choice
        if choice is None and known.last_rest:
            return "off: where others rested it did as well, until its answer was complete"
        if choice is None:
            return "plain decoding so far: the answer was too short to draft"
        if not known.drafters:
            return "off: this model has no draft head"
        cost, chance = 1e3 * choice.first, choice.chance
        would = f"a drafted token would cost {cost:.2f} ms and yield {chance:.2f} tokens"
        names = _and(self.names[number] for number in known.drafters)
        if known.drafted:
            tokens = f"{known.drafted} token" + ("s" if known.drafted > 1 else "")
            return (
                f"drafting {tokens} from {names}: the first costs {cost:.2f} ms and yields {chance:.2f} tokens, "
                f"a step {1e3 * choice.price:.1f} ms; {choice.gain:.2f}x expected"
            )
        if not chance:
            return f"off: no guess from {names}"
        if choice.first > 0.5 * choice.price / choice.certain:
            rows = f"{choice.certain} rows already fill" if choice.certain > 1 else "one row already fills"
            return f"off: {rows} the machine; {would}"
        return f"off: guesses are too unsure; {would}"


def _ranked(known: Sequences[Known]) -> list[Ranked]:
    """All guesses, likeliest first; of like ones the earlier, so that what a guess follows comes before it."""
    return sorted(
        (-survival, owner, node)
        for owner, one in enumerate(known)
        for node, survival in enumerate(one.guesses.survival)
    )


def _and(names: Iterable[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


@dataclass(frozen=True)
class Auto(Speculative):
    """Draft as much as pays, from the text so far and earlier answers; nothing where nothing does."""

    name = "auto"
    drafters: str = "text+answers+head"
    nodes: int = 8
    depth: int = 4
    longest: int = 16
    remembered: int = 16384

    def __post_init__(self) -> None:
        unknown = set(self.drafters.split("+")) - set(_DRAFTERS)
        if unknown:
            raise ValueError(f"drafters: {min(unknown)!r} is none of {', '.join(_DRAFTERS)}, joined by +")
        if min(self.nodes, self.depth, self.longest) < 1 or self.remembered < 0:
            raise ValueError("nodes, depth and longest are at least 1, remembered at least 0")

    @cached_property
    def drafter(self) -> Controller:  # type: ignore[override]
        return self.make_drafter()

    @property
    def asks_head(self) -> bool:  # type: ignore[override]
        return "head" in self.drafters.split("+")

    def make_drafter(self) -> Controller:
        known: dict[str, Callable[[], Guesser]] = {
            "text": lambda: TextDrafter(self.longest),
            "answers": lambda: AnswersDrafter(self.longest, self.remembered),
            "suffix": lambda: SuffixDrafter(min(self.longest, 8), self.remembered),
            "recycling": lambda: RecyclingDrafter(successors=4, likeliest=False),
        }
        names = self.drafters.split("+")
        head = HeadDrafter(self.depth) if "head" in names else None
        return Controller({name: known[name]() for name in names if name != "head"}, head=head)

    def measures(self, sequence: Sequence) -> frozenset[Measure]:
        # What the head goes on from is wanted of the step before it may be asked.
        asked = self.drafter.head is not None and self.drafter.of(sequence).rest <= 1
        return _HIDDEN if asked and sequence.traits.draft_head else frozenset()

    @property
    def most(self) -> int:
        return self.nodes

    def demand(self, sequence: Sequence) -> Rows:
        if self.drafter.of(sequence).rest:
            return Rows(1, sequence.pending)
        return super().demand(sequence)

    def explain(self, sequence: Sequence) -> tuple[str, ...]:
        known = self.drafter.of(sequence)
        return (*known.lines, self.drafter.words(known))
