"""Attention of a few rows of one query over the paged cache, for the query heads that share one K/V head.

Each row sees a list of keys in logical order: cached slots, then rows of its query. The list is cut into segments of
512 keys and these into chunks of 64. Within a segment, chunks are combined with an online softmax (Milakov and
Gimelshein 2018) in order; then segments are, in order. Nothing in this depends on which rows come along, on how the
prompt was cut, or on who computes which segment, so neither do the bits of the result. K/V are read as stored, those of
rows of the same step included.

Products are of bf16 numbers, two at a time, summed in float32 (`pairs.dot_pairs`): queries, keys, values and the
weights of values are rounded to it, as on GPUs. A score is a sum in 16 lanes over pairs of a head's dimensions, four
keys at a time; values are mixed by pairs of keys, so those of two keys are put side by side first: as they are read,
or, where more queries see a chunk, once for all of them (`pair_values`). Where there are registers for it, three
queries share the keys and values that were loaded: the sums of each are the same.
"""

import numpy as np
from numba import njit

from ridgeway.kernels.cpu.activation import ZERO, exponential
from ridgeway.kernels.cpu.isa import processor_features
from ridgeway.kernels.cpu.lanes import (
    at,
    bf16s,
    broadcast,
    first_lane,
    first_lanes,
    floats,
    fma,
    fma1,
    load,
    max_lanes,
    maximum,
    signed_bytes,
    store,
    store_sums,
    sum_lanes,
)
from ridgeway.kernels.cpu.layout import CHUNK, LANES
from ridgeway.kernels.cpu.pairs import dot_pairs, load_pairs, pair
from ridgeway.kernels.cpu.prefetching import FOUR_VECTORS, ask, ask_four, lines_of

LOWEST = np.float32(np.finfo(np.float32).min)
_NOT_SEEN = np.float32(-np.inf)
TOGETHER = 3 if "avx512f" in processor_features() else 1  # queries whose sums fit into registers


@njit(error_model="numpy")
def stored_pairs(storage, slots, first, second, width, i):
    """Of the values `first` and `second` as they lie in the cache, 16 numbers each from the `i`-th on, side by side.

    storage: address of this head's bf16 numbers; slots: where in it the values are.
    """
    return load_pairs(bf16s(storage + slots[first] * width * 2), bf16s(storage + slots[second] * width * 2), i)


