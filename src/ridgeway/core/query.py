"""One step, one plan: what a sequence asks of a weight stream, what it is answered, and what it keeps.

A query is some rows (tokens at positions), which rows see which, and what is to be read out of them. Autoregressive
decoding, chunked prefill, verification of drafts, lookahead and diffusion differ in nothing else, which is why requests
that use different methods share one batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from ridgeway.core.arrays import NO_INTS, AnyArray, BoolArray, DoubleArray, FloatArray, IntArray, ints, span
from ridgeway.core.visibility import CAUSAL, Visibility

Seeds = np.ndarray[tuple[int], np.dtype[np.uint64]]
Measure = Literal["logprob", "confidence", "margin", "entropy", "distribution", "logits", "hidden"]


class Span(NamedTuple):
    """Cached slots `start` to `stop - 1` of a sequence; the slot of a committed token is its position."""

    start: int
    stop: int


# Rows whose tokens are all sampled, and of which no given token is asked, as views of one array each: nearly all.
_ALL_SAMPLED: BoolArray = np.ones(4096, dtype=np.bool_)
_NONE_ASKED: IntArray = np.full(4096, -1, dtype=np.int64)
for _shared in (_ALL_SAMPLED, _NONE_ASKED):
    _shared.setflags(write=False)


def _first(count: int, shared: AnyArray) -> AnyArray:
    """`count` numbers like those of `shared`, which are all the same."""
    return shared[:count] if count <= len(shared) else np.full(count, shared[0])


@dataclass(frozen=True)
class Readout:
    """Which rows are read, and what is read out of them. n rows are read, the others need no head.

    rows: (n,) indexes of rows of the query. predicts: (n,) absolute position of the token that each row predicts; the
    noise of a sampled token depends on it. sampled: (n,) draw the token with the request's sampling parameters (True)
    or take the argmax of the logits (False). given: (n,) token whose log-probability is wanted, -1 for none.
    top: how many of the likeliest tokens' log-probabilities are wanted. forbid: ids that are never chosen.
    measures: `logprob` of the chosen token; `confidence`, its probability; `margin` between the two likeliest
    probabilities; `entropy` in nats; `distribution`, what the token was drawn from, after temperature, penalties and
    truncation; `logits`: these two are whole rows of the vocabulary (for tests, `LLM.logits` and `accept=ratio`);
    `hidden`, the residual stream behind the last layer, before the final norm: what draft heads go on from.
    All other measures are of the model's own distribution, before temperature, penalties and truncation.
    """

    rows: IntArray
    predicts: IntArray
    sampled: BoolArray
    given: IntArray
    top: int = 0
    forbid: tuple[int, ...] = ()
    measures: frozenset[Measure] = frozenset()

    @classmethod
    def of(
        cls,
        rows: Sequence[int] | IntArray,
        predicts: Sequence[int] | IntArray,
        *,
        sampled: bool | BoolArray = True,
        given: Sequence[int] | IntArray | None = None,
        top: int = 0,
        forbid: tuple[int, ...] = (),
        measures: frozenset[Measure] | set[Measure] = frozenset(),
    ) -> "Readout":
        """A readout with defaults filled in: sampled tokens and nothing else."""
        rows = ints(rows)
        chosen = _first(len(rows), _ALL_SAMPLED)
        if sampled is not True:
            chosen = np.empty(len(rows), dtype=np.bool_)
            chosen[:] = sampled
        asked = _first(len(rows), _NONE_ASKED) if given is None else ints(given)
        return cls(rows, ints(predicts), chosen, asked, top, forbid, frozenset(measures))

    def __len__(self) -> int:
        return len(self.rows)

    def then(self, other: "Readout") -> "Readout":
        """Both readouts as one, `other`'s rows last; forbidden ids are those of the first (others only measure)."""
        return Readout(
            rows=np.concatenate([self.rows, other.rows]),
            predicts=np.concatenate([self.predicts, other.predicts]),
            sampled=np.concatenate([self.sampled, other.sampled]),
            given=np.concatenate([self.given, other.given]),
            top=max(self.top, other.top),
            forbid=self.forbid,
            measures=self.measures | other.measures,
        )


NOTHING = Readout.of([], [])


@dataclass(frozen=True)
class Query:
    """What one sequence asks of the next weight stream; R rows.

    tokens, positions: (R,). visibility: which rows of the query a row sees. context: cached slots that all rows see;
    None: the whole cached prefix. parent: (R,) the row before this one in its path, -1 for the last committed token:
    the history that penalties and stops look at. read: what is read out. masked: (R,) rows whose token stands for one
    that is not known, and is in no history; None: none.
    """

    tokens: IntArray
    positions: IntArray
    visibility: Visibility = CAUSAL
    read: Readout = NOTHING
    parent: IntArray = field(default_factory=lambda: NO_INTS)
    context: tuple[Span, ...] | None = None
    masked: BoolArray | None = None

    def __post_init__(self) -> None:
        rows = len(self.tokens)
        assert rows > 0, "a query has at least one row"
        assert len(self.positions) == rows, (rows, len(self.positions))
        if len(self.parent) != rows:
            object.__setattr__(self, "parent", span(-1, rows - 1))
        else:
            assert all(above < row for row, above in enumerate(self.parent.tolist())), "a row's parent comes before it"
        if len(self.read):
            read = self.read.rows.tolist()
            assert 0 <= min(read) <= max(read) < rows

    def __len__(self) -> int:
        return len(self.tokens)

    def reading(self, read: Readout) -> "Query":
        return replace(self, read=read)

    def path(self, row: int) -> list[int]:
        """The tokens of the rows from the first of `row`'s path to `row` itself."""
        tokens: list[int] = []
        while row >= 0:
            tokens.append(int(self.tokens[row]))
            row = int(self.parent[row])
        return tokens[::-1]


