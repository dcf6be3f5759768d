"""Three queries at once have the sums of each alone, whether values were put side by side before or as they are read,
and whatever is asked for meanwhile; and products of bf16 numbers are the same with and without an instruction for them.

Which way a processor takes depends on what it can do, so all are held against each other here.
"""

import numpy as np
import pytest
from numba import njit

from ridgeway.kernels.cpu.attention import (
    mix,
    mix_three,
    pair_values,
    paired,
    score,
    score_three,
    soften,
    soften_three,
    stored_pairs,
    widen_keys,
)
from ridgeway.kernels.cpu.isa import processor_features
from ridgeway.kernels.cpu.lanes import floats, load, longs, store
from ridgeway.kernels.cpu.layout import CHUNK
from ridgeway.kernels.cpu.pairs import dot_pairs, dot_pairs_plainly
from ridgeway.kernels.cpu.prefetching import NOTHING_AHEAD, Ahead, share
from ridgeway.testing import bf16


def bits_of(values):
    """bf16 numbers as they are stored."""
    return (bf16(values).view(np.uint32) >> 16).astype(np.uint16)


@njit
def scores(storage, slots, count, width, queries, out):
    """out: (2, 3, 64) of one query after the other and of three at once."""
    near, apart, mine = longs(slots), 2 * width, 4 * CHUNK
    for query in range(3):
        one = floats(queries + query * apart)
        score(storage, near, count, width, one, NOTHING_AHEAD, floats(out + query * mine))
    a, b, c = floats(queries), floats(queries + apart), floats(queries + 2 * apart)
    ahead = Ahead(storage, 2 * width, slots, count)
    score_three(storage, near, count, width, a, b, c, ahead, floats(out + 3 * mine))


@njit
def softened(scores, count, states, factors):
    """scores: (2, 3, 64). states: (2, 3, 2), factors: (2, 3): of one query after the other and of three at once."""
    for query in range(3):
        state = floats(states + query * 8)
        mine = floats(scores + query * 4 * CHUNK)
        state[0], state[1], floats(factors)[query] = soften(mine, count, state[0], state[1])
    soften_three(floats(scores + 12 * CHUNK), count, floats(states + 24), 2, floats(factors + 12))


@njit
def mixes(storage, scales, slots, count, width, weights, factors, mixed, chunk):
    """mixed: (4, 3, width) of one query after the other and of three at once, out of the chunk and out of the cache."""
    near, shrink, one, all3 = longs(slots), floats(factors), 4 * width, 12 * width
    none, ahead = NOTHING_AHEAD, Ahead(storage, 2 * width, slots, count)
    pair_values(storage, scales, near, count, width, floats(chunk))
    for query in range(3):
        own = floats(weights + query * 4 * CHUNK)
        mix(paired, floats(chunk), near, count, width, own, shrink[query], none, floats(mixed + query * one))
        mix(stored_pairs, storage, near, count, width, own, shrink[query], ahead, floats(mixed + all3 + query * one))
    three = floats(weights)
    mix_three(paired, floats(chunk), near, count, width, three, shrink, none, floats(mixed + 2 * all3), width)
    mix_three(stored_pairs, storage, near, count, width, three, shrink, ahead, floats(mixed + 3 * all3), width)


@njit
def side_by_side(storage, scales, slots, count, width, keys, values):
    widen_keys(storage, scales, longs(slots), count, width, floats(keys))
    pair_values(storage, scales, longs(slots), count, width, floats(values))