@njit(error_model="numpy")
def paired(chunk, slots, first, second, width, i):
    """The same of a chunk that `pair_values` has made."""
    return load(chunk, (first // 2) * width + i)


@njit(error_model="numpy")
def pair_values(storage, scales, slots, count, width, chunk):
    """Values of `width` numbers, those of two keys side by side: (32, width) pairs.

    storage: address of this head's bf16 numbers; if `scales` is not 0, of int8, whose scales lie there. slots: where in
    both the values are.
    """
    for j in range(0, count, 2):
        first, second = slots[j], slots[min(j + 1, count - 1)]
        for i in range(0, width, LANES):
            if scales == 0:
                both = load_pairs(bf16s(storage + first * width * 2), bf16s(storage + second * width * 2), i)
            else:
                both = pair(_widened(storage, scales, first, width, i), _widened(storage, scales, second, width, i))
            store(chunk, (j // 2) * width + i, both)


@njit(error_model="numpy")
def _widened(storage, scales, slot, width, i):
    return load(signed_bytes(storage + slot * width), i) * broadcast(floats(scales)[slot])


@njit(error_model="numpy")
def widen_keys(storage, scales, slots, count, width, out):
    """Keys in int8 to bf16 numbers (64, width)."""
    for j in range(count):
        for i in range(0, width, LANES):
            store(bf16s(out), j * width + i, _widened(storage, scales, slots[j], width, i))


@njit(error_model="numpy")
def _four_keys(storage, slots, j, count, width):
    """The pairs of the `j`-th of `count` keys and of the three after it, or of the last one where there are fewer."""
    last, size = count - 1, width * 2
    return (
        floats(storage + slots[j] * size),
        floats(storage + slots[min(j + 1, last)] * size),
        floats(storage + slots[min(j + 2, last)] * size),
        floats(storage + slots[min(j + 3, last)] * size),
    )


@njit(error_model="numpy")
def score(storage, slots, count, width, query, ahead, out):
    """Products of `query` (width,) with `count` keys, all bf16; out (64,) is filled with -inf up to a whole vector.

    storage: address of this head's keys; slots: where in it they are. ahead: what to ask for meanwhile.
    """
    for j in range(0, count, 4):
        ask_four(ahead, j)
        w, x, y, z = _four_keys(storage, slots, j, count, width)
        a = b = c = d = broadcast(ZERO)
        for i in range(0, width // 2, LANES):
            q = load(query, i)
            a = dot_pairs(q, load(w, i), a)
            b = dot_pairs(q, load(x, i), b)
            c = dot_pairs(q, load(y, i), c)
            d = dot_pairs(q, load(z, i), d)
        store_sums(out, j, a, b, c, d)
    _hide_rest(out, count)


@njit(error_model="numpy")
def score_three(storage, slots, count, width, first, second, third, ahead, out):
    """`score` of three queries; out (3, 64)."""
    for j in range(0, count, 4):
        ask_four(ahead, j)
        w, x, y, z = _four_keys(storage, slots, j, count, width)
        a = b = c = d = broadcast(ZERO)
        e = f = g = h = broadcast(ZERO)
        s = t = u = v = broadcast(ZERO)
        for i in range(0, width // 2, LANES):
            p, q, r = load(first, i), load(second, i), load(third, i)
            key = load(w, i)
            a, e, s = dot_pairs(p, key, a), dot_pairs(q, key, e), dot_pairs(r, key, s)
            key = load(x, i)
            b, f, t = dot_pairs(p, key, b), dot_pairs(q, key, f), dot_pairs(r, key, t)
            key = load(y, i)
            c, g, u = dot_pairs(p, key, c), dot_pairs(q, key, g), dot_pairs(r, key, u)
            key = load(z, i)
            d, h, v = dot_pairs(p, key, d), dot_pairs(q, key, h), dot_pairs(r, key, v)
        store_sums(out, j, a, b, c, d)
        store_sums(out, CHUNK + j, e, f, g, h)
        store_sums(out, 2 * CHUNK + j, s, t, u, v)
    for query in range(3):
        _hide_rest(at(out, query * CHUNK), count)


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
    """Scores to weights relative to the highest so far; returns that, the new mass, and the old ones' factor.

    The weights are written as bf16 numbers in the scores' place, up to a whole vector.
    """
    highest = broadcast(peak)
    for j in range(0, count, LANES):
        highest = maximum(load(scores, j), highest)
    new_peak = max_lanes(highest)
    total = broadcast(ZERO)
    for j in range(0, count, LANES):
        weights = exponential(load(scores, j) - broadcast(new_peak))
        store(bf16s(scores), j, weights)
        total = total + weights
    factor = first_lane(exponential(broadcast(peak - new_peak)))
    return new_peak, fma1(mass, factor, sum_lanes(total)), factor


@njit(error_model="numpy")
def soften_three(scores, count, states, stride, factors):
    """`soften` of three queries: what one waits for, the others fill. scores: (3, 64). states: the first of three,
    `stride` floats apart, whose peak and mass are updated. factors: (3,).
    """
    second, third = at(scores, CHUNK), at(scores, 2 * CHUNK)
    other, last = at(states, stride), at(states, 2 * stride)
    a, b, c = broadcast(states[0]), broadcast(other[0]), broadcast(last[0])
    for j in range(0, count, LANES):
        a, b, c = maximum(load(scores, j), a), maximum(load(second, j), b), maximum(load(third, j), c)
    p, q, r = max_lanes(a), max_lanes(b), max_lanes(c)
    s = t = u = broadcast(ZERO)
    for j in range(0, count, LANES):
        a = exponential(load(scores, j) - broadcast(p))
        b = exponential(load(second, j) - broadcast(q))
        c = exponential(load(third, j) - broadcast(r))
        store(bf16s(scores), j, a)
        store(bf16s(second), j, b)
        store(bf16s(third), j, c)
        s, t, u = s + a, t + b, u + c
    factors[0] = first_lane(exponential(broadcast(states[0] - p)))
    factors[1] = first_lane(exponential(broadcast(other[0] - q)))
    factors[2] = first_lane(exponential(broadcast(last[0] - r)))
    states[0], states[1] = p, fma1(states[1], factors[0], sum_lanes(s))
    other[0], other[1] = q, fma1(other[1], factors[1], sum_lanes(t))
    last[0], last[1] = r, fma1(last[1], factors[2], sum_lanes(u))


@njit(error_model="numpy")
def mix(read, source, slots, count, width, weights, factor, ahead, mixed):
    """mixed = factor * mixed + the sum of `weights` times values, two keys at a time.

    read, source, slots: `paired` or `stored_pairs`, and its first two arguments. weights: bf16 numbers, as pairs.

    With each 64 numbers of values as many of `ahead` are asked for; where there are fewer, none.
    """
    shrink = broadcast(factor)
    i = 0
    while i + FOUR_VECTORS <= width:
        first, last = lines_of(ahead, i, width)
        m = at(mixed, i)
        a, b = load(m, 0) * shrink, load(m, LANES) * shrink
        c, d = load(m, 2 * LANES) * shrink, load(m, 3 * LANES) * shrink
        for j in range(0, count, 2):
            k = min(j + 1, count - 1)
            ask(ahead, j, first, last)
            ask(ahead, j + 1, first, last)
            w = broadcast(weights[j // 2])
            a = dot_pairs(w, read(source, slots, j, k, width, i), a)
            b = dot_pairs(w, read(source, slots, j, k, width, i + LANES), b)
            c = dot_pairs(w, read(source, slots, j, k, width, i + 2 * LANES), c)
            d = dot_pairs(w, read(source, slots, j, k, width, i + 3 * LANES), d)
        store(m, 0, a)
        store(m, LANES, b)
        store(m, 2 * LANES, c)
        store(m, 3 * LANES, d)
        i += FOUR_VECTORS
    while i < width:
        a = load(mixed, i) * shrink
        for j in range(0, count, 2):
            a = dot_pairs(broadcast(weights[j // 2]), read(source, slots, j, min(j + 1, count - 1), width, i), a)
        store(mixed, i, a)
        i += LANES


@njit(error_model="numpy")
def mix_three(read, source, slots, count, width, weights, factors, ahead, mixed, stride):
    """`mix` for three queries. weights: those of each query at 64 floats' distance. factors: (3,). mixed: the first of
    three, `stride` floats apart.
    """
    second, third = at(weights, CHUNK), at(weights, 2 * CHUNK)
    x, y, z = broadcast(factors[0]), broadcast(factors[1]), broadcast(factors[2])
    i = 0
    while i + FOUR_VECTORS <= width:
        first, last = lines_of(ahead, i, width)
        m = at(mixed, i)
        a, b = load(m, 0) * x, load(m, LANES) * x
        c, d = load(m, 2 * LANES) * x, load(m, 3 * LANES) * x
        n = at(m, stride)
        e, f = load(n, 0) * y, load(n, LANES) * y
        g, h = load(n, 2 * LANES) * y, load(n, 3 * LANES) * y
        o = at(n, stride)
        s, t = load(o, 0) * z, load(o, LANES) * z
        u, v = load(o, 2 * LANES) * z, load(o, 3 * LANES) * z
        for j in range(0, count, 2):
            k = min(j + 1, count - 1)
            ask(ahead, j, first, last)
            ask(ahead, j + 1, first, last)
            p, q, r = broadcast(weights[j // 2]), broadcast(second[j // 2]), broadcast(third[j // 2])
            value = read(source, slots, j, k, width, i)
            a, e, s = dot_pairs(p, value, a), dot_pairs(q, value, e), dot_pairs(r, value, s)
            value = read(source, slots, j, k, width, i + LANES)
            b, f, t = dot_pairs(p, value, b), dot_pairs(q, value, f), dot_pairs(r, value, t)
            value = read(source, slots, j, k, width, i + 2 * LANES)
            c, g, u = dot_pairs(p, value, c), dot_pairs(q, value, g), dot_pairs(r, value, u)
            value = read(source, slots, j, k, width, i + 3 * LANES)
            d, h, v = dot_pairs(p, value, d), dot_pairs(q, value, h), dot_pairs(r, value, v)
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
        i += FOUR_VECTORS
    while i < width:
        a, b, c = load(mixed, i) * x, load(mixed, stride + i) * y, load(mixed, 2 * stride + i) * z
        for j in range(0, count, 2):
            value = read(source, slots, j, min(j + 1, count - 1), width, i)
            a = dot_pairs(broadcast(weights[j // 2]), value, a)
            b = dot_pairs(broadcast(second[j // 2]), value, b)
            c = dot_pairs(broadcast(third[j // 2]), value, c)
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
