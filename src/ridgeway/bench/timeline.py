"""When each token of a group of requests was there: the one record from which every contender is judged.

A group is prompts that are given at once and decoded together. Its prefill ends when the last of them has its first
token; tokens after that moment are decode. Times are those that a caller sees, so host work between weight streams
counts; nobody waits for requests, so there is no idle time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ridgeway.roofline.report import Phase


@dataclass(frozen=True)
class Timeline:
    """One run of one group.

    prompt_tokens: of each prompt. arrivals: of each request, when each token was there, in seconds since the group
    was given. token_ids: of each request's answer; None if a contender does not tell. decode: the weight streams of
    the decode phase; None for other engines. streams_seconds: seconds inside those weight streams and the prefill's.
    """

    prompt_tokens: tuple[int, ...]
    arrivals: tuple[tuple[float, ...], ...]
    token_ids: tuple[tuple[int, ...], ...] | None = None
    prefill: Phase | None = None
    decode: Phase | None = None

    @classmethod
    def of(
        cls,
        prompts: Sequence[Sequence[int]],
        arrivals: Sequence[Sequence[float]],
        token_ids: Sequence[Sequence[int]] | None,
        prefill: Phase | None = None,
        decode: Phase | None = None,
    ) -> "Timeline":
        return cls(
            tuple(len(prompt) for prompt in prompts),
            tuple(tuple(times) for times in arrivals),
            None if token_ids is None else tuple(tuple(ids) for ids in token_ids),
            prefill,
            decode,
        )

    def wrong_count(self, max_tokens: int) -> str | None:
        """What is wrong if a request has not exactly `max_tokens` tokens."""
        counts = [len(times) for times in self.arrivals]
        if len(counts) != len(self.prompt_tokens):
            return f"answered {len(counts)} prompts where {len(self.prompt_tokens)} were given"
        wrong = next((count for count in counts if count != max_tokens), None)
        return None if wrong is None else f"produced {wrong} tokens where {max_tokens} were asked for"

    @property
    def first_token_seconds(self) -> tuple[float, ...]:
        """Of each request."""
        return tuple(times[0] for times in self.arrivals)

    @property
    def prefill_seconds(self) -> float:
        """Until every request has its first token."""
        return max(self.first_token_seconds)

    @property
    def decode_seconds(self) -> float:
        """From then to the last token of the group."""
        return max(times[-1] for times in self.arrivals) - self.prefill_seconds

    @property
    def decode_tokens(self) -> int:
        """Tokens after the prefill, of all requests."""
        end = self.prefill_seconds
        return sum(time > end for times in self.arrivals for time in times)

    def own_decode(self, place: int) -> tuple[int, float]:
        """Of one request: tokens after its first moment, and the seconds that they took."""
        times = self.arrivals[place]
        return sum(time > times[0] for time in times), times[-1] - times[0]
