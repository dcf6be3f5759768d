"""What lies in memory, and where: vectors want aligned addresses, and weights must not lie there twice."""

import ctypes
import mmap
import sys
from collections.abc import Iterable
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ridgeway.core.arrays import AnyArray
from ridgeway.quant.formats import Bytes

_ALIGNMENT = 64
_HUGE_PAGE = 2 << 20
_COLLAPSE = 25  # advice of Linux 6.1 that Python has no name for; older ones refuse it, and nothing changes
_PIECE_BYTES = 16 << 20
_LARGEST_ARENA = 32 << 20  # bytes of a mapping that may still be some of the interpreter's arenas, side by side
_FULL = 0.9


def aligned(*shape: int) -> Bytes:
    """Zeroed bytes whose address is a multiple of 64: a cache line and the widest register."""
    size = prod(shape)
    raw = np.zeros(size + _ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].reshape(shape)


class Room:
    """Memory for weights and K/V in huge pages, where the system has them: reading goes on across pages of 4 KiB. It is
    taken as it is written.

    A few large pieces are cut up, as matrices smaller than a piece would get small pages.
    """

    def __init__(self) -> None:
        self._piece: Bytes = np.zeros(0, dtype=np.uint8)
        self._used = 0

    def take(self, *shape: int) -> Bytes:
        """Zeroed bytes whose address is a multiple of 64, kept as long as somebody looks at them."""
        size = -(-prod(shape) // _ALIGNMENT) * _ALIGNMENT
        if self._used + size > len(self._piece):
            length = max(_PIECE_BYTES, -(-size // _HUGE_PAGE) * _HUGE_PAGE) + _HUGE_PAGE
            private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
            memory = mmap.mmap(-1, length, **private)  # memory that is shared gets no huge pages
            if hasattr(mmap, "MADV_HUGEPAGE"):
                with suppress(OSError):  # a system without them
                    memory.madvise(mmap.MADV_HUGEPAGE)
            whole = np.frombuffer(memory, dtype=np.uint8)
            start = -whole.ctypes.data % _HUGE_PAGE
            self._piece, self._used = whole[start : start + length - _HUGE_PAGE], 0
        found = self._piece[self._used : self._used + prod(shape)].reshape(shape)
        self._used += size
        return found


def tidy(arrays: Iterable[AnyArray]) -> None:
    """Give back what loading left behind: pages of the files that `arrays` are views into, of the library that linked
    the kernels, and freed heap memory. All of it comes back by itself if it is needed. What stays on the heap is
    gathered in huge pages.
    """
    files = {id(file): file for file in map(_file_of, arrays) if file is not None}
    for file in files.values():
        file.madvise(mmap.MADV_DONTNEED)
    if sys.platform == "linux":
        system = ctypes.CDLL(None)
        for start, size in untouched_mappings(_mappings(), "libllvmlite"):
            system.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.MADV_DONTNEED)
        trim = getattr(system, "malloc_trim", None)  # glibc's
        if trim is not None:
            trim(0)
        for start, size in heap_mappings(_mappings()) if _allows_huge_pages() else ():
            first, last = -(-start // _HUGE_PAGE), (start + size) // _HUGE_PAGE
            if first < last:
                place, length = first * _HUGE_PAGE, (last - first) * _HUGE_PAGE
                system.madvise(ctypes.c_void_p(place), ctypes.c_size_t(length), _COLLAPSE)


def _allows_huge_pages() -> bool:
    try:
        return "[never]" not in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return False


class Mapping(NamedTuple):
    """A part of the process's addresses. path: of its file; empty: none. sizes: in KiB, as `smaps` names them."""

    start: int
    size: int  # bytes
    permissions: str
    path: str
    sizes: dict[str, int]


def _mappings() -> list[Mapping]:
    """This process's; none where the system does not show them."""
    try:
        return parsed_mappings(Path("/proc/self/smaps").read_text())
    except OSError:
        return []


def parsed_mappings(smaps: str) -> list[Mapping]:
    """The mappings that Linux tells of in `smaps`."""
    found: list[Mapping] = []
    for line in smaps.splitlines():
        words = line.split(maxsplit=5)
        if not words[0].endswith(":"):  # address range, permissions, offset, device, inode, path
            start, stop = (int(address, 16) for address in words[0].split("-"))
            found.append(Mapping(start, stop - start, words[1], words[5] if len(words) > 5 else "", {}))
        elif words[-1] == "kB":
            found[-1].sizes[words[0][:-1]] = int(words[1])
    return found


def untouched_mappings(mappings: Iterable[Mapping], library: str) -> list[tuple[int, int]]:
    """(address, size) of the mappings in which the file of `library` lies as it lies on the disk.

    Whatever can be written to is left out, and whatever has pages of its own: a linker that moved addresses in a part
    may have locked it afterwards, and such pages exist nowhere else.
    """
    return [
        (one.start, one.size)
        for one in mappings
        if one.permissions in ("r--p", "r-xp")
        and Path(one.path).name.startswith(library)
        and one.sizes.get("Anonymous") == 0
    ]


def heap_mappings(mappings: Iterable[Mapping]) -> list[tuple[int, int]]:
    """(address, size) of the memory in which the interpreter's objects lie, in small pages so far.

    Weights sweep the caches at every step, and what an address of a small page means is looked up anew each time. What
    is not quite full is left as it is, as it would fill up in huge pages; so is what is large: arrays of somebody's.
    """
    return [
        (one.start, one.size)
        for one in mappings
        if one.permissions == "rw-p"
        and (not one.path or one.path.startswith(("[heap]", "[anon:")))
        and (one.path == "[heap]" or one.size <= _LARGEST_ARENA)
        and one.sizes.get("Rss", 0) > _FULL * (one.size >> 10)
        and one.sizes.get("AnonHugePages", 0) < one.sizes.get("Rss", 0)
    ]


def _file_of(array: AnyArray) -> mmap.mmap | None:
    """The mapping that `array` is a view into; None if there is none whose pages can be given back."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    return owner if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED") else None


def forget(array: AnyArray) -> None:
    """Give back the memory of `array`'s pages if it is a view into a mapped file; they can be read again any time."""
    owner = _file_of(array)
    if owner is None:
        return
    whole = np.frombuffer(owner, dtype=np.uint8)
    page = mmap.PAGESIZE
    start = -(-(array.ctypes.data - whole.ctypes.data) // page) * page
    stop = (array.ctypes.data - whole.ctypes.data + array.nbytes) // page * page
    if start < stop:
        owner.madvise(mmap.MADV_DONTNEED, start, stop - start)
