"""What a decoding method and a drafter are.

A method says what to ask of the next weight stream (`plan`) and what to keep of the answer (`commit`). It knows no
executor and no tensor. Whoever writes one gets batching, paging, prefix reuse, preemption, exactness tests, the card
and the roofline plot for free: see examples/my_method.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence as Sequences
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from ridgeway.core.arrays import BoolArray, DoubleArray, FloatArray, IntArray, ints
from ridgeway.core.drafting import Guessed
from ridgeway.core.query import Answer, Commit, Query
from ridgeway.core.sequence import Sequence
from ridgeway.core.traits import ModelTraits
from ridgeway.core.visibility import Visibility

# With more tokens than these still without K/V, a step is a prefill: its rows are dear, and nothing is drafted.
PREFILL = 8


@dataclass(frozen=True)
class Rows:
    """How many rows a method has use for: from `least` to `useful`, in steps of `multiple_of`."""

    least: int
    useful: int
    multiple_of: int = 1

    def __post_init__(self) -> None:
        assert 1 <= self.least <= self.useful, (self.least, self.useful)

    def within(self, budget: int) -> int:
        """The most rows that fit into `budget`; 0 if not even the least do."""
        if budget < self.least:
            return 0
        extra = min(self.useful, budget) - self.least
        return self.least + extra // self.multiple_of * self.multiple_of


@dataclass(frozen=True)
class DraftTree:
    """Drafted tokens in an order in which a parent comes before its children.

    tokens: (n,). parent: (n,) index of the drafted token before this one, -1: the last committed token. survival: (n,)
    estimated probability that the token and all before it are accepted.
    """

    tokens: IntArray
    parent: IntArray
    survival: DoubleArray

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def chain(cls, tokens: Sequences[int] | IntArray, survival: Sequences[float] | DoubleArray) -> "DraftTree":
        """Tokens that follow each other."""
        return cls(ints(tokens), np.arange(-1, len(tokens) - 1, dtype=np.int64), np.asarray(survival, dtype=np.float64))

    @property
    def is_chain(self) -> bool:
        return bool(self.parent.tolist() == list(range(-1, len(self) - 1)))

    @property
    def depth(self) -> IntArray:
        """(n,) how many drafted tokens the path to each token has, itself included."""
        depth: list[int] = []
        for above in self.parent.tolist():
            depth.append(1 if above < 0 else depth[above] + 1)
        return ints(depth)

    def only(self, keep: BoolArray) -> "DraftTree":
        """The tokens that `keep` (n,) names, without those whose parents are left out."""
        place: dict[int, int] = {-1: -1}
        kept: list[int] = []
        for node, above in enumerate(self.parent):
            if keep[node] and int(above) in place:
                place[node] = len(kept)
                kept.append(node)
        return DraftTree(self.tokens[kept], ints([place[int(p)] for p in self.parent[kept]]), self.survival[kept])

    def likeliest(self, count: int) -> "DraftTree":
        """At most `count` tokens: those most likely to survive."""
        if len(self) <= count:
            return self
        keep = np.zeros(len(self), dtype=np.bool_)
        keep[np.argsort(-self.survival, kind="stable")[: max(count, 0)]] = True
        return self.only(keep)


NO_DRAFT = DraftTree.chain([], [])


class DecodingMethod(ABC):
    """A way to turn weight streams into tokens. Options are fields, so that `name:key=value` can set them.

    lossless: whether the tokens are those of plain autoregressive decoding, token for token;
    `ridgeway.testing.check_lossless` tests the claim. needs: one phrase for people, shown by `ridgeway methods`.
    draft_models: models that its drafter forks sequences in, by name. asks_head: whether it asks the draft head of a
    model that has one.
    """

    name: ClassVar[str]
    lossless: ClassVar[bool] = True
    needs: ClassVar[str] = "a causal model"
    drafter: "Drafter | None" = None
    asks_head: bool = False
    draft_models: tuple[str, ...] = ()

    def prepare(self, workbench: "Workbench") -> None:  # noqa: B027
        """Whatever has to be known of a model before its first request."""

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls) and not hasattr(cls, "name"):
            cls.name = cls.__name__.lower()

    @property
    def label(self) -> str:
        """The name for reports; it says so if what the method computes is approximate."""
        return self.name

    def caution(self, traits: ModelTraits) -> str | None:
        """What is unwise about running a model with these traits, as a sentence; None if nothing is."""
        return None

    def refusal(self, traits: ModelTraits) -> str | None:
        """Why this method cannot run a model with these traits, as the end of a sentence; None if it can."""
        if not traits.autoregressive:
            return f"it needs {self.needs}, and this model {traits.words}"
        return None

    def visibility(self, traits: ModelTraits) -> Visibility:
        """How committed tokens see each other when their K/V are computed: what may share cached prefixes."""
        return traits.visibility

    def start(self, sequence: Sequence) -> Any:
        """State of a new sequence, kept in `sequence.state`: host data that survives preemption."""
        return None

    def explain(self, sequence: Sequence) -> tuple[str, ...]:
        """What was chosen for `sequence` and why, in words for people; the last line is the present choice."""
        return ()

    @abstractmethod
    def demand(self, sequence: Sequence) -> Rows:
        """How many rows the next query has use for."""

    @abstractmethod
    def plan(self, sequence: Sequence, rows: int, draft: DraftTree | None) -> Query:
        """The next query, of at most `rows` rows, which `demand` allowed."""

    @abstractmethod
    def commit(self, sequence: Sequence, query: Query, answer: Answer) -> Commit:
        """What becomes final and what is kept, now that the query is answered."""


class Drafter(ABC):
    """Something that guesses the next tokens of sequences, to be verified by a method.

    What it remembers of a sequence it may keep in a `WeakKeyDictionary` by sequence.
    """

    @abstractmethod
    def propose(self, sequences: Sequences[Sequence], depths: Sequences[int], streams: "Streams") -> list[DraftTree]:
        """A tree of at most `depths[i]` tokens for each sequence (it may be empty)."""

    def observe(self, sequence: Sequence, query: Query, answer: Answer, commit: Commit) -> None:  # noqa: B027
        """Learn from what was verified; `sequence` has the committed tokens already, and may be finished."""


class View(Protocol):
    """A fork of a sequence, with K/V of its own behind the shared prefix; tokens are extended by the drafter."""

    tokens: list[int]
    cached: int


class Streams(Protocol):
    """Weight streams for a drafter that needs its own, all of them counted; and what the coming step will cost.

    certain: tokens that the coming step commits at least, with or without drafts, of all sequences that decode in it.
    """

    @property
    def certain(self) -> int: ...

    def fork(self, sequence: Sequence, model: str | None = None, drafts: int = 1) -> View:
        """A view of the sequence in the target's cache, or in that of the draft model of this name.

        It has room for K/V of all committed tokens and `drafts` more. Raises OutOfPagesError if there is none.
        """
        ...

    def forward(
        self, views: Sequences[View], queries: Sequences[Query], sublayers: BoolArray | None = None
    ) -> list[Answer]:
        """One weight stream over views of one model."""
        ...

    def unroll(self, sequences: Sequences[Sequence], hidden: FloatArray, depth: int, least: float = 0.0) -> Guessed:
        """What the model's draft head guesses of the next `depth` tokens of each sequence.

        hidden: (sequences, hidden) of the rows that their newest tokens were drawn from. least: see
        `core.drafting.Unrolling`. All tokens before the newest must be cached (`Sequence.pending` is 1).
        Raises MethodError if the model has no draft head.
        """
        ...

    def price(self, drafted: int) -> float:
        """Estimated seconds of the coming step if all sequences that draft here add `drafted` rows together."""
        ...


class Workbench(Protocol):
    """What a method may try on a model before the first request. layers: how many the model has."""

    @property
    def layers(self) -> int: ...

    def seconds(self, rows: int, sublayers: BoolArray | None = None) -> float:
        """Estimated seconds of a weight stream of one sequence with that many rows, all read."""
        ...

    def agreement(self, sublayers: BoolArray) -> float:
        """On a sample of its own text: how often the model says the same with these sublayers as with all."""
        ...

    def load(self, name: str) -> Any:
        """What was saved for this model under that name, or None."""
        ...

    def save(self, name: str, value: Any) -> None:
        """Keep plain data with the model's cache."""
        ...