class Answer(NamedTuple):
    """What was read out of one query: arrays over its n read rows; None: not asked for.

    tokens: (n,) chosen tokens. logprobs: (n,) of the chosen tokens. ranks: (n,) how many tokens are likelier than the
    chosen one, plus 1. given: (n,) log-probabilities of the given tokens, given_ranks their ranks. top_ids,
    top_logprobs: (n, top), likeliest first. confidence, margin, entropy: (n,). distribution, logits: (n, vocabulary).
    hidden: (n, hidden).
    """

    tokens: IntArray
    logprobs: DoubleArray | None = None
    ranks: IntArray | None = None
    given: DoubleArray | None = None
    given_ranks: IntArray | None = None
    top_ids: IntArray | None = None
    top_logprobs: DoubleArray | None = None
    confidence: DoubleArray | None = None
    margin: DoubleArray | None = None
    entropy: DoubleArray | None = None
    distribution: DoubleArray | None = None
    logits: FloatArray | None = None
    hidden: FloatArray | None = None

    def part(self, start: int, stop: int) -> "Answer":
        """The answer of read rows `start` to `stop - 1`."""
        if start == 0 and stop == len(self.tokens):
            return self
        cut: list[Any] = [None if array is None else array[start:stop] for array in self]
        return Answer(*cut)


@dataclass(frozen=True)
class Reveal:
    """What a denoising step did to its canvas, the positions that it denoises together.

    start: absolute position of the canvas' first token. canvas: (c,) its tokens after the step, -1 where masked.
    positions: (n,) absolute positions that were masked and read. proposed: (n,) the token drawn for each. confidence:
    (n,) the model's probability of it, None if nobody asked. revealed: (n,) which of them became known. remasked: (m,)
    absolute positions that were masked again.
    """

    start: int
    canvas: IntArray
    positions: IntArray
    proposed: IntArray
    confidence: DoubleArray | None
    revealed: BoolArray
    remasked: IntArray = field(default_factory=lambda: NO_INTS)


@dataclass(frozen=True)
class Commit:
    """What a method keeps of an answer.

    tokens: (t,) become final, in order; the engine applies stops and limits. keep: rows whose K/V become cached, in
    order; all others are dropped. Kept rows hold the committed tokens that follow the cached ones. source: (t,) which
    read row each token came from (for its log-probability), -1 if from an earlier step; by default row 0, 1, 2, ...
    earlier: by index of a token whose source is -1, the answer of one row that it was read out of.
    hold: rows whose K/V stay in the slots after the cached ones, for queries to come, though their tokens are not
    final: approximate caches live on it. It replaces what was held; None leaves that as it is. A preemption loses
    what is held, and `Sequence.held` is then 0. reveal: of a denoising step, what it revealed.
    """

    tokens: IntArray
    keep: IntArray
    source: IntArray | None = None
    earlier: Mapping[int, "Answer"] = field(default_factory=dict)
    hold: IntArray | None = None
    reveal: Reveal | None = None


@dataclass(frozen=True)
class Adjustment:
    """What sampling parameters do to the logits of a few ids of one row.

    A logit becomes `logit / repetition` (`logit * repetition` where negative), plus `added` (-inf: never chosen).
    """

    ids: IntArray  # (k,)
    repetition: DoubleArray  # (k,)
    added: DoubleArray  # (k,)


@dataclass(frozen=True)
class Selection:
    """How the tokens of all N read rows of a batch are chosen: sampling parameters as arrays over the rows."""

    sampled: BoolArray  # (N,) False: plain argmax of the logits
    temperature: DoubleArray  # (N,)
    top_k: IntArray  # (N,) 0: all
    top_p: DoubleArray  # (N,)
    min_p: DoubleArray  # (N,)
    seed: Seeds  # (N,)
    sample: IntArray  # (N,)
    position: IntArray  # (N,)
    adjustments: Mapping[int, Adjustment]  # by row


@dataclass(frozen=True)
class Entry:
    """A query with its place in the K/V cache.

    cached: c, how many slots of the sequence hold K/V already, held ones included. slots: (c + R,) physical slot of
    each cached token, then of each row.
    """

    query: Query
    cached: int
    slots: IntArray

    def context_slots(self) -> IntArray:
        """Logical indexes, below `cached`, of the cached slots that the rows see, in order."""
        if self.query.context is None:
            return span(0, self.cached)
        return np.concatenate([NO_INTS, *(np.arange(*part, dtype=np.int64) for part in self.query.context)])


@dataclass(frozen=True)
class Batch:
    """The queries of one weight stream. sublayers: (layers, 2) which attention and MLP sublayers run; None: all."""

    entries: tuple[Entry, ...]
    selection: Selection
    sublayers: BoolArray | None = None

    @cached_property
    def rows(self) -> int:
        return sum(len(entry.query) for entry in self.entries)

    @cached_property
    def reads(self) -> int:
        return len(self.read_rows)

    @cached_property
    def read_rows(self) -> IntArray:
        """Which rows of the batch are read, in order: (reads,)."""
        first = 0
        rows: list[int] = []
        for entry in self.entries:
            rows += [first + row for row in entry.query.read.rows.tolist()]
            first += len(entry.query)
        return ints(rows)


@dataclass(frozen=True)
class Forward:
    """What a weight stream returned: an answer for each entry, and what the executor counted on the way."""

    answers: tuple[Answer, ...]
    counters: Mapping[str, float] = field(default_factory=dict)
