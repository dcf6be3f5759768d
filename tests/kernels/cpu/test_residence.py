"""What is given back after loading: only what comes back by itself, unchanged."""

import ctypes
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

from ridgeway.kernels.cpu.compilation import Compiler
from ridgeway.kernels.cpu.residence import Room, tidy, untouched_mappings

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
"""


def make_double():
    from ridgeway.kernels.cpu.lanes import longs

    def double(place):
        longs(place)[0] = 2 * longs(place)[0]

    return double


def test_mappings_that_lie_as_on_the_disk_are_found_and_no_others():
    found = untouched_mappings(SMAPS, "libllvmlite")
    assert found == [(0x7F0000000000, 0x3000), (0x7F0000003000, 0x5000)]  # not what was linked, nor what is written to
    assert untouched_mappings("", "libllvmlite") == []


@pytest.mark.skipif(sys.platform != "linux", reason="pages are given back on Linux")
def test_the_compiler_and_what_it_compiled_work_after_its_pages_were_given_back(tmp_path):
    numbers = np.array([21], dtype=np.int64)
    kernel = Compiler(tmp_path).kernel("before", make_double, ("place",))
    mappings = untouched_mappings(Path("/proc/self/smaps").read_text(), "libllvmlite")
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
    mappings = untouched_mappings(Path("/proc/self/smaps").read_text(), "libllvmlite")
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
