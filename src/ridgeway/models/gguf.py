"""Reading GGUF files: metadata, and tensors that stay packed where they are.

A model's file is mapped, not read: a tensor is a view, and its bytes come from the disk when a kernel touches
them. The file may come from anywhere, so every count, length and offset is held against the file's own length
before anything is made of it. Arrays of strings (a vocabulary and its merges are 100 000 of them) are parsed
in one tight loop.

The layout is that of the GGUF specification (ggml, docs/gguf.md), versions 2 and 3, little endian.
"""

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np

from ridgeway.core.errors import ModelError
from ridgeway.quant.formats import BY_GGUF_TYPE, Bytes
from ridgeway.quant.tensor import Tensor

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_U32, _U64 = Struct("<I"), Struct("<Q")
_BOOL, _STRING, _ARRAY = 7, 8, 9
_SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    _BOOL: "<u1",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_LEAST_ENTRY_BYTES = 8 + 4 + 1  # a key's length, a type, the smallest value
_LEAST_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8  # a name's length, the number of dimensions, one of them, a type, an offset
_MOST_DIMENSIONS = 4
_MOST_ALIGNMENT = 1 << 20
_OTHER_TYPES = {
    6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K",
    16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S",
    23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0",
    39: "MXFP4",
}  # fmt: skip


@dataclass(frozen=True)
class _Entry:
    """Where a tensor lies. shape: as NumPy has it, outermost dimension first; the file has it reversed."""

    shape: tuple[int, ...]
    type: int
    start: int


class GGUFFile:
    """A mapped GGUF file. metadata: arrays of numbers are NumPy arrays, arrays of strings are lists."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self.path = path
        self._bytes: Bytes = np.frombuffer(content, np.uint8)
        self.metadata, self._entries = _Parser(path, content).parse()

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self._entries.items()}

    @property
    def types(self) -> Mapping[str, str]:
        """Format of each tensor by name, such as `Q4_1`, also of formats that cannot be read."""
        return {name: _type_name(entry.type) for name, entry in self._entries.items()}

    def read(self, name: str, canonical: str | None = None) -> Tensor:
        """The tensor called `name` in the file, as a view, under its canonical name."""
        entry = self._entries[name]
        format = BY_GGUF_TYPE.get(entry.type)
        if format is None:
            shown = _type_name(entry.type)
            supported = ", ".join(format.name for format in BY_GGUF_TYPE.values())
            raise ModelError(
                self.path, f"tensor {name} has type {shown}, which is not supported; supported: {supported}"
            )
        rows = prod(entry.shape[:-1])
        data = self._bytes[entry.start : entry.start + format.nbytes(prod(entry.shape))].reshape(rows, -1)
        return Tensor(canonical or name, format, entry.shape, data)


def _type_name(type: int) -> str:
    known = BY_GGUF_TYPE.get(type)
    return known.name if known is not None else _OTHER_TYPES.get(type, f"number {type}")


def read_gguf(path: str | Path) -> GGUFFile:
    """Map a GGUF file and check its whole structure. Raises ModelError for one that is broken or too new."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise ModelError(path, f"cannot be read ({error}); expected a GGUF file") from error
    return GGUFFile(path, content)


