"""Typed reading of what a checkpoint says of itself.

A configuration comes from a file that anybody may have written, so each value is checked where it is read,
and the error names the file, the field, what it holds and what was expected.
"""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from reprlib import Repr
from typing import Any

from ridgeway.core.errors import ModelError

_INT32_MOST = 2**31 - 1
_short = Repr()
_short.maxstring = _short.maxother = 60


class Fields:
    """The values of a `config.json` or of GGUF metadata. A null counts as absent, as in Hugging Face
    configurations.
    """

    def __init__(self, source: str | Path, values: Mapping[str, Any], prefix: str = "") -> None:
        self.source = source
        self.values = values
        self._prefix = prefix

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def wrong(self, name: str, expected: str) -> ModelError:
        """The error of a field that holds something else than `expected`."""
        shown = _short.repr(self.values.get(name))
        return ModelError(self.source, f"{self._prefix}{name} is {shown}; expected {expected}")

    def integer(self, name: str, default: int | None = None, *, least: int = 1, most: int = _INT32_MOST) -> int:
        value = self._value(name, default, "an integer")
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(name, f"an integer from {least} to {most}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self._value(name, default, "a positive number")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
            raise self.wrong(name, "a positive number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._value(name, default, "true or false")
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        value = self._value(name, default, "a text")
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        return value

    def section(self, name: str) -> "Fields | None":
        """A nested object; None if there is none."""
        if name not in self:
            return None
        value = self.values[name]
        if not isinstance(value, Mapping):
            raise self.wrong(name, "an object")
        return Fields(self.source, value, f"{self._prefix}{name}.")

    def ids(self, name: str, below: int) -> tuple[int, ...]:
        """Token ids below `below`, written as one integer or a list of them, or absent."""
        if name not in self:
            return ()
        value = self.values[name]
        listed = list(value) if isinstance(value, list | tuple) else [value]
        if any(isinstance(item, bool) or not isinstance(item, int) or not 0 <= item < below for item in listed):
            raise self.wrong(name, f"token ids from 0 to {below - 1}")
        return tuple(dict.fromkeys(listed))

    def _value(self, name: str, default: Any, expected: str) -> Any:
        if name in self:
            value = self.values[name]
            if isinstance(value, float) and not isfinite(value):
                raise self.wrong(name, expected)
            return value
        if default is None:
            raise ModelError(self.source, f"{self._prefix}{name} is missing; expected {expected}")
        return default
