"""Where the K/V of a slot lie, told in three ways that must agree: by the addresses that kernels get, and by `read`."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest

from ridgeway.executors.cpu.cache import GROUP_SLOTS, PagedCache
from ridgeway.kernels.cpu.heads import first_keys
from ridgeway.kernels.cpu.layout import BLOCK_LONGS, LAYER_LONGS, STEP_LONGS, B, L, S

WIDTH, HEADS, LAYERS = 32, 3, 2


def filled(slots, kv="bf16"):
    """A cache in which each key and value is full of a number of its own, written to where kernels write."""
    config = SimpleNamespace(layers=LAYERS, kv_heads=HEADS)
    cache = PagedCache(config, WIDTH, kv)
    cache.allocate(slots)
    tables = np.zeros((LAYERS, LAYER_LONGS), dtype=np.int64)
    cache.fill_tables(tables)
    places = cache.places(np.arange(slots))
    for layer, table in enumerate(tables):
        for part, name in enumerate(("key", "value")):
            for head in range(HEADS):
                for slot, place in enumerate(places.tolist()):
                    number, row = own(layer, part, head, slot), head * GROUP_SLOTS + place
                    if kv == "bf16":
                        line = np.full(WIDTH, number, np.uint16)  # bits of some bf16 number
                    else:
                        line = np.full(WIDTH, 1, np.int8)
                        scale = ctypes.c_float.from_address(int(table[getattr(L, f"{name}_scales")]) + 4 * row)
                        assert scale.value == 0, "two slots have one scale"
                        scale.value = number
                    address = int(table[getattr(L, f"{name}s")]) + row * line.nbytes
                    assert not any(ctypes.string_at(address, line.nbytes)), "two slots lie in one place"
                    ctypes.memmove(address, line.ctypes.data, line.nbytes)
    return cache


def own(layer, part, head, slot):
    return 1 + slot + 131 * (head + HEADS * (part + 2 * layer))


@pytest.mark.parametrize("kv", ["bf16", "int8"])
@pytest.mark.parametrize("slots", [0, 1, 63, 64, 130])
def test_what_kernels_write_is_what_is_read(slots, kv):
    cache = filled(slots, kv)
    some = np.arange(slots)[::-1]
    for layer in range(LAYERS):
        for part, found in enumerate(cache.read(layer, some)):
            expected = [[own(layer, part, head, slot) for head in range(HEADS)] for slot in some.tolist()]
            wide = np.repeat(np.array(expected, dtype=np.int64).reshape(slots, HEADS, 1), WIDTH, axis=2)
            if kv == "bf16":
                assert np.array_equal(found.view(np.uint32), wide << 16)
            else:
                assert np.array_equal(found, wide)


@pytest.mark.parametrize("kv", ["bf16", "int8"])
def test_slots_are_moved_all_at_once_even_onto_each_other(kv):
    cache = filled(130, kv)
    before = [cache.read(layer, np.arange(130)) for layer in range(LAYERS)]
    source, target = np.array([60, 61, 62, 129, 3]), np.array([62, 63, 64, 0, 129])
    cache.move(source, target)
    for layer, kept in enumerate(before):
        for part, found in enumerate(cache.read(layer, np.arange(130))):
            expected = kept[part].copy()
            expected[target] = kept[part][source]
            assert np.array_equal(found, expected)


@pytest.mark.parametrize(("segment", "expected"), [(0, 64), (1, 64), (2, 6), (3, 0)])
def test_no_more_keys_are_asked_for_than_a_block_has(segment, expected):
    step, layer, block = (np.zeros(n, dtype=np.int64) for n in (STEP_LONGS, LAYER_LONGS, BLOCK_LONGS))
    step[S.kv_width], step[S.head_slots], step[S.key_slots] = WIDTH, GROUP_SLOTS, 10_000
    layer[L.keys] = 5_000
    block[B.shared_start], block[B.shared_count] = 7, 1030
    ahead = first_keys(step, layer, block, 2, segment)
    assert ahead.keys == expected
    assert (ahead.storage, ahead.size) == (5_000 + 2 * GROUP_SLOTS * 2 * WIDTH, 2 * WIDTH)
    assert ahead.slots == 10_000 + 8 * (7 + 512 * segment)
