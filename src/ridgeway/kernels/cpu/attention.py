"""Attention of a few rows of one query over the paged cache, for the query heads that share one K/V head.

Each row sees a list of keys in logical order: cached slots, then rows of its query. The list is cut into segments of
512 keys and these into chunks of 64. Within a segment, chunks are combined with an online softmax (Milakov and
Gimelshein 2018) in order; then segments are, in order. Nothing in this depends on which rows come along, on how the
prompt was cut, or on who computes which segment, so neither do the bits of the result. K/V are read as stored, those of
rows of the same step included.

Scores of one row are sums in 16 lanes over the dimensions of a head, four keys at a time. Where there are registers for
it, three queries share the keys and values that were loaded: the sums of each are the same. A chunk that more queries
see, or that is stored in eight bits, is first widened to floats, once for all of them.

K/V lie in memory, not in the caches, and in pieces too short for the processor to guess what comes next. So while
scores are computed the values of the same chunk are asked for, and while values are mixed the keys that come next; a
few lines at a time, as a processor drops what it is asked for all at once.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from ridgeway.kernels.cpu.activation import ZERO, exponential
from ridgeway.kernels.cpu.isa import processor_features
from ridgeway.kernels.cpu.lanes import (
    at,
    broadcast,
    first_lane,
    first_lanes,
    floats,
    fma,
    fma1,
    halves,
    load,
    longs,
    max_lanes,
    maximum,
    prefetch,
    signed_bytes,
    store,
    store_sums,
    sum_lanes,
)
from ridgeway.kernels.cpu.layout import CHUNK, LANES

LOWEST = np.float32(np.finfo(np.float32).min)
_NOT_SEEN = np.float32(-np.inf)
_FOUR_VECTORS = 4 * LANES
TOGETHER = 3 if "avx512f" in processor_features() else 1  # queries whose sums fit into registers
_LINE = 64  # bytes


class Ahead(NamedTuple):
    """Keys or values that are read soon. storage, size: address of their head's, and the bytes of each; slots: address
    of a list of where those of `keys` keys are.
    """

    storage: int
    size: int
    slots: int
    keys: int


NOTHING_AHEAD = Ahead(0, 0, 0, 0)


@njit(error_model="numpy")
def share(ahead, start, stop, whole):
    """The part of `ahead` that is asked for while `start` to `stop` of `whole` are worked on."""
    first, last = ahead.keys * start // whole, ahead.keys * stop // whole
    return Ahead(ahead.storage, ahead.size, ahead.slots + first * 8, last - first)


@njit(error_model="numpy")
def ask(ahead, j, first, last):
    """Asks for two lines of the `j`-th of `ahead`, or of the last: those at bytes `first` and `last`.

    It has no loop, and no branch that depends on `j`: both would cost the loops around it their registers.
    """
    if ahead.keys > 0:
        place = ahead.storage + longs(ahead.slots)[min(j, ahead.keys - 1)] * ahead.size
        prefetch(place + first)
        prefetch(place + last)


@njit(error_model="numpy")
def widened(chunk, slots, key, width, i):
    """16 numbers of a key (or value) of a chunk that `gather` has widened, from the `i`-th on."""
    return load(chunk, key * width + i)


@njit(error_model="numpy")
def stored(storage, slots, key, width, i):
    """The same of one as it lies in the cache. storage: address of this head's fp16 numbers; slots: where keys are."""
    return load(halves(storage + slots[key] * width * 2), i)


@njit(error_model="numpy")
def gather(storage, scales, slots, count, width, out):
    """Widens `count` keys (or values) of `width` numbers to floats (64, width).

    storage: address of this head's fp16 numbers; if `scales` is not 0, of int8, whose scales lie there. slots: where in
    both the keys are.
    """
    for j in range(count):
        slot = slots[j]
        if scales == 0:
            line = halves(storage + slot * width * 2)
            for d in range(0, width, LANES):
                store(out, j * width + d, load(line, d))
        else:
            small = signed_bytes(storage + slot * width)
            scale = broadcast(floats(scales)[slot])
            for d in range(0, width, LANES):
                store(out, j * width + d, load(small, d) * scale)


@njit(error_model="numpy")
def score(read, source, slots, count, width, query, ahead, out):
    """Products of `query` (width,) with `count` keys; out (64,) is filled with -inf up to a whole vector.

    read, source, slots: `widened` or `stored`, and its first two arguments. ahead: what to ask for meanwhile.
    """
    last = count - 1
    for j in range(0, count, 4):
        k, m, n = min(j + 1, last), min(j + 2, last), min(j + 3, last)
        _ask_four(ahead, j)
        a = b = c = d = broadcast(ZERO)
        for i in range(0, width, LANES):
            q = load(query, i)
            a = fma(q, read(source, slots, j, width, i), a)
            b = fma(q, read(source, slots, k, width, i), b)
            c = fma(q, read(source, slots, m, width, i), c)
            d = fma(q, read(source, slots, n, width, i), d)
        store_sums(out, j, a, b, c, d)
    _hide_rest(out, count)


