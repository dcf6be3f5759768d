"""What a caller gets back: names as vLLM users know them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


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
class CompletionOutput:
    """One sample. finish_reason: `stop`, `length`, `abort` or `error`; stop_reason: the stop string or id.

    drafts: of methods that draft. explanation: what the method chose and why, if it says so.
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
    """What one sample gained in one step: new text (whole characters only) and the tokens committed."""

    request_id: str
    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None = None
