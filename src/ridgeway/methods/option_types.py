"""What an option of a method may be: by the type hint of its field, as text or as a value.

A wrong type is refused where the method is made. Otherwise it would be found out by a comparison deep inside a step,
or, as with NaN and with a `steps` of 1.5, never.
"""

import dataclasses
from collections.abc import Mapping
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ridgeway.core.prompts import is_whole

_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a name",
    NoneType: "None",
}


def from_text(key: str, text: str, hint: Any) -> Any:
    """The value that `key=text` stands for. Raises ValueError if it is none of that kind."""
    kind = next(iter(set(get_args(hint)) & {bool, int, float}), hint)  # of an option that may be left out
    if kind is bool:
        if text.lower() in ("true", "yes", "1", "on"):
            return True
        if text.lower() in ("false", "no", "0", "off"):
            return False
    elif kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    else:
        return text
    raise ValueError(f"{key}={text!r}: expected {_WORDS[kind]}")


def check_types(method: Any) -> None:
    """Raise TypeError if a field of the dataclass `method` holds what its type hint does not allow, or NaN."""
    hints = get_type_hints(type(method))
    for field in dataclasses.fields(method):
        hint, value = hints[field.name], getattr(method, field.name)
        kinds = (str,) if get_origin(hint) is Literal else get_args(hint) or (hint,)
        if not any(_is(value, kind) for kind in kinds):
            expected = " or ".join(_WORDS.get(kind, f"a {kind.__name__}") for kind in kinds)
            raise TypeError(f"{field.name}={value!r}: expected {expected}")


def _is(value: object, kind: type) -> bool:
    if kind is int:
        return is_whole(value)
    if kind is float:
        return is_whole(value) or (isinstance(value, float) and value == value)
    return isinstance(value, kind)