@pytest.mark.parametrize("width", [32, 64, 96, 128])
@pytest.mark.parametrize("count", [1, 5, 16, 63, 64])
def test_all_ways_give_the_same_bits(width, count):
    generator = np.random.default_rng(width + count)
    numbers = bf16(generator.standard_normal((100, width)))
    storage, slots = bits_of(numbers), generator.permutation(100)[:count]
    queries = bf16(generator.standard_normal((3, width)))
    packed, found = bits_of(queries), np.full((2, 3, CHUNK), 7, np.float32)
    scores(storage.ctypes.data, slots.ctypes.data, count, width, packed.ctypes.data, found.ctypes.data)
    expected = queries.astype(np.float64) @ numbers[slots].astype(np.float64).T
    assert np.abs(found[0, :, :count] - expected).max() < 1e-4
    filled = -(-count // 16) * 16
    assert (found[:, :, count:filled] == -np.inf).all()
    assert (found[1, :, :count] == found[0, :, :count]).all()

    states = np.tile(np.array([[-1, 0.5], [50, 3], [-3e38, 0]], np.float32), (2, 1, 1))
    factors, before = np.zeros((2, 3), np.float32), found[0, :, :count].astype(np.float64)
    peaks = np.maximum(before.max(axis=1), states[0, :, 0])
    shrink = np.exp(states[0, :, 0] - peaks)
    masses = states[0, :, 1] * shrink + np.exp(before - peaks[:, None]).sum(axis=1)
    softened(found.ctypes.data, count, states.ctypes.data, factors.ctypes.data)
    np.testing.assert_allclose(states[0], np.stack([peaks, masses], axis=1), rtol=1e-5)
    np.testing.assert_allclose(factors[0], shrink, rtol=1e-5)
    assert (states[1] == states[0]).all()
    assert (factors[1] == factors[0]).all()
    weights = found.view(np.uint16)[..., :filled]
    assert (weights[1] == weights[0]).all()
    weights = (weights[0].astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_allclose(weights[:, :count], np.exp(before - peaks[:, None]), rtol=2**-8, atol=1e-37)
    assert not weights[:, count:].any()

    chunk = np.zeros((CHUNK // 2, width), np.float32)
    before = generator.standard_normal((3, width)).astype(np.float32)
    mixed = np.repeat(before[None], 4, axis=0)
    place = storage.ctypes.data, 0, slots.ctypes.data, count, width, found[0].ctypes.data, factors.ctypes.data
    mixes(*place, mixed.ctypes.data, chunk.ctypes.data)
    expected = factors[0, :, None] * before + weights[:, :count] @ numbers[slots].astype(np.float64)
    assert np.abs(mixed[0] - expected).max() < 1e-4
    for way in mixed[1:]:
        assert (way == mixed[0]).all()


@pytest.mark.parametrize("count", [1, 2, 63])
def test_keys_and_values_in_eight_bits_become_bf16(count):
    generator, width = np.random.default_rng(count), 64
    storage = generator.integers(-127, 128, (100, width), dtype=np.int8)
    scales, slots = generator.random(100, dtype=np.float32), generator.permutation(100)[:count]
    keys, values = np.zeros((CHUNK, width), np.uint16), np.zeros((CHUNK // 2, width, 2), np.uint16)
    place = storage.ctypes.data, scales.ctypes.data, slots.ctypes.data, count, width
    side_by_side(*place, keys.ctypes.data, values.ctypes.data)
    expected = bits_of(storage[slots] * scales[slots, None])
    assert (keys[:count] == expected).all()
    pairs = -(-count // 2)
    assert (values[:pairs].swapaxes(1, 2).reshape(-1, width)[:count] == expected).all()


def dots(product):
    @njit
    def run(a, b, totals, rounds):
        for place in range(0, 16 * rounds, 16):
            x, y, total = load(floats(a), place), load(floats(b), place), load(floats(totals), place)
            store(floats(totals), place, product(x, y, total))

    return run


@pytest.mark.skipif("avx512bf16" not in processor_features(), reason="this processor has no instruction for it")
def test_pairs_are_multiplied_alike_with_and_without_an_instruction_for_it():
    generator, rounds = np.random.default_rng(5), 20_000
    exponents = generator.integers(-20, 20, (2, 32 * rounds))
    pairs = [bits_of(np.ldexp(generator.standard_normal(32 * rounds), exponent)) for exponent in exponents]
    totals = np.ldexp(generator.standard_normal(16 * rounds), generator.integers(-20, 20, 16 * rounds))
    totals = totals.astype(np.float32)
    a, b = ((one.astype(np.uint32) << 16).view(np.float32).reshape(-1, 2).astype(np.float64) for one in pairs)
    found = []
    for product in (dot_pairs, dot_pairs_plainly):
        found.append(totals.copy())
        dots(product)(pairs[0].ctypes.data, pairs[1].ctypes.data, found[-1].ctypes.data, rounds)
    once = (totals + a[:, 1] * b[:, 1]).astype(np.float32)  # products are exact, and so is float64 for most sums
    twice = (once + a[:, 0] * b[:, 0]).astype(np.float32)
    assert (found[0] == found[1]).all()
    assert (found[0] == twice).mean() > 0.999


@pytest.mark.parametrize("vectors", [1, 2, 3, 7, 15, 48])
def test_every_key_is_asked_for_while_one_query_or_another_is_worked_on(vectors):
    ahead = Ahead(storage=4096, size=128, slots=800, keys=61)
    places = []
    for vector in range(vectors):
        part = share(ahead, vector, vector + 1, vectors)
        assert (part.storage, part.size) == (4096, 128)
        places += range(part.slots, part.slots + 8 * part.keys, 8)
    assert places == list(range(800, 800 + 8 * 61, 8))
