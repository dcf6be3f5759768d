"""Reading safetensors files: a JSON header, then tensors that stay where they are.

Ridgeway reads the header itself because NumPy has no bf16, so the format's library could not hand out such
tensors without a copy. Every length and offset is held against the file's length before anything is made of
it. Nothing in the format can execute code, which is why no other checkpoint format with Python objects in it
is read.

The layout is that of the safetensors format description: 8 bytes header length, header, tensor data.
"""

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from ridgeway.core.errors import ModelError
from ridgeway.quant.formats import BF16, F16, F32, Bytes, Format
from ridgeway.quant.tensor import Tensor

_FORMATS: Mapping[str, Format] = {"F32": F32, "F16": F16, "BF16": BF16}
_MOST_HEADER_BYTES = 100_000_000  # the limit of the format's library
_MOST_DIMENSIONS = 8
_ZIP = b"PK\x03\x04"
_PICKLE_PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True)
class _Entry:
    """Where a tensor lies: bytes `start` to `stop - 1` of the file."""

    shape: tuple[int, ...]
    dtype: str
    start: int
    stop: int


class SafetensorsFile:
    """A mapped safetensors file."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self.path = path
        self._bytes: Bytes = np.frombuffer(content, np.uint8)
        self._entries = _entries(path, content)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self._entries.items()}

    def read(self, name: str, canonical: str | None = None) -> Tensor:
        """The tensor called `name` in the file, as a view, under its canonical name."""
        entry = self._entries[name]
        format = _FORMATS.get(entry.dtype)
        if format is None:
            raise ModelError(
                self.path,
                f"tensor {name} has type {entry.dtype}; supported: {', '.join(_FORMATS)}",
            )
        rows = prod(entry.shape[:-1])
        return Tensor(canonical or name, format, entry.shape, self._bytes[entry.start : entry.stop].reshape(rows, -1))


def read_safetensors(path: str | Path) -> SafetensorsFile:
    """Map a safetensors file and check its header. Raises ModelError for a file that is broken or something
    else.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise ModelError(path, f"cannot be read ({error}); expected a safetensors file") from error
    return SafetensorsFile(path, content)


def _entries(path: Path, content: mmap.mmap) -> dict[str, _Entry]:
    if content[:4] == _ZIP or (content[:2] in _PICKLE_PROTOCOLS and content[8:9] != b"{"):
        raise ModelError(path, "is a pickled checkpoint, which can run code and is never loaded; expected safetensors")
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(_MOST_HEADER_BYTES, len(content) - 8):
        raise _broken(path, f"its header should take {length} bytes, but the file ends at byte {len(content)}")
    try:
        header = json.loads(content[8 : 8 + length], object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise _broken(path, "its header is not an object")
    header.pop("__metadata__", None)
    return {name: _entry(path, name, value, 8 + length, len(content)) for name, value in header.items()}


def _entry(path: Path, name: str, value: Any, base: int, size: int) -> _Entry:
    if not isinstance(value, dict):
        raise _broken(path, f"the description of tensor {name} is not an object")
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not isinstance(dtype, str):
        raise _broken(path, f"tensor {name} has no dtype")
    if not _are_whole_numbers(shape) or len(shape) > _MOST_DIMENSIONS:
        raise _broken(path, f"tensor {name} has no valid shape")
    if not _are_whole_numbers(offsets) or len(offsets) != 2:
        raise _broken(path, f"tensor {name} has no valid data_offsets")
    start, stop = offsets
    if not start <= stop <= size - base:
        raise _broken(
            path,
            f"tensor {name} should lie at bytes {start} to {stop} of the data, "
            f"which has {size - base} bytes; is the download complete?",
        )
    if dtype in _FORMATS and _FORMATS[dtype].nbytes(prod(shape)) != stop - start:
        raise _broken(path, f"tensor {name} has {stop - start} bytes, which is not what {dtype} of shape {shape} takes")
    return _Entry(tuple(shape), dtype, base + start, base + stop)


def _are_whole_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**63 for item in value
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name appears twice")
    return values


def _broken(path: Path, problem: str) -> ModelError:
    return ModelError(path, f"broken safetensors file: {problem}")
