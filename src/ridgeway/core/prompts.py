"""What counts as a prompt, and what as token ids; anything else is refused with what would do."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ridgeway.core.errors import RequestError

Prompt = str | Sequence[int] | Mapping[str, Any]


def expect_whole(**limits: object) -> None:
    for name, value in limits.items():
        optional = value is None and name in ("slots", "threads")
        if not optional and (not is_whole(value) or int(value) < 1):  # type: ignore[call-overload]
            raise RequestError(f"{name}={value!r}: expected a whole number of at least 1")


def token_ids_of(values: Any) -> list[int]:
    """Token ids as a list, whatever sequence they come in. Raises RequestError."""
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    if isinstance(listed, list | tuple | range) and all(is_whole(value) for value in listed):
        return [int(value) for value in listed]
    raise RequestError(f"a prompt is text or a list of token ids (whole numbers), not {shortly(values)}")


def is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def shortly(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def as_prompts(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """A list of prompts, whether one was given or several; a list of whole numbers is one prompt."""
    if isinstance(prompts, str | Mapping):
        return [prompts]
    if isinstance(prompts, np.ndarray):
        prompts = prompts.tolist()
    if not isinstance(prompts, list | tuple | range):
        raise RequestError(f"prompts are text, token ids, or a list of them, not {shortly(prompts)}")
    if prompts and is_whole(prompts[0]):
        return [list(prompts)]
    return list(prompts)
