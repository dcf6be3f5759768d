"""The controller: draft what pays, from whichever drafter is right, and be as fast as plain decoding where none is.

Guesses of several drafters, none of which costs a weight stream, are merged into one tree for each sequence. Each guess
carries an estimated chance to survive (`acceptance`), and all guesses of all sequences compete for the rows of the next
step (`depth`), priced by the cost model as calibrated by the steps that were measured. Where drafting does not pay it
rests, and the guesses that it would have made are judged by the text that comes, which costs next to nothing.

    each step, for each sequence that does not rest:
        guesses  <- from its own text and from earlier answers, merged; chance = what was seen of their kind
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

from ridgeway.core.method import NO_DRAFT, Drafter, DraftTree, Rows, Streams
from ridgeway.core.query import Answer, Commit, Query
from ridgeway.core.sequence import Sequence
from ridgeway.methods.acceptance import Acceptance, Guesses
from ridgeway.methods.depth import Choice, choose
from ridgeway.methods.matches import AnswersDrafter, TextDrafter
from ridgeway.methods.recycling import RecyclingDrafter
from ridgeway.methods.suffix import SuffixDrafter
from ridgeway.methods.trie import Guesser
from ridgeway.methods.verify import Speculative

_THINKING = 0.005  # share of the time that guessing may take while nothing is drafted
_LONGEST_REST = 16  # steps
_REVISE = 48  # guessing steps after which a request's drafters are looked over
_TRYING = 0.01  # share of the time that may be spent on depths that do not look best, to learn what they take
_TRY_EVERY = 32
_LINES = 16  # of explanation, kept for a request


@dataclass(eq=False)
class Known:
    """What the controller knows of a sequence. seen: committed tokens that were compared with guesses."""

    acceptance: Acceptance
    drafters: list[int]
    seen: int
    guesses: Guesses = field(default_factory=Guesses)
    rest: int = 0
    last_rest: int = 0
    steps: int = 0  # in which it guessed
    drafted: int = 0  # tokens, in the step to come
    choice: Choice | None = None
    guessed: Counter[int] = field(default_factory=Counter)  # by drafter, since the last look-over
    right: Counter[int] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)


class Controller(Drafter):
    """Decides for all its sequences at once. drafters: by name. clock: tells how long guessing itself takes."""

    def __init__(self, drafters: dict[str, Guesser], clock: Callable[[], float] = perf_counter) -> None:
        self.clock = clock
        self.names = list(drafters)
        self.drafters = list(drafters.values())
        self.acceptance = Acceptance()
        self.thinking = 0.0  # mean seconds of guessing for one sequence
        self.known: WeakKeyDictionary[Sequence, Known] = WeakKeyDictionary()
        self._on = False
        self._steps = 0
        self._time = self._tried = 0.0  # seconds of all steps, and of them for the sake of learning

    def of(self, sequence: Sequence) -> Known:
        known = self.known.get(sequence)
        if known is None:
            own = Acceptance(self.acceptance, weight=8.0, memory=60.0)
            known = self.known[sequence] = Known(own, list(range(len(self.drafters))), sequence.committed)
        return known

    def propose(self, sequences: Sequences[Sequence], depths: Sequences[int], streams: Streams) -> list[DraftTree]:
        began = self.clock()
        known = [self._guess(sequence, depth) for sequence, depth in zip(sequences, depths, strict=True)]
        # Likeliest first; of like ones the earlier, so that what a guess follows comes before it.
        ranked = sorted(
            (-survival, owner, node)
            for owner, one in enumerate(known)
            for node, survival in enumerate(one.guesses.survival)
        )
        choice = self._choose([-negative for negative, _, _ in ranked], len(sequences), streams)
        chosen: list[list[int]] = [[] for _ in known]
        for _, owner, node in ranked[: choice.drafted]:
            chosen[owner].append(node)
        drafts = [
            one.guesses.tree(sorted(nodes)) if nodes else NO_DRAFT for one, nodes in zip(known, chosen, strict=True)
        ]
        for one, nodes in zip(known, chosen, strict=True):
            self._settle(one, choice, len(nodes))
        taken = (self.clock() - began) / len(sequences)
        self.thinking += (0.1 if self.thinking else 1.0) * (taken - self.thinking)
        return drafts

    def observe(self, sequence: Sequence, query: Query, answer: Answer, commit: Commit) -> None:
        known = self.of(sequence)
        if sequence.committed > known.seen:
            known.right.update(known.guesses.watch(sequence.tokens[known.seen :], known.acceptance))
            known.seen = sequence.committed
        if known.rest and not sequence.finished:
            known.rest -= 1
            return
        for number in known.drafters:
            self.drafters[number].observe(sequence, query, answer, commit)

    def _guess(self, sequence: Sequence, depth: int) -> Known:
        """What the request's drafters guess, as one tree, each guess with its estimated survival."""
        known = self.of(sequence)
        known.steps += 1
        known.seen = sequence.committed
        if known.steps % _REVISE == 0:
            self._revise(known)
        guesses = known.guesses = Guesses()
        for number in known.drafters:
            one = self.drafters[number].guess(sequence, depth)
            if one.tokens:
                guesses.merge(number, one, known.acceptance)
                known.guessed[number] += 1
        return known

    def _choose(self, survival: list[float], sequences: int, streams: Streams) -> Choice:
        self._steps += 1
        choice = choose(survival, streams.certain, streams.price, self.thinking * sequences, self._on)
        self._on = choice.drafted > 0
        self._time += streams.price(choice.drafted)
        more = min(len(survival), choice.drafted + max(1, choice.drafted // 2))
        if self._steps % _TRY_EVERY == 0 and more > choice.drafted:
            # What a step takes with more rows is known for sure only if it is tried, now and then.
            extra = streams.price(more) - streams.price(choice.drafted)
            if self._tried + extra <= _TRYING * self._time:
                self._tried += extra
                return choice._replace(drafted=more)
        return choice

    def _settle(self, known: Known, choice: Choice, drafted: int) -> None:
        """Remember what was chosen for a sequence; where nothing was, rest longer each time, as long as it may."""
        if drafted:
            known.last_rest = 0
        else:
            affordable = self.thinking * choice.certain / (_THINKING * choice.price)
            known.last_rest = int(min(2 * known.last_rest + 1, affordable, _LONGEST_REST))
        known.rest = known.last_rest
        known.choice, known.drafted = choice, drafted

    def _revise(self, known: Known) -> None:
        """Leave out drafters of whose guesses hardly any came true; every other time all get another chance."""
        if len(known.lines) < _LINES:
            known.lines.append(f"after {known.steps} decisions: {self.words(known)}")
        if len(known.drafters) < len(self.drafters):
            known.drafters = list(range(len(self.drafters)))
        else:
            worth = [number for number in known.drafters if known.right[number] >= 0.05 * known.guessed[number]]
            known.drafters = worth or known.drafters[:1]
        known.guessed.clear()
        known.right.clear()

    def words(self, known: Known) -> str:
        """What was chosen for a sequence, and why."""
        choice = known.choice
        if choice is None:
            return "plain decoding so far: the answer was too short to draft"
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


def _and(names: Iterable[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


@dataclass(frozen=True)
class Auto(Speculative):
    """Draft as much as pays, from the text so far and earlier answers; nothing where nothing does."""

    name = "auto"
    drafters: str = "text+answers"
    nodes: int = 8
    longest: int = 16
    remembered: int = 16384

    def __post_init__(self) -> None:
        unknown = set(self.drafters.split("+")) - {"text", "answers", "suffix", "recycling"}
        if unknown:
            raise ValueError(f"drafters: {min(unknown)!r} is none of text, answers, suffix and recycling, joined by +")
        if self.nodes < 1 or self.longest < 1 or self.remembered < 0:
            raise ValueError("nodes and longest are at least 1, remembered at least 0")

    @cached_property
    def drafter(self) -> Controller:  # type: ignore[override]
        return self.make_drafter()

    def make_drafter(self) -> Controller:
        known: dict[str, Callable[[], Guesser]] = {
            "text": lambda: TextDrafter(self.longest),
            "answers": lambda: AnswersDrafter(self.longest, self.remembered),
            "suffix": lambda: SuffixDrafter(min(self.longest, 8), self.remembered),
            "recycling": lambda: RecyclingDrafter(successors=4, likeliest=False),
        }
        return Controller({name: known[name]() for name in self.drafters.split("+")})

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
