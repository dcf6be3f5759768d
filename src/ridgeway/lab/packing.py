"""Tables made small enough to travel inside a page: whole numbers, differences, variable lengths, deflate.

A decimal of three digits is one of 900 mantissas at a power of ten, so it becomes a whole number that grows with it;
neighbours on a slider differ little, so differences are small, and small numbers take one byte. `tables.js` undoes it.
"""

import json
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ridgeway.lab.table import Column, Table, Value

_MISSING, _ZERO, _FIRST = 0, 1, 2  # codes; decimals begin at _FIRST
_LOWEST = -40  # the least power of ten
_MANTISSAS = 900  # 100 to 999


def pack(tables: Sequence[Table]) -> dict[str, Any]:
    """Tables of one figure, all of the same axes and columns, as plain data.

    columns: name, kind and words of each; data: all values, table by table, column by column; facts: of each table, as
    JSON. Both are deflated and in base64; empty where there are none.
    """
    first = tables[0]
    described = [_described(name, [table.columns[name] for table in tables]) for name in first.columns]
    stream = bytearray()
    for table in tables:
        for name, kind, words in described:
            codes = [_code(value, kind, words) for value in table.columns[name].values]
            stream += _varints(_differences(codes))
    return {
        "columns": described,
        "data": _deflated(bytes(stream)),
        "facts": _deflated(json.dumps([dict(table.facts) for table in tables]).encode()) if first.facts else "",
    }


def _deflated(data: bytes) -> str:
    return b64encode(zlib.compress(data, 9)).decode() if data else ""


def _described(name: str, columns: Sequence[Column]) -> tuple[str, str, list[str]]:
    kinds = {column.kind for column in columns}
    kind = "word" if "word" in kinds else "decimal" if "decimal" in kinds else "count"
    values = (value for column in columns for value in column.values)
    words = list(dict.fromkeys(value for value in values if isinstance(value, str)))
    return name, kind, words


def _code(value: Value, kind: str, words: Sequence[str]) -> int:
    if value is None:
        return _MISSING
    if kind == "word":
        return _FIRST + words.index(str(value))
    assert not isinstance(value, str)
    assert value >= 0, value
    if kind == "count":
        return _FIRST + int(value)
    if value == 0:
        return _ZERO
    mantissa, _, power = f"{value:.2e}".partition("e")
    return _FIRST + (int(power) - _LOWEST) * _MANTISSAS + round(100 * float(mantissa)) - 100


def _differences(codes: Iterable[int]) -> Iterator[int]:
    """Between neighbours, the sign in the lowest bit."""
    before = 0
    for code in codes:
        step, before = code - before, code
        yield 2 * step if step >= 0 else -2 * step - 1


def _varints(numbers: Iterable[int]) -> bytes:
    """Seven bits to a byte, the lowest first; the eighth says that more follow."""
    out = bytearray()
    for number in numbers:
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        out.append(number)
    return bytes(out)
