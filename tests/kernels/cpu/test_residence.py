"""What is given back after loading: only what comes back by itself, unchanged."""

import ctypes
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

from ridgeway.kernels.cpu.compilation import Compiler
from ridgeway.kernels.cpu.residence import Room, heap_mappings, parsed_mappings, tidy, untouched_mappings

SMAPS = """\
55d000000000-55d000001000 r--p 00000000 fe:01 11 /usr/bin/python3
Rss:                   4 kB
Anonymous:             0 kB
7f0000000000-7f0000003000 r--p 00000000 fe:01 22 /opt/a b/libllvmlite.so
Rss:                  12 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
7f0000003000-7f0000008000 r-xp 00003000 fe:01 22 /opt/a b/libllvmlite.so
Rss:                  20 kB
Anonymous:             0 kB
7f0000008000-7f0000009000 r--p 00008000 fe:01 22 /opt/a b/libllvmlite.so
Rss:                   4 kB
Anonymous:             4 kB
7f0000009000-7f000000a000 rw-p 00009000 fe:01 22 /opt/a b/libllvmlite.so
Rss:                   4 kB
Anonymous:             0 kB
7f000000a000-7f000000b000 rw-p 00000000 00:00 0
Rss:                   4 kB
Anonymous:             4 kB
AnonHugePages:         0 kB
"""
HEAP = """\
55d100000000-55d100800000 rw-p 00000000 00:00 0                          [heap]
Rss:                8000 kB
AnonHugePages:      2048 kB
7f1000000000-7f1000400000 rw-p 00000000 00:00 0
Rss:                2047 kB
AnonHugePages:         0 kB
7f1000400000-7f1000800000 rw-p 00000000 00:00 0
Rss:                4096 kB
AnonHugePages:      4096 kB
7f1000800000-7f1000c00000 rw-s 00000000 00:01 33                         /dev/zero (deleted)
Rss:                4096 kB
AnonHugePages:         0 kB
7f1000c00000-7f1001000000 r-xp 00000000 00:00 0
Rss:                4096 kB
AnonHugePages:         0 kB
7f1001000000-7f1001100000 rw-p 00000000 00:00 0                          [anon:objects]
Rss:                1024 kB
AnonHugePages:         0 kB
"""


def own_mappings():
    return parsed_mappings(Path("/proc/self/smaps").read_text())


def make_double():
    from ridgeway.kernels.cpu.lanes import longs

    def double(place):
        longs(place)[0] = 2 * longs(place)[0]

    return double


def test_mappings_that_lie_as_on_the_disk_are_found_and_no_others():
    found = untouched_mappings(parsed_mappings(SMAPS), "libllvmlite")
    assert found == [(0x7F0000000000, 0x3000), (0x7F0000003000, 0x5000)]  # not what was linked, nor what is written to
    assert untouched_mappings(parsed_mappings(""), "libllvmlite") == []


def test_the_heap_is_what_is_private_written_to_well_filled_and_in_small_pages():
    assert heap_mappings(parsed_mappings(HEAP)) == [(0x55D100000000, 0x800000), (0x7F1001000000, 0x100000)]
    assert heap_mappings(parsed_mappings(SMAPS)) == [(0x7F000000A000, 0x1000)]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is gathered on Linux")
def test_what_lies_on_the_heap_is_the_same_after_it_was_gathered():
    words = [f"word {number}" * 20 for number in range(100_000)]
    blocks = [bytes([number % 251]) * 5000 for number in range(2_000)]
    tidy([])
    assert words == [f"word {number}" * 20 for number in range(100_000)]
    assert blocks == [bytes([number % 251]) * 5000 for number in range(2_000)]


@pytest.mark.skipif(sys.platform != "linux", reason="pages are given back on Linux")
def test_the_compiler_and_what_it_compiled_work_after_its_pages_were_given_back(tmp_path):
    numbers = np.array([21], dtype=np.int64)
    kernel = Compiler(tmp_path).kernel("before", make_double, ("place",))
    mappings = untouched_mappings(own_mappings(), "libllvmlite")
    assert mappings
    tidy([])
    kernel(numbers.ctypes.data)
    assert numbers[0] == 42
    Compiler(tmp_path).kernel("before", make_double, ("place",))(numbers.ctypes.data)
    Compiler(tmp_path).kernel("after", make_double, ("place",))(numbers.ctypes.data)
    assert numbers[0] == 168
    assert llvm.get_host_cpu_name()


@pytest.mark.skipif(sys.platform != "linux", reason="pages are given back on Linux")
def test_given_back_pages_hold_what_they_held():
    mappings = untouched_mappings(own_mappings(), "libllvmlite")
    before = [ctypes.string_at(start, size) for start, size in mappings]
    tidy([])
    assert [ctypes.string_at(start, size) for start, size in mappings] == before


def test_a_room_gives_memory_that_is_apart_aligned_and_kept():
    room = Room()
    sizes = [(3, 5), (40, 1000), (1, 17 << 20), (7, 64)]  # one is larger than a piece
    found = [room.take(*shape) for shape in sizes]
    for number, (array, shape) in enumerate(zip(found, sizes, strict=True), start=1):
        assert array.shape == shape
        assert array.ctypes.data % 64 == 0
        assert not array.any()
        array[:] = number
    del room
    assert [int(array.min()) for array in found] == [int(array.max()) for array in found] == [1, 2, 3, 4]
