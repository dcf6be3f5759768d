"""What a caller may ask of the text: the names and meanings that users of vLLM know."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite, isnan
from typing import Any

from ridgeway.core.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are chosen and when a request ends. Wrong values raise `RequestError` at once.

    n: samples for each prompt; they share the prompt's K/V.
    temperature: 0 takes the likeliest token, ties to the lowest id. top_p, top_k (0: all), min_p: as usual.
    seed: same seed, same tokens, in any batch and with any lossless method; None: a new seed for each request.
    max_tokens, min_tokens: bounds of the answer; None: until the model's context is full.
    stop: strings that end the answer (and are cut from it); stop_token_ids: ids that do; ignore_eos: the model's own
    end tokens do not. include_stop_str_in_output keeps the stop string.
    logprobs, prompt_logprobs: how many of the likeliest tokens' log-probabilities to report beside the chosen one's.
    presence_penalty, frequency_penalty: subtracted for tokens of the answer; repetition_penalty divides (or multiplies)
    the logits of tokens of prompt and answer (Keskar et al. 2019); logit_bias: added to the logits of given ids.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    max_tokens: int | None = 16
    min_tokens: int = 0
    stop: tuple[str, ...] | list[str] | str | None = None
    stop_token_ids: tuple[int, ...] | list[int] | None = None
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        object.__setattr__(self, "stop", stop)
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids or ()))
        try:
            bias = {int(token): float(value) for token, value in dict(self.logit_bias or {}).items()}
        except (TypeError, ValueError):
            raise RequestError(f"logit_bias maps token ids to numbers, not {self.logit_bias!r}") from None
        object.__setattr__(self, "logit_bias", bias)
        if self.top_k == -1:  # vLLM's older spelling of "all"
            object.__setattr__(self, "top_k", 0)
        self._check()

    def _check(self) -> None:
        whole = {
            "n": 1,
            "top_k": 0,
            "max_tokens": 1,
            "min_tokens": 0,
            "logprobs": 0,
            "prompt_logprobs": 0,
        }
        for name, least in whole.items():
            value = getattr(self, name)
            optional = name in ("max_tokens", "logprobs", "prompt_logprobs")
            if value is None and optional:
                continue
            _expect(_is_whole(value) and value >= least, name, value, f"a whole number of at least {least}")
        _expect(
            self.seed is None or (_is_whole(self.seed) and 0 <= self.seed < 2**64),
            "seed",
            self.seed,
            "a whole number from 0 to 2**64 - 1, or None",
        )
        _expect(
            _is_number(self.temperature) and self.temperature >= 0,
            "temperature",
            self.temperature,
            "0 or more",
        )
        _expect(_is_number(self.top_p) and 0 < self.top_p <= 1, "top_p", self.top_p, "above 0, at most 1")
        _expect(_is_number(self.min_p) and 0 <= self.min_p <= 1, "min_p", self.min_p, "from 0 to 1")
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            _expect(_is_number(value) and -2 <= value <= 2, name, value, "from -2 to 2")
        _expect(
            _is_number(self.repetition_penalty) and self.repetition_penalty > 0,
            "repetition_penalty",
            self.repetition_penalty,
            "above 0 (1 changes nothing)",
        )
        _expect(
            all(isinstance(text, str) and text for text in self.stop or ()),
            "stop",
            self.stop,
            "one string or several, none empty",
        )
        _expect(
            all(_is_whole(token) and token >= 0 for token in self.stop_token_ids or ()),
            "stop_token_ids",
            self.stop_token_ids,
            "token ids",
        )
        _expect(
            all(token >= 0 and not isnan(value) for token, value in self.logit_bias.items()),
            "logit_bias",
            self.logit_bias,
            "numbers by token id",
        )
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise RequestError(f"min_tokens={self.min_tokens} is more than max_tokens={self.max_tokens}")

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return tuple(self.stop or ())

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return tuple(self.stop_token_ids or ())

    @property
    def penalizes(self) -> bool:
        """Whether the choice of a token depends on the tokens before it other than through the model."""
        return self.presence_penalty != 0 or self.frequency_penalty != 0 or self.repetition_penalty != 1

    def but(self, **changes: Any) -> "SamplingParams":
        """A copy with `changes`."""
        return replace(self, **changes)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _expect(holds: bool, name: str, value: object, would_do: str) -> None:
    if not holds:
        raise RequestError(f"{name}={value!r}: expected {would_do}")
