"""Attention within a weight stream: from the products of a row to what its heads mix together."""

import numpy as np
from numba import njit

from ridgeway.kernels.cpu.activation import ONE, ZERO, quantize, rms_norm, rotate
from ridgeway.kernels.cpu.attention import begin, conclude, gather, hide, join, mix, score, soften
from ridgeway.kernels.cpu.lanes import (
    absolute,
    at,
    broadcast,
    floats,
    halves,
    load,
    longs,
    max_lanes,
    maximum,
    signed_bytes,
    store,
    store_rounded,
)
from ridgeway.kernels.cpu.layout import CHUNK, LANES, ROW_LONGS, SEGMENT, B, L, M, R, S
from ridgeway.kernels.cpu.tiles import GROUP, GROUP_BYTES, OUTPUTS

CHUNKS_PER_SEGMENT = SEGMENT // CHUNK
_LARGEST = np.float32(127.0)
_NOTHING = np.float32(1e-30)


@njit(error_model="numpy")
def _head(product, bias, norm, step, cosine, sine, scale, out):
    """One head of a query or key: bias, norm, rotary position; out (kv_width,) is padded with zeros."""
    width, padded = step[S.head_dim], step[S.kv_width]
    for i in range(width):
        out[i] = product[i]
    if bias != 0:
        values = floats(bias)
        for i in range(width):
            out[i] = out[i] + values[i]
    for i in range(width, padded):
        out[i] = ZERO
    if norm != 0:
        rms_norm(out, floats(norm), out, width, padded, floats(step[S.eps])[0])
    rotate(out, cosine, sine, width // 2, scale, out)


@njit(error_model="numpy")
def _keep(values, storage, scales, slot, width):
    """Stores one head of a key or value as fp16, or as int8 with a scale of its own."""
    if scales == 0:
        line = halves(storage + slot * width * 2)
        for i in range(0, width, LANES):
            store(line, i, load(values, i))
        return
    largest = broadcast(ZERO)
    for i in range(0, width, LANES):
        largest = maximum(largest, absolute(load(values, i)))
    top = max_lanes(largest)
    inverse = ZERO
    if top > _NOTHING:
        inverse = _LARGEST / top
    small = signed_bytes(storage + slot * width)
    for i in range(0, width, LANES):
        store_rounded(small, i, load(values, i) * broadcast(inverse))
    floats(scales)[slot] = top / _LARGEST


@njit(error_model="numpy")
def prepare_head(step, layer, row, head, scratch):
    """One K/V head of `row` into the cache, and the queries that belong to it into their buffer."""
    width, padded = step[S.head_dim], step[S.kv_width]
    heads, kv_heads, slots = step[S.heads], step[S.kv_heads], step[S.kv_slots]
    about = longs(step[S.row_table] + row * ROW_LONGS * 8)
    half = width // 2
    cosine = floats(step[S.cosines] + about[R.position] * half * 4)
    sine = floats(step[S.sines] + about[R.position] * half * 4)
    queries = floats(step[S.product] + row * step[S.product_stride] * 4)
    keys = at(queries, layer[L.q + M.tile_count] * OUTPUTS)
    values = at(keys, layer[L.k + M.tile_count] * OUTPUTS)
    scale = ONE / np.sqrt(np.float32(width))
    out = floats(step[S.query] + row * heads * padded * 4)
    group = heads // kv_heads
    for own in range(head * group, (head + 1) * group):
        bias = layer[L.q_bias] + own * width * 4 if layer[L.q_bias] else 0
        norm = layer[L.q_norm]
        _head(at(queries, own * width), bias, norm, step, cosine, sine, scale, at(out, own * padded))
    temporary = floats(scratch)
    element = 2 if layer[L.key_scales] == 0 else 1
    place = head * slots * padded * element
    bias = layer[L.k_bias] + head * width * 4 if layer[L.k_bias] else 0
    _head(at(keys, head * width), bias, layer[L.k_norm], step, cosine, sine, ONE, temporary)
    scales = layer[L.key_scales] + head * slots * 4 if layer[L.key_scales] else 0
    _keep(temporary, layer[L.keys] + place, scales, about[R.slot], padded)
    for i in range(width):
        temporary[i] = values[head * width + i]
    if layer[L.v_bias]:
        bias_values = floats(layer[L.v_bias] + head * width * 4)
        for i in range(width):
            temporary[i] = temporary[i] + bias_values[i]
    scales = layer[L.value_scales] + head * slots * 4 if layer[L.value_scales] else 0
    _keep(temporary, layer[L.values] + place, scales, about[R.slot], padded)


@njit(error_model="numpy")
def attend(step, layer, block, head, first_segment, last_segment, scratch, splits):
    """Attention of a block's rows with one K/V head over some segments of their keys.

    Scratch memory: a chunk of keys or values; for each row and query head 64 scores, the states of this segment and of
    all segments so far.
    """
    width, heads = step[S.kv_width], step[S.heads]
    group = heads // step[S.kv_heads]
    rows, first_row = block[B.rows], block[B.first_row]
    vectors = rows * group
    state = LANES + width
    chunk = floats(scratch)
    scores = at(chunk, CHUNK * width)
    parts = at(scores, vectors * CHUNK)
    totals = at(parts, vectors * state)
    factors = at(totals, vectors * state)
    if not splits:
        for vector in range(vectors):
            begin(at(totals, vector * state), width)
    for segment in range(first_segment, last_segment):
        start = segment * SEGMENT
        if start >= block[B.longest]:
            break
        for vector in range(vectors):
            begin(at(parts, vector * state), width)
        for place in range(start, min(start + SEGMENT, block[B.longest]), CHUNK):
            if place < block[B.shared_count]:
                keys = block[B.shared_start] + place
                _chunk(step, layer, head, first_row, rows, keys, place, chunk, scores, parts, factors)
            else:
                for row in range(rows):
                    own = longs(step[S.row_table] + (first_row + row) * ROW_LONGS * 8)[R.own_start]
                    keys = own + place - block[B.shared_count]
                    move = row * group
                    _chunk(
                        step,
                        layer,
                        head,
                        first_row + row,
                        1,
                        keys,
                        place,
                        chunk,
                        at(scores, move * CHUNK),
                        at(parts, move * state),
                        at(factors, move),
                    )
        for row in range(rows):
            about = longs(step[S.row_table] + (first_row + row) * ROW_LONGS * 8)
            if about[R.seen] <= start:
                continue
            for g in range(group):
                vector = row * group + g
                if splits:
                    number = (first_row + row) * heads + head * group + g
                    target = floats(step[S.partials] + (number * step[S.segments] + segment) * state * 4)
                    for i in range(0, state, LANES):
                        store(target, i, load(at(parts, vector * state), i))
                else:
                    join(at(totals, vector * state), at(parts, vector * state), width)
    if not splits:
        for row in range(rows):
            for g in range(group):
                vector = row * group + g
                _return(step, first_row + row, head * group + g, at(totals, vector * state))
            own = group * step[S.head_dim]
            if own % GROUP == 0:
                number = first_row + row
                mixed = floats(step[S.mixed] + (number * step[S.mixed_stride] + head * own) * 4)
                packed = step[S.packed] + number * step[S.packed_bytes] + head * own // GROUP * GROUP_BYTES
                quantize(mixed, own // GROUP, packed)


@njit(error_model="numpy")
def _return(step, row, head, state):
    """Writes what one head of a row mixed."""
    width, padded = step[S.head_dim], step[S.kv_width]
    conclude(state, padded, at(state, LANES))
    out = floats(step[S.mixed] + (row * step[S.mixed_stride] + head * width) * 4)
    for i in range(width):
        out[i] = state[LANES + i]


@njit(error_model="numpy")
def combine(step, row):
    """Joins the segments of all heads of a row, in order, in the place of the first."""
    state = LANES + step[S.kv_width]
    about = longs(step[S.row_table] + row * ROW_LONGS * 8)
    count = (about[R.seen] + SEGMENT - 1) // SEGMENT
    for head in range(step[S.heads]):
        number = row * step[S.heads] + head
        first = floats(step[S.partials] + number * step[S.segments] * state * 4)
        for segment in range(1, count):
            join(first, at(first, segment * state), step[S.kv_width])
        _return(step, row, head, first)


@njit(error_model="numpy")
def _chunk(step, layer, head, first_row, rows, keys, place, chunk, scores, parts, factors):
    """Adds up to 64 keys, from logical place `place` on, to the segments of `rows` rows.

    keys: their place in the key list.
    """
    width, group = step[S.kv_width], step[S.heads] // step[S.kv_heads]
    state = LANES + width
    table = longs(step[S.row_table] + first_row * ROW_LONGS * 8)
    most, lowest = 0, table[R.position]
    for row in range(rows):
        most = max(most, table[row * ROW_LONGS + R.seen] - place)
        lowest = min(lowest, table[row * ROW_LONGS + R.position])
    most = min(most, CHUNK)
    window = layer[L.window]
    slots, positions = at(longs(step[S.key_slots]), keys), at(longs(step[S.key_positions]), keys)
    if most <= 0 or (window > 0 and not _any_from(positions, most, lowest - window + 1)):
        return
    quantized = layer[L.key_scales] != 0
    element = 1 if quantized else 2
    offset = head * step[S.kv_slots] * width * element
    scales = head * step[S.kv_slots] * 4
    gather(layer[L.keys] + offset, layer[L.key_scales] + scales if quantized else 0, slots, most, width, chunk)
    queries = step[S.query] + (first_row * step[S.heads] + head * group) * width * 4
    for row in range(rows):
        count = min(table[row * ROW_LONGS + R.seen] - place, CHUNK)
        if count <= 0:
            continue
        for g in range(group):
            vector = row * group + g
            mine = at(scores, vector * CHUNK)
            part = at(parts, vector * state)
            score(floats(queries + (row * step[S.heads] + g) * width * 4), chunk, count, width, mine)
            if window > 0:
                hide(mine, positions, count, table[row * ROW_LONGS + R.position] - window + 1)
            part[0], part[1], factors[vector] = soften(mine, count, part[0], part[1])
    scales_of_values = layer[L.value_scales] + scales if quantized else 0
    gather(layer[L.values] + offset, scales_of_values, slots, most, width, chunk)
    for row in range(rows):
        count = min(table[row * ROW_LONGS + R.seen] - place, CHUNK)
        if count <= 0:
            continue
        for g in range(group):
            vector = row * group + g
            mixed = at(parts, vector * state + LANES)
            mix(at(scores, vector * CHUNK), chunk, count, width, factors[vector], mixed)


@njit(error_model="numpy")
def _any_from(positions, count, lowest):
    """Whether a key lies inside the window of some row."""
    found = False
    for j in range(count):
        found = found or positions[j] >= lowest
    return found
