"""One quantity varied while the others stand still: where a workload leaves one regime for another."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from ridgeway.core.errors import RequestError, did_you_mean
from ridgeway.roofline.decoding import DECODINGS, Decoding
from ridgeway.roofline.workload import Workload

_WORKLOAD = {"batch": "concurrency", "prompt": "prompt", "output": "output"}
_STEPS = 10


def sweep_points(text: str, workload: Workload, method: Decoding) -> list[tuple[float, Workload, Decoding]]:
    """`batch=1..512` doubles, `acceptance=0.1..0.9` goes in ten steps, `batch=1,4,64` takes what is listed.

    What is varied is batch, prompt, output, or an assumption of the method. Raises RequestError.
    """
    name, _, span = text.partition("=")
    known = [*_WORKLOAD, *(field.name for field in fields(method))]
    if name not in known:
        assumed_by = [kind.name for kind in DECODINGS.values() if name in {field.name for field in fields(kind)}]
        if assumed_by:
            raise RequestError(
                f"--sweep {text}: {method.name} assumes no {name}; add --method {' or --method '.join(assumed_by)}"
            )
        raise RequestError(f"--sweep {text}: nothing is called {name!r}; {did_you_mean(name, known)}")
    return [(value, *_changed(name, value, workload, method)) for value in _values(text, span, name, method)]


def _changed(name: str, value: float, workload: Workload, method: Decoding) -> tuple[Workload, Decoding]:
    if name in _WORKLOAD:
        changes: dict[str, Any] = {_WORKLOAD[name]: int(value), "reserved": None}
        if name == "output":
            changes["ends"] = None
        return replace(workload, **changes), method
    whole = "int" in str(next(field.type for field in fields(method) if field.name == name))
    assumption: dict[str, Any] = {name: int(value) if whole else value}
    return workload, replace(method, **assumption)


def _values(text: str, span: str, name: str, method: Decoding) -> list[float]:
    whole = name in _WORKLOAD or "int" in str(next(field.type for field in fields(method) if field.name == name))
    try:
        if ".." in span:
            low, high = (float(part) for part in span.split("..", 1))
            found = list(_between(low, high, whole))
        else:
            found = [float(part) for part in span.split(",")]
    except ValueError:
        found = []
    if not found or (whole and any(value != int(value) for value in found)):
        kind = "whole numbers" if whole else "numbers"
        raise RequestError(f"--sweep {text}: expected {name}=FROM..TO or {name}=A,B,C in {kind}")
    return found


def _between(low: float, high: float, whole: bool) -> Iterator[float]:
    if not low <= high or (whole and low < 1):
        raise ValueError
    if not whole:
        yield from (round(low + (high - low) * step / _STEPS, 6) for step in range(_STEPS + 1))
        return
    value = low
    while value < high:
        yield value
        value *= 2
    yield high
