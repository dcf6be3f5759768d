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
class CompletionOutput:
    """One sample. finish_reason: `stop`, `length`, `abort` or `error`; stop_reason: the stop string or id."""

    index: int
    text: str
    token_ids: list[int]
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    cumulative_logprob: float | None = None
    logprobs: list[Mapping[int, Logprob]] | None = None


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
