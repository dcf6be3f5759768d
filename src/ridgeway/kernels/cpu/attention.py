"""Attention of a few rows of one query over the paged cache, for the query heads that share one K/V head.

Each row sees a list of keys in logical order: cached slots, then rows of its query. The list is cut into segments of
512 keys and these into chunks of 64. Within a segment, chunks are combined with an online softmax (Milakov and
Gimelshein 2018) in order; then segments are, in order. Nothing in this depends on which rows come along, on how the
prompt was cut, or on who computes which segment, so neither do the bits of the result. K/V are read as stored, those of
rows of the same step included.

A chunk's keys are widened to floats once for all rows and heads; scores of one row are sums in 16 lanes over the
dimensions of a head, four keys at a time.
"""

import numpy as np
from numba import njit

from ridgeway.kernels.cpu.activation import ZERO, exponential
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
    max_lanes,
    maximum,
    signed_bytes,
    store,
    store_sums,
    sum_lanes,
)
from ridgeway.kernels.cpu.layout import LANES

LOWEST = np.float32(np.finfo(np.float32).min)
_NOT_SEEN = np.float32(-np.inf)
_FOUR_VECTORS = 4 * LANES


@njit(error_model="numpy")
def gather(storage, scales, slots, count, width, out):
    """Widens `count` keys (or values) of `width` numbers to floats (64, width), followed by zeros up to a whole four.

    storage: address of this head's fp16 numbers by slot; if `scales` is not 0, of int8, whose scales lie there.
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
    for j in range(count, (count + 3) // 4 * 4):
        for d in range(0, width, LANES):
            store(out, j * width + d, broadcast(ZERO))


@njit(error_model="numpy")
def score(query, keys, count, width, out):
    """Products of `query` (width,) with `count` keys; out (64,) is filled with -inf up to a whole vector."""
    for j in range(0, count, 4):
        k = at(keys, j * width)
        a = b = c = d = broadcast(ZERO)
        for i in range(0, width, LANES):
            q = load(query, i)
            a = fma(q, load(k, i), a)
            b = fma(q, load(k, width + i), b)
            c = fma(q, load(k, 2 * width + i), c)
            d = fma(q, load(k, 3 * width + i), d)
        store_sums(out, j, a, b, c, d)
    last = count // LANES * LANES
    if last < count:
        store(out, last, first_lanes(load(out, last), count - last, _NOT_SEEN))


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
def mix(weights, values, count, width, factor, mixed):
    """mixed = factor * mixed + the sum of `weights` times `values`, key by key."""
    i = 0
    while i + _FOUR_VECTORS <= width:
        m = at(mixed, i)
        v = at(values, i)
        shrink = broadcast(factor)
        a, b = load(m, 0) * shrink, load(m, LANES) * shrink
        c, d = load(m, 2 * LANES) * shrink, load(m, 3 * LANES) * shrink
        for j in range(count):
            w = broadcast(weights[j])
            a = fma(w, load(v, j * width), a)
            b = fma(w, load(v, j * width + LANES), b)
            c = fma(w, load(v, j * width + 2 * LANES), c)
            d = fma(w, load(v, j * width + 3 * LANES), d)
        store(m, 0, a)
        store(m, LANES, b)
        store(m, 2 * LANES, c)
        store(m, 3 * LANES, d)
        i += _FOUR_VECTORS
    while i < width:
        a = load(mixed, i) * broadcast(factor)
        for j in range(count):
            a = fma(broadcast(weights[j]), load(values, j * width + i), a)
        store(mixed, i, a)
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