class _Parser:
    """A cursor over the file's head that cannot leave the file."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path = path
        self._content = content
        self._size = len(content)
        self._at = 0

    def parse(self) -> tuple[dict[str, Any], dict[str, _Entry]]:
        tensor_count, entry_count = self._counts()
        metadata: dict[str, Any] = {}
        for _ in range(entry_count):
            key = self._string("a metadata key")
            if key in metadata:
                raise self._broken(f"metadata key {key!r} appears twice")
            metadata[key] = self._value(self._u32(key), key)
        described = self._tensor_descriptions(tensor_count)
        return metadata, self._placed(described, self._alignment(metadata))

    def _counts(self) -> tuple[int, int]:
        if self._content[:4] != _MAGIC:
            raise ModelError(self._path, f"starts with {self._content[:4]!r}; expected a GGUF file (b'GGUF')")
        self._at = 4
        version = self._u32("the version")
        if version not in _VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            shown = f"{swapped}, big endian" if swapped in _VERSIONS else f"{version}"
            raise ModelError(self._path, f"GGUF version {shown}; expected 2 or 3, little endian")
        tensor_count, entry_count = (
            self._u64("the number of tensors"),
            self._u64("the number of metadata keys"),
        )
        self._need(tensor_count * _LEAST_TENSOR_BYTES, f"{tensor_count} tensors")
        self._need(entry_count * _LEAST_ENTRY_BYTES, f"{entry_count} metadata keys")
        return tensor_count, entry_count

    def _value(self, type: int, key: str) -> Any:
        if type == _STRING:
            return self._string(key)
        if type == _ARRAY:
            return self._array(key)
        value = self._numbers(type, 1, key)[0]
        # 1e-5 was rounded to float32 by the writer; the shortest decimal that rounds to it is what was meant.
        return float(str(value)) if value.dtype == np.float32 else value.item()

    def _array(self, key: str) -> Any:
        type, count = self._u32(key), self._u64(key)
        return self._strings(count, key) if type == _STRING else self._numbers(type, count, key)

    def _numbers(self, type: int, count: int, key: str) -> np.ndarray[Any, Any]:
        if type not in _SCALARS:
            raise self._broken(f"metadata key {key!r} has value type {type}; expected a number, a string or an array")
        dtype = np.dtype(_SCALARS[type])
        self._need(count * dtype.itemsize, f"the {count} values of {key!r}")
        values = np.frombuffer(self._content, dtype, count, self._at).copy()
        self._at += count * dtype.itemsize
        return values != 0 if type == _BOOL else values

    def _strings(self, count: int, key: str) -> list[str]:
        self._need(count * _U64.size, f"the {count} strings of {key!r}")
        content, size, at, unpack = self._content, self._size, self._at, _U64.unpack_from
        strings: list[str] = []
        try:
            for _ in range(count):
                start = at + 8
                at = start + unpack(content, at)[0]
                if at > size:
                    break
                strings.append(content[start:at].decode())
        except UnicodeDecodeError:
            raise self._broken(f"string {len(strings)} of {key!r} is not UTF-8") from None
        except Exception as error:  # struct.error: the next length lies behind the end
            raise self._broken(f"it ends inside the strings of {key!r}") from error
        self._at = at
        self._need(0, f"the strings of {key!r}")
        return strings

    def _tensor_descriptions(self, count: int) -> list[tuple[str, tuple[int, ...], int, int]]:
        described = []
        for _ in range(count):
            name = self._string("a tensor's name")
            dimensions = self._u32(name)
            if not 1 <= dimensions <= _MOST_DIMENSIONS:
                raise self._broken(f"tensor {name} has {dimensions} dimensions; expected 1 to {_MOST_DIMENSIONS}")
            shape = tuple(self._u64(name) for _ in range(dimensions))[::-1]
            described.append((name, shape, self._u32(name), self._u64(name)))
        return described

    def _alignment(self, metadata: Mapping[str, Any]) -> int:
        alignment = metadata.get("general.alignment", 32)
        whole = isinstance(alignment, int) and not isinstance(alignment, bool)
        if not whole or not 8 <= alignment <= _MOST_ALIGNMENT or alignment & (alignment - 1):
            raise self._broken(f"general.alignment is {alignment!r}; expected a power of two, 8 or more")
        return int(alignment)

    def _placed(self, described: list[tuple[str, tuple[int, ...], int, int]], alignment: int) -> dict[str, _Entry]:
        base = -(-self._at // alignment) * alignment
        entries: dict[str, _Entry] = {}
        for name, shape, type, offset in described:
            if name in entries:
                raise self._broken(f"tensor {name} appears twice")
            if offset % alignment:
                raise self._broken(f"tensor {name} starts at offset {offset}; expected a multiple of {alignment}")
            format = BY_GGUF_TYPE.get(type)
            if format is not None and (not all(shape) or shape[-1] % format.block):
                raise self._broken(
                    f"tensor {name} has shape {shape}; expected rows of a multiple of {format.block} values"
                )
            nbytes = 0 if format is None else format.nbytes(prod(shape))
            if base + offset + nbytes > self._size:
                raise self._broken(
                    f"tensor {name} of shape {shape} would end at byte {base + offset + nbytes}, "
                    f"but the file ends at byte {self._size}; is the download complete?"
                )
            entries[name] = _Entry(shape, type, base + offset)
        return entries

    def _u32(self, what: str) -> int:
        self._need(4, what)
        self._at += 4
        value: int = _U32.unpack_from(self._content, self._at - 4)[0]
        return value

    def _u64(self, what: str) -> int:
        self._need(8, what)
        self._at += 8
        value: int = _U64.unpack_from(self._content, self._at - 8)[0]
        return value

    def _string(self, what: str) -> str:
        length = self._u64(what)
        self._need(length, what)
        self._at += length
        try:
            return self._content[self._at - length : self._at].decode()
        except UnicodeDecodeError:
            raise self._broken(f"{what} is not UTF-8") from None

    def _need(self, nbytes: int, what: str) -> None:
        if self._at + nbytes > self._size:
            raise self._broken(f"it ends at byte {self._size}, before the end of {what}")

    def _broken(self, problem: str) -> ModelError:
        return ModelError(self._path, f"broken GGUF file: {problem}")
