"""A request and its samples on their way through the engine."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter

from ridgeway.cache.pages import PageTable
from ridgeway.core.method import DecodingMethod
from ridgeway.core.outputs import CompletionOutput, Logprob, RequestMetrics, RequestOutput, StreamTrace
from ridgeway.core.query import Answer, Commit
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.core.sequence import Sequence
from ridgeway.core.text import Detokenizer
from ridgeway.engine.stopping import AnswerText

TokenText = Callable[[int], str]


@dataclass(frozen=True)
class Request:
    """What a caller adds to the engine. prompt: token ids. new_text: makes a detokenizer for one answer."""

    request_id: str
    prompt: list[int]
    params: SamplingParams
    method: DecodingMethod
    prompt_text: str | None = None
    new_text: Callable[[], Detokenizer] | None = None
    token_text: TokenText | None = None


@dataclass(eq=False)
class Running:
    """A sequence with what the engine keeps for it: its pages, its text, the log-probabilities of its tokens.

    arrival: its place in the order of arrival. leader: the first sample of the same request, whose prompt the others
    take over; None for the first itself. shareable: whether all its K/V are what the table's scope says.
    idle_streams: how many in a row brought nothing. trace: of a request that asks for it.
    """

    sequence: Sequence
    table: PageTable
    text: AnswerText
    arrival: int
    leader: "Running | None" = None
    logprobs: list[Mapping[int, Logprob]] | None = None
    cumulative_logprob: float | None = None
    shareable: bool = True
    idle_streams: int = 0
    trace: list[StreamTrace] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether its prompt is as cached as it will be: the first sample computes it for all of them."""
        if self.leader is None or self.leader.sequence.finished:
            return True
        unit = self.sequence.method.visibility(self.sequence.traits).unit
        return unit is None or self.leader.sequence.cached >= (self.sequence.prompt_length - 1) // unit * unit


@dataclass(eq=False)
class Tracked:
    """A request that the engine works for, and what is known of it so far."""

    request: Request
    samples: list[Running]
    arrived: float = field(default_factory=perf_counter)
    metrics: RequestMetrics = field(default_factory=RequestMetrics)
    prompt_logprobs: list[Mapping[int, Logprob] | None] | None = None
    cached_prompt_tokens: int = 0
    error: str | None = None

    @property
    def finished(self) -> bool:
        return all(sample.sequence.finished for sample in self.samples)

    def output(self) -> RequestOutput:
        completions = [
            CompletionOutput(
                index=sample.sequence.sample,
                text=sample.text.text,
                token_ids=sample.sequence.tokens[sample.sequence.prompt_length :],
                finish_reason=sample.sequence.finish_reason,
                stop_reason=sample.sequence.stop_reason,
                cumulative_logprob=sample.cumulative_logprob,
                logprobs=sample.logprobs,
                drafts=sample.sequence.drafts,
                explanation=_explained(sample.sequence),
                reveals=reveals.ended(sample.sequence.finish_reason == "stop") if reveals is not None else None,
                trace=sample.trace if self.request.params.trace else None,
            )
            for sample in self.samples
            for reveals in (sample.sequence.reveals,)
        ]
        return RequestOutput(
            request_id=self.request.request_id,
            prompt=self.request.prompt_text,
            prompt_token_ids=list(self.request.prompt),
            outputs=completions,
            finished=self.finished,
            prompt_logprobs=self.prompt_logprobs,
            num_cached_tokens=self.cached_prompt_tokens,
            metrics=self.metrics,
            error=self.error,
        )

    def record_logprobs(self, sample: Running, answer: Answer, tokens: list[int], commit: Commit) -> None:
        """Log-probabilities of the accepted `tokens` of a commit, which says where in which answer they were read."""
        asked = self.request.params.logprobs
        if asked is None:
            return
        sample.logprobs = [] if sample.logprobs is None else sample.logprobs
        for place, token in enumerate(tokens):
            row = place if commit.source is None else int(commit.source[place])
            read = answer
            if row < 0 and place in commit.earlier:
                read, row = commit.earlier[place], 0
            if row < 0 or read.logprobs is None or read.ranks is None:
                sample.logprobs.append({})
                continue
            chosen = Logprob(float(read.logprobs[row]), int(read.ranks[row]), self._text_of(token))
            sample.logprobs.append(self._with_likeliest(read, row, token, chosen, asked))
            sample.cumulative_logprob = (sample.cumulative_logprob or 0.0) + chosen.logprob

    def record_prompt_logprobs(self, answer: Answer, positions: list[int]) -> None:
        """`answer` holds the log-probabilities of the prompt's own tokens at `positions`."""
        asked = self.request.params.prompt_logprobs
        if asked is None:
            return
        if self.prompt_logprobs is None:
            self.prompt_logprobs = [None] * len(self.request.prompt)  # nothing predicts the first token
        if answer.given is None or answer.given_ranks is None:
            return
        for row, position in enumerate(positions):
            token = self.request.prompt[position]
            given = Logprob(float(answer.given[row]), int(answer.given_ranks[row]), self._text_of(token))
            self.prompt_logprobs[position] = self._with_likeliest(answer, row, token, given, asked)

    def _with_likeliest(self, answer: Answer, row: int, token: int, chosen: Logprob, count: int) -> dict[int, Logprob]:
        entry = {token: chosen}
        if count and answer.top_ids is not None and answer.top_logprobs is not None:
            for rank in range(min(count, answer.top_ids.shape[1])):
                other = int(answer.top_ids[row, rank])
                value = float(answer.top_logprobs[row, rank])
                entry.setdefault(other, Logprob(value, rank + 1, self._text_of(other)))
        return entry

    def _text_of(self, token: int) -> str | None:
        return None if self.request.token_text is None else self.request.token_text(token)


def new_seed() -> int:
    """A seed for a request that names none."""
    return int.from_bytes(os.urandom(8), "little")


def _explained(sequence: Sequence) -> tuple[str, ...]:
    """What its method says; that is for people to read, and a fault in it costs no answer."""
    try:
        return sequence.method.explain(sequence)
    except Exception as fault:
        return (f"method {sequence.method.name!r} cannot explain itself: {type(fault).__name__}: {fault}",)