@njit(error_model="numpy")
def score_three(read, source, slots, count, width, first, second, third, ahead, out):
    """`score` of three queries; out (3, 64)."""
    last = count - 1
    for j in range(0, count, 4):
        k, m, n = min(j + 1, last), min(j + 2, last), min(j + 3, last)
        _ask_four(ahead, j)
        a = b = c = d = broadcast(ZERO)
        e = f = g = h = broadcast(ZERO)
        s = t = u = v = broadcast(ZERO)
        for i in range(0, width, LANES):
            p, q, r = load(first, i), load(second, i), load(third, i)
            key = read(source, slots, j, width, i)
            a, e, s = fma(p, key, a), fma(q, key, e), fma(r, key, s)
            key = read(source, slots, k, width, i)
            b, f, t = fma(p, key, b), fma(q, key, f), fma(r, key, t)
            key = read(source, slots, m, width, i)
            c, g, u = fma(p, key, c), fma(q, key, g), fma(r, key, u)
            key = read(source, slots, n, width, i)
            d, h, v = fma(p, key, d), fma(q, key, h), fma(r, key, v)
        store_sums(out, j, a, b, c, d)
        store_sums(out, CHUNK + j, e, f, g, h)
        store_sums(out, 2 * CHUNK + j, s, t, u, v)
    for query in range(3):
        _hide_rest(at(out, query * CHUNK), count)


@njit(error_model="numpy")
def _ask_four(ahead, j):
    """Asks for what is due with the keys from the `j`-th to the third after it; few are spread over all."""
    _ask_lines(ahead, j, 0, min(2 * _LINE, ahead.size) - _LINE)
    if ahead.size > 2 * _LINE:
        _ask_lines(ahead, j, 2 * _LINE, ahead.size - _LINE)


