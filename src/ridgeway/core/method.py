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

from ridgeway.core.arrays import NO_INTS, BoolArray, DoubleArray, IntArray
from ridgeway.core.query import Answer, Commit, Query
from ridgeway.core.sequence import Sequence
from ridgeway.core.traits import ModelTraits
from ridgeway.core.visibility import Visibility


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


NO_DRAFT = DraftTree(NO_INTS, NO_INTS, np.zeros(0))


class DecodingMethod(ABC):
    """A way to turn weight streams into tokens. Options are fields, so that `name:key=value` can set them.

    lossless: whether the tokens are those of plain autoregressive decoding, token for token;
    `ridgeway.testing.check_lossless` tests the claim. needs: one phrase for people, shown by `ridgeway methods`.
    """

    name: ClassVar[str]
    lossless: ClassVar[bool] = True
    needs: ClassVar[str] = "a causal model"
    drafter: "Drafter | None" = None

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls) and not hasattr(cls, "name"):
            cls.name = cls.__name__.lower()

    def refusal(self, traits: ModelTraits) -> str | None:
        """Why this method cannot run a model with these traits, as the end of a sentence; None if it can."""
        if not traits.autoregressive:
            return f"it needs {self.needs}, and this model's attention is {traits.attention}"
        return None

    def visibility(self, traits: ModelTraits) -> Visibility:
        """How committed tokens see each other when their K/V are computed: what may share cached prefixes."""
        return traits.visibility

    def start(self, sequence: Sequence) -> Any:
        """State of a new sequence, kept in `sequence.state`: host data that survives preemption."""
        return None

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
    """Something that guesses the next tokens of sequences, to be verified by a method."""

    @abstractmethod
    def propose(self, sequences: Sequences[Sequence], depths: Sequences[int], streams: "Streams") -> list[DraftTree]:
        """A tree of at most `depths[i]` tokens for each sequence (it may be empty)."""

    def observe(self, sequence: Sequence, query: Query, answer: Answer, commit: Commit) -> None:  # noqa: B027
        """Learn from what was verified."""


class View(Protocol):
    """A fork of a sequence, with K/V of its own behind the shared prefix; tokens are extended by the drafter."""

    tokens: list[int]
    cached: int


class Streams(Protocol):
    """Weight streams for a drafter that needs its own; all of them are counted."""

    def fork(self, sequence: Sequence) -> View: ...

    def forward(
        self, views: Sequences[View], queries: Sequences[Query], sublayers: BoolArray | None = None
    ) -> list[Answer]: ...
