"""What a caller may ask of the text: the names and meanings that users of vLLM know."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from numbers import Integral, Real
from typing import Any

from ridgeway.core.errors import RequestError

_COLDEST = 0.01  # below it, differences of logits that are mere rounding would decide


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
    trace: report what every weight stream did, see `StreamTrace`; streams it too, step by step.
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
    trace: bool = False

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop or ()
        _expect(isinstance(stop, list | tuple), "stop", self.stop, "one string or several")
        object.__setattr__(self, "stop", tuple(stop))
        ends = self.stop_token_ids or ()
        _expect(isinstance(ends, list | tuple), "stop_token_ids", self.stop_token_ids, "a list of token ids")
        object.__setattr__(self, "stop_token_ids", tuple(ends))
        bias = self.logit_bias or {}
        _expect(
            isinstance(bias, Mapping) and all(_is_whole(t) and _is_bias(v) for t, v in bias.items()),
            "logit_bias",
            self.logit_bias,
            "numbers from -1e6 to 1e6, or -inf, by token id",
        )
        object.__setattr__(self, "logit_bias", {int(token): float(value) for token, value in bias.items()})
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
            _is_number(self.temperature) and (self.temperature == 0 or _COLDEST <= self.temperature <= 100),
            "temperature",
            self.temperature,
            f"0 (always the likeliest token), or from {_COLDEST} to 100",
        )
        _expect(_is_number(self.top_p) and 0 < self.top_p <= 1, "top_p", self.top_p, "above 0, at most 1")
        _expect(_is_number(self.min_p) and 0 <= self.min_p <= 1, "min_p", self.min_p, "from 0 to 1")
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            _expect(_is_number(value) and -2 <= value <= 2, name, value, "from -2 to 2")
        _expect(
            _is_number(self.repetition_penalty) and 0.01 <= self.repetition_penalty <= 100,
            "repetition_penalty",
            self.repetition_penalty,
            "from 0.01 to 100 (1 changes nothing)",
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
        _expect(all(token >= 0 for token in self.logit_bias), "logit_bias", self.logit_bias, "token ids of at least 0")
        _expect(isinstance(self.trace, bool), "trace", self.trace, "True or False")
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
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def _is_bias(value: object) -> bool:
    return value == -inf or (_is_number(value) and abs(value) <= 1e6)  # type: ignore[arg-type]


def _expect(holds: bool, name: str, value: object, would_do: str) -> None:
    if not holds:
        raise RequestError(f"{name}={value!r}: expected {would_do}")