@njit(error_model="numpy")
def _ask_lines(ahead, j, first, last):
    if ahead.keys <= CHUNK // 4:
        ask(ahead, j // 4, first, last)
        return
    ask(ahead, j, first, last)
    ask(ahead, j + 1, first, last)
    ask(ahead, j + 2, first, last)
    ask(ahead, j + 3, first, last)


@njit(error_model="numpy")
def _hide_rest(scores, count):
    last = count // LANES * LANES
    if last < count:
        store(scores, last, first_lanes(load(scores, last), count - last, _NOT_SEEN))


@njit(error_model="numpy")
def hide(scores, key_positions, count, lowest_position):
    """Outside a sliding window a key is not seen."""
    for j in range(count):
        if key_positions[j] < lowest_position:
            scores[j] = _NOT_SEEN


@njit(error_model="numpy")
def soften(scores, count, peak, mass):
    """Scores to weights relative to the highest so far; returns that, the new mass, and the old ones' factor."""
    highest = broadcast(peak)
    for j in range(0, count, LANES):
        highest = maximum(load(scores, j), highest)
    new_peak = max_lanes(highest)
    total = broadcast(ZERO)
    for j in range(0, count, LANES):
        weights = exponential(load(scores, j) - broadcast(new_peak))
        store(scores, j, weights)
        total = total + weights
    factor = first_lane(exponential(broadcast(peak - new_peak)))
    return new_peak, fma1(mass, factor, sum_lanes(total)), factor


@njit(error_model="numpy")
def mix(read, source, slots, count, width, weights, factor, ahead, mixed):
    """mixed = factor * mixed + the sum of `weights` times values, key by key. Other arguments: as of `score`.

    With each 64 numbers of values as many of `ahead` are asked for; where there are fewer, none.
    """
    shrink = broadcast(factor)
    i = 0
    while i + _FOUR_VECTORS <= width:
        first, last = _lines_of(ahead, i, width)
        m = at(mixed, i)
        a, b = load(m, 0) * shrink, load(m, LANES) * shrink
        c, d = load(m, 2 * LANES) * shrink, load(m, 3 * LANES) * shrink
        for j in range(count):
            ask(ahead, j, first, last)
            w = broadcast(weights[j])
            a = fma(w, read(source, slots, j, width, i), a)
            b = fma(w, read(source, slots, j, width, i + LANES), b)
            c = fma(w, read(source, slots, j, width, i + 2 * LANES), c)
            d = fma(w, read(source, slots, j, width, i + 3 * LANES), d)
        store(m, 0, a)
        store(m, LANES, b)
        store(m, 2 * LANES, c)
        store(m, 3 * LANES, d)
        i += _FOUR_VECTORS
    while i < width:
        a = load(mixed, i) * shrink
        for j in range(count):
            a = fma(broadcast(weights[j]), read(source, slots, j, width, i), a)
        store(mixed, i, a)
        i += LANES


@njit(error_model="numpy")
def _lines_of(ahead, i, width):
    """The first and the last line of the numbers `i` to `i + 63` of each key in `ahead`."""
    first = ahead.size * i // width
    return first, first + ahead.size * _FOUR_VECTORS // width - _LINE


@njit(error_model="numpy")
def mix_three(read, source, slots, count, width, weights, factors, ahead, mixed, stride):
    """`mix` for three queries. weights: (3, 64). factors: (3,). mixed: the first of three, `stride` floats apart."""
    second, third = at(weights, CHUNK), at(weights, 2 * CHUNK)
    x, y, z = broadcast(factors[0]), broadcast(factors[1]), broadcast(factors[2])
    i = 0
    while i + _FOUR_VECTORS <= width:
        first, last = _lines_of(ahead, i, width)
        m = at(mixed, i)
        a, b = load(m, 0) * x, load(m, LANES) * x
        c, d = load(m, 2 * LANES) * x, load(m, 3 * LANES) * x
        n = at(m, stride)
        e, f = load(n, 0) * y, load(n, LANES) * y
        g, h = load(n, 2 * LANES) * y, load(n, 3 * LANES) * y
        o = at(n, stride)
        s, t = load(o, 0) * z, load(o, LANES) * z
        u, v = load(o, 2 * LANES) * z, load(o, 3 * LANES) * z
        for j in range(count):
            ask(ahead, j, first, last)
            p, q, r = broadcast(weights[j]), broadcast(second[j]), broadcast(third[j])
            value = read(source, slots, j, width, i)
            a, e, s = fma(p, value, a), fma(q, value, e), fma(r, value, s)
            value = read(source, slots, j, width, i + LANES)
            b, f, t = fma(p, value, b), fma(q, value, f), fma(r, value, t)
            value = read(source, slots, j, width, i + 2 * LANES)
            c, g, u = fma(p, value, c), fma(q, value, g), fma(r, value, u)
            value = read(source, slots, j, width, i + 3 * LANES)
            d, h, v = fma(p, value, d), fma(q, value, h), fma(r, value, v)
        store(m, 0, a)
        store(m, LANES, b)
        store(m, 2 * LANES, c)
        store(m, 3 * LANES, d)
        store(n, 0, e)
        store(n, LANES, f)
        store(n, 2 * LANES, g)
        store(n, 3 * LANES, h)
        store(o, 0, s)
        store(o, LANES, t)
        store(o, 2 * LANES, u)
        store(o, 3 * LANES, v)
        i += _FOUR_VECTORS
    while i < width:
        a, b, c = load(mixed, i) * x, load(mixed, stride + i) * y, load(mixed, 2 * stride + i) * z
        for j in range(count):
            value = read(source, slots, j, width, i)
            a = fma(broadcast(weights[j]), value, a)
            b = fma(broadcast(second[j]), value, b)
            c = fma(broadcast(third[j]), value, c)
        store(mixed, i, a)
        store(mixed, stride + i, b)
        store(mixed, 2 * stride + i, c)
        i += LANES


@njit(error_model="numpy")
def begin(state, width):
    """An empty segment. state: peak, mass, 14 unused floats, then what was mixed so far (width,)."""
    state[0] = LOWEST
    state[1] = ZERO
    for i in range(0, width, LANES):
        store(state, LANES + i, broadcast(ZERO))


@njit(error_model="numpy")
def join(state, part, width):
    """Adds the segment `part` to the segments before it."""
    peak = max(state[0], part[0])
    old = first_lane(exponential(broadcast(state[0] - peak)))
    new = first_lane(exponential(broadcast(part[0] - peak)))
    state[0] = peak
    state[1] = fma1(state[1], old, part[1] * new)
    for i in range(0, width, LANES):
        joined = fma(load(state, LANES + i), broadcast(old), load(part, LANES + i) * broadcast(new))
        store(state, LANES + i, joined)


@njit(error_model="numpy")
def conclude(state, width, out):
    """What was mixed over its mass."""
    mass = broadcast(state[1])
    for i in range(0, width, LANES):
        store(out, i, load(state, LANES + i) / mass)
