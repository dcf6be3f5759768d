"""A sequence is a list of tokens and a few integers with asserted inequalities."""

from typing import TYPE_CHECKING, Any

from ridgeway.core.outputs import DraftCounts, RevealCounts
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.core.traits import ModelTraits

if TYPE_CHECKING:
    from ridgeway.core.method import DecodingMethod


class Sequence:
    """One sample of one request, on its way.

    tokens: prompt, then answer; all of them are committed (final). cached: how many of them have K/V in the cache.
    held: how many slots after those hold K/V that are not of final tokens, see `Commit.hold`.
    `0 <= cached <= committed` always holds. Prefill is not a phase: a sequence whose `pending` tokens are many simply
    asks for many rows.
    """

    def __init__(
        self,
        request_id: str,
        sample: int,
        prompt: list[int],
        params: SamplingParams,
        seed: int,
        method: "DecodingMethod",
        traits: ModelTraits,
    ) -> None:
        self.request_id = request_id
        self.sample = sample
        self.tokens = list(prompt)
        self.prompt_length = len(prompt)
        self.params = params
        self.seed = seed
        self.method = method
        self.traits = traits
        self.cached = 0
        self.held = 0
        self.finish_reason: str | None = None
        self.stop_reason: int | str | None = None
        self.drafts: DraftCounts | None = None  # kept by methods that draft
        self.reveals: RevealCounts | None = None  # kept by methods that denoise
        self.state: Any = method.start(self)

    @property
    def key(self) -> tuple[str, int]:
        return (self.request_id, self.sample)

    @property
    def committed(self) -> int:
        return len(self.tokens)

    @property
    def pending(self) -> int:
        """Committed tokens without K/V; at least the last one, whose row predicts what follows."""
        return len(self.tokens) - self.cached

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_length

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def max_committed(self) -> int:
        """Length at which the answer, or the model's context, is full."""
        room = self.traits.max_positions
        return room if self.params.max_tokens is None else min(room, self.prompt_length + self.params.max_tokens)

    def extend(self, tokens: list[int], kept: int) -> None:
        """Commit `tokens` and let `kept` more of the committed tokens count as cached."""
        self.tokens.extend(tokens)
        self.cached += kept
        assert 0 <= self.cached <= self.committed, (self.cached, self.committed)

    def __repr__(self) -> str:
        return f"Sequence({self.request_id}#{self.sample}, committed={self.committed}, cached={self.cached})"
