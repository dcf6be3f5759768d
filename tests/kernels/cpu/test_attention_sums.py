"""Three queries at once have the sums of each alone, whether keys were widened before or are read as they are stored,
and whatever is asked for meanwhile.

Which way a processor takes depends on its registers, so both are held against each other here.
"""

import numpy as np
import pytest
from numba import njit

from ridgeway.kernels.cpu.attention import (
    NOTHING_AHEAD,
    Ahead,
    gather,
    mix,
    mix_three,
    score,
    score_three,
    share,
    stored,
    widened,
)
from ridgeway.kernels.cpu.lanes import floats, longs
from ridgeway.kernels.cpu.layout import CHUNK


@njit
def scores(storage, slots, count, width, queries, out, chunk):
    """out: (4, 3, 64) of one query after the other and of three, out of the chunk and out of the cache."""
    near, apart, mine = longs(slots), 4 * width, 4 * CHUNK
    none, ahead = NOTHING_AHEAD, Ahead(storage, 2 * width, slots, count)
    gather(storage, 0, near, count, width, floats(chunk))
    for query in range(3):
        one = floats(queries + query * apart)
        score(widened, floats(chunk), near, count, width, one, none, floats(out + query * mine))
        score(stored, storage, near, count, width, one, ahead, floats(out + (3 + query) * mine))
    a, b, c = floats(queries), floats(queries + apart), floats(queries + 2 * apart)
    score_three(widened, floats(chunk), near, count, width, a, b, c, none, floats(out + 6 * mine))
    score_three(stored, storage, near, count, width, a, b, c, ahead, floats(out + 9 * mine))


@njit
def mixes(storage, slots, count, width, weights, factors, mixed, chunk):
    """mixed: (4, 3, width), in the same order."""
    near, shrink, one, all3 = longs(slots), floats(factors), 4 * width, 12 * width
    none, ahead = NOTHING_AHEAD, Ahead(storage, 2 * width, slots, count)
    gather(storage, 0, near, count, width, floats(chunk))
    for query in range(3):
        own = floats(weights + query * 4 * CHUNK)
        mix(widened, floats(chunk), near, count, width, own, shrink[query], none, floats(mixed + query * one))
        mix(stored, storage, near, count, width, own, shrink[query], ahead, floats(mixed + all3 + query * one))
    three = floats(weights)
    mix_three(widened, floats(chunk), near, count, width, three, shrink, none, floats(mixed + 2 * all3), width)
    mix_three(stored, storage, near, count, width, three, shrink, ahead, floats(mixed + 3 * all3), width)


@pytest.mark.parametrize("width", [16, 64, 80, 128])
@pytest.mark.parametrize("count", [1, 5, 16, 63, 64])
def test_all_ways_give_the_same_bits(width, count):
    generator = np.random.default_rng(width + count)
    storage = generator.standard_normal((100, width)).astype(np.float16)
    slots, chunk = generator.permutation(100)[:count], np.zeros((CHUNK, width), np.float32)
    queries = generator.standard_normal((3, width)).astype(np.float32)
    found = np.full((4, 3, CHUNK), 7, np.float32)
    place = storage.ctypes.data, slots.ctypes.data, count, width
    scores(*place, queries.ctypes.data, found.ctypes.data, chunk.ctypes.data)
    expected = queries.astype(np.float64) @ storage[slots].astype(np.float64).T
    assert np.abs(found[0, :, :count] - expected).max() < 1e-4
    filled = -(-count // 16) * 16
    assert (found[:, :, count:filled] == -np.inf).all()
    for way in found[1:]:
        assert (way[:, :count] == found[0, :, :count]).all()

    weights = generator.random((3, CHUNK)).astype(np.float32)
    factors = np.array([0.5, 1.0, 0.0], np.float32)
    before = generator.standard_normal((3, width)).astype(np.float32)
    mixed = np.repeat(before[None], 4, axis=0)
    mixes(*place, weights.ctypes.data, factors.ctypes.data, mixed.ctypes.data, chunk.ctypes.data)
    expected = factors[:, None] * before + weights[:, :count] @ storage[slots].astype(np.float64)
    assert np.abs(mixed[0] - expected).max() < 1e-4
    for way in mixed[1:]:
        assert (way == mixed[0]).all()


@pytest.mark.parametrize("vectors", [1, 2, 3, 7, 15, 48])
def test_every_key_is_asked_for_while_one_query_or_another_is_worked_on(vectors):
    ahead = Ahead(storage=4096, size=128, slots=800, keys=61)
    places = []
    for vector in range(vectors):
        part = share(ahead, vector, vector + 1, vectors)
        assert (part.storage, part.size) == (4096, 128)
        places += range(part.slots, part.slots + 8 * part.keys, 8)
    assert places == list(range(800, 800 + 8 * 61, 8))
