"""What a caller gets back: names as vLLM users know them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import numpy as np

from ridgeway.core.query import Commit, Query


class Logprob(NamedTuple):
    """logprob: natural logarithm. rank: 1 for the likeliest token. decoded_token: its text, if known."""

    logprob: float
    rank: int
    decoded_token: str | None = None


@dataclass
class DraftCounts:
    """What became of the drafts of one sample, by position: index 0 is the first drafted token.

    steps: verifications of at least one drafted token. longest: sum of the lengths of their longest paths. whole: how
    many were accepted to the end of a longest path. drafted: tokens that were drafted at a position (a tree may hold
    several). reached: steps in which all before the position was accepted and something was drafted there, so that
    the model's verdict on it is known. accepted: steps in which a token of the position was accepted.
    """

    steps: int = 0
    longest: int = 0
    whole: int = 0
    drafted: list[int] = field(default_factory=list)
    reached: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)

    def record(self, drafted: list[int], accepted: int) -> None:
        """A step with drafted[i] tokens at position i, of which the first `accepted` positions were accepted."""
        self.steps += 1
        self.longest += len(drafted)
        self.whole += accepted == len(drafted)
        missing = len(drafted) - len(self.drafted)
        for counts in (self.drafted, self.reached, self.accepted):
            counts.extend([0] * missing)
        for position, tokens in enumerate(drafted):
            self.drafted[position] += tokens
            self.reached[position] += position <= accepted
            self.accepted[position] += position < accepted

    @property
    def acceptance(self) -> list[float]:
        """By position: how often it was accepted when all before it was."""
        return [accepted / max(1, reached) for accepted, reached in zip(self.accepted, self.reached, strict=True)]

    @property
    def accepted_per_step(self) -> float:
        return sum(self.accepted) / self.steps if self.steps else 0.0

    @property
    def words(self) -> str:
        """The counts in a line for people."""
        if not self.steps:
            return "drafts: none"
        shares = ", ".join(f"{100 * share:.0f}" for share in self.acceptance[:8])
        return (
            f"drafts: {self.longest / self.steps:.1f} tokens deep, {self.accepted_per_step:.1f} accepted "
            f"({shares} % by position where reached): {self.label}"
        )

    @property
    def label(self) -> str:
        """How the drafts fit the model; the first rule that holds.

        `too few drafts to tell`: fewer than 8 steps. `drafter too weak`: the first token is refused more often than
        four times of five, so no other length would help. `too short`: more than half of the drafts are accepted
        whole: longer ones would go on. `too long`: of a draft's length less than a third is accepted. Else `good`.
        """
        if self.steps < 8:
            return "too few drafts to tell"
        if self.accepted[0] < 0.2 * self.steps:
            return "drafter too weak"
        if self.whole > 0.5 * self.steps:
            return "too short"
        if 3 * sum(self.accepted) < self.longest:
            return "too long"
        return "good"


@dataclass
class RevealCounts:
    """What became of the rows of one sample's denoising steps.

    streams: denoising steps. rows: of the canvas that they computed. masked: positions that they could have revealed.
    revealed: that they did. left: weight streams that an early stop saved: what the rest of the answer would have taken
    at least (`exact`: precisely). approximate: what makes the K/V approximate, if so.
    """

    streams: int = 0
    rows: int = 0
    masked: int = 0
    revealed: int = 0
    left: int = 0
    exact: bool = True
    approximate: str | None = None

    def ended(self, stopped: bool) -> "RevealCounts":
        """The counts of an answer that ended; only a stop saves what was left."""
        return self if stopped else replace(self, left=0, exact=True)

    def __add__(self, other: "RevealCounts") -> "RevealCounts":
        """The counts of two answers together."""
        return RevealCounts(
            self.streams + other.streams,
            self.rows + other.rows,
            self.masked + other.masked,
            self.revealed + other.revealed,
            self.left + other.left,
            self.exact and other.exact,
            self.approximate or other.approximate,
        )

    @property
    def revealed_share(self) -> float:
        """Of the masked positions that a step could reveal, the share that it did reveal."""
        return self.revealed / self.masked if self.masked else 0.0

    @property
    def in_vain(self) -> float:
        """Share of the canvas' rows that were computed without revealing anything."""
        return 1 - self.revealed / self.rows if self.rows else 0.0

    @property
    def words(self) -> str:
        """The counts in a line for people."""
        if not self.streams:
            return "denoising: none"
        line = (
            f"denoising: {self.revealed / self.streams:.1f} of {self.masked / self.streams:.1f} masked positions "
            f"revealed per stream ({100 * self.revealed_share:.0f} %), {100 * self.in_vain:.0f} % of its rows in vain"
        )
        if self.left:
            streams = "weight stream" if self.left == 1 else "weight streams"
            line += f"; the early stop saved {'' if self.exact else 'at least '}{self.left} {streams}"
        return f"{line}; {self.approximate}" if self.approximate else line


@dataclass(frozen=True)
class StreamTrace:
    """What one weight stream did for one sample; with `SamplingParams(trace=True)` there is one for each.

    Of any method: rows: that it computed for the sample; kept: how many of them left K/V in the cache; revealed:
    (position, token) of the tokens that became known, absolute positions from the prompt's first token on.
    Of methods that denoise, besides: start and canvas: the positions that are denoised together, from `start` on, as
    they are after the stream, None where masked; masked: positions that the stream could have revealed, proposed: the
    token that it drew for each, confidence: the model's probability of that token; remasked: positions that were
    revealed earlier and are masked again. A stream that only computes K/V (prefill, the commit of a block) has no
    `masked`.
    """

    rows: int
    kept: int
    revealed: tuple[tuple[int, int], ...]
    start: int = 0
    canvas: tuple[int | None, ...] = ()
    masked: tuple[int, ...] = ()
    proposed: tuple[int, ...] = ()
    confidence: tuple[float, ...] = ()
    remasked: tuple[int, ...] = ()

    @property
    def in_vain(self) -> float:
        """Share of the rows that brought nothing: neither a kept K/V nor, where positions are denoised, a token."""
        useful = self.kept + (len(self.revealed) if self.masked else 0)
        return max(0.0, 1 - useful / self.rows)

    @property
    def revealed_share(self) -> float:
        """Of the masked positions that the stream could reveal, the share that it did reveal."""
        return len(self.revealed) / len(self.masked) if self.masked else 0.0

    @classmethod
    def of(cls, query: Query, commit: Commit, first: int, accepted: list[int]) -> Self:
        """The trace of a query whose answer led to `commit`; the `accepted` tokens stand from position `first` on."""
        rows, kept, reveal = len(query), len(commit.keep), commit.reveal
        if reveal is None:
            return cls(rows, kept, tuple((first + place, token) for place, token in enumerate(accepted)))
        chosen = np.flatnonzero(reveal.revealed)
        return cls(
            rows,
            kept,
            tuple((int(reveal.positions[place]), int(reveal.proposed[place])) for place in chosen),
            start=reveal.start,
            canvas=tuple(None if token < 0 else int(token) for token in reveal.canvas),
            masked=tuple(int(position) for position in reveal.positions),
            proposed=tuple(int(token) for token in reveal.proposed),
            confidence=() if reveal.confidence is None else tuple(float(value) for value in reveal.confidence),
            remasked=tuple(int(position) for position in reveal.remasked),
        )


@dataclass
class CompletionOutput:
    """One sample. finish_reason: `stop`, `length`, `abort` or `error`; stop_reason: the stop string or id.

    drafts: of methods that draft; reveals: of methods that denoise. explanation: what the method chose and why, if it
    says so. trace: with `SamplingParams(trace=True)`, what each weight stream did, in order.
    """

    index: int
    text: str
    token_ids: list[int]
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    cumulative_logprob: float | None = None
    logprobs: list[Mapping[int, Logprob]] | None = None
    drafts: DraftCounts | None = None
    explanation: tuple[str, ...] = ()
    reveals: RevealCounts | None = None
    trace: list[StreamTrace] | None = None


@dataclass
class RequestMetrics:
    """Seconds on a monotonic clock since the request came, and the weight streams that worked for it."""

    first_token_seconds: float | None = None
    finished_seconds: float | None = None
    weight_streams: int = 0
    preemptions: int = 0


@dataclass
class RequestOutput:
    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool = False
    prompt_logprobs: list[Mapping[int, Logprob] | None] | None = None
    num_cached_tokens: int = 0
    metrics: RequestMetrics = field(default_factory=RequestMetrics)
    error: str | None = None


@dataclass(frozen=True)
class Delta:
    """What one sample gained in one step: new text (whole characters only) and the tokens committed.

    trace: what the weight stream did, if the request asked for it (`SamplingParams(trace=True)`): then every weight
    stream that works for the sample has a delta, also one that commits nothing, such as a denoising step that reveals
    tokens behind a mask.
    """

    request_id: str
    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None = None
    trace: StreamTrace | None = None
