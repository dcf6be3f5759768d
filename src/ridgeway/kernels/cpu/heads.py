"""Attention of a weight stream, and of a draft head: from the products of a row to what its heads mix together."""

import numpy as np
from numba import njit

from ridgeway.kernels.cpu.activation import ONE, ZERO, quantize, rms_norm, rotate
from ridgeway.kernels.cpu.attention import (
    TOGETHER,
    begin,
    conclude,
    hide,
    join,
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
from ridgeway.kernels.cpu.lanes import (
    absolute,
    at,
    bf16s,
    broadcast,
    floats,
    load,
    longs,
    max_lanes,
    maximum,
    signed_bytes,
    store,
    store_rounded,
)
from ridgeway.kernels.cpu.layout import CHUNK, LANES, ORDER_BYTES, ROW_LONGS, SEGMENT, B, L, M, R, S
from ridgeway.kernels.cpu.prefetching import NOTHING_AHEAD, Ahead, share
from ridgeway.kernels.cpu.tiles import GROUP, GROUP_BYTES, OUTPUTS

CHUNKS_PER_SEGMENT = SEGMENT // CHUNK
_LARGEST = np.float32(127.0)
_NOTHING = np.float32(1e-30)


@njit(error_model="numpy")
def _take(product, bias, width, padded, out):
    """One head of a product, and its bias if there is one; out (padded,) is filled up with zeros."""
    whole = width // LANES * LANES
    for i in range(0, whole, LANES):
        store(out, i, load(product, i))
    for i in range(whole, padded):
        out[i] = product[i] if i < width else ZERO
    if bias != 0:
        values = floats(bias)
        for i in range(width):
            out[i] = out[i] + values[i]


@njit(error_model="numpy")
def _head(product, bias, norm, step, position, scale, out):
    """One head of a query or key: bias, norm, rotary position; out (kv_width,) is padded with zeros."""
    width, padded = step[S.head_dim], step[S.kv_width]
    _take(product, bias, width, padded, out)
    if norm != 0:
        rms_norm(out, floats(norm), out, width, padded, floats(step[S.eps])[0])
    half = width // 2
    cosine, sine = floats(step[S.cosines] + position * half * 4), floats(step[S.sines] + position * half * 4)
    rotate(out, cosine, sine, half, scale, out)


@njit(error_model="numpy")
def _keep(values, storage, scales, slot, width):
    """Stores one head of a key or value as bf16, or as int8 with a scale of its own."""
    if scales == 0:
        line = bf16s(storage + slot * width * 2)
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
def prepare_query(step, product, bias, norm, position, out):
    """A query head as attention takes it: bias and norm (addresses; 0: none), rotary position, scale; as bf16.

    out: room for (kv_width,) floats.
    """
    _head(product, bias, norm, step, position, ONE / np.sqrt(np.float32(step[S.head_dim])), out)
    for i in range(0, step[S.kv_width], LANES):
        store(bf16s(out), i, load(out, i))


@njit(error_model="numpy")
def prepare_head(step, layer, row, head, scratch):
    """One K/V head of `row` into the cache, and the queries that belong to it into their buffer."""
    width, padded = step[S.head_dim], step[S.kv_width]
    heads, kv_heads, slots = step[S.heads], step[S.kv_heads], step[S.head_slots]
    about = longs(step[S.row_table] + row * ROW_LONGS * 8)
    queries = floats(step[S.product] + row * step[S.product_stride] * 4)
    keys = at(queries, layer[L.q + M.tile_count] * OUTPUTS)
    values = at(keys, layer[L.k + M.tile_count] * OUTPUTS)
    out = floats(step[S.query] + row * heads * padded * 4)
    group = heads // kv_heads
    for own in range(head * group, (head + 1) * group):
        bias = layer[L.q_bias] + own * width * 4 if layer[L.q_bias] else 0
        norm = layer[L.q_norm]
        prepare_query(step, at(queries, own * width), bias, norm, about[R.position], at(out, own * padded))
    temporary = floats(scratch)
    element = 2 if layer[L.key_scales] == 0 else 1
    place = head * slots * padded * element
    bias = layer[L.k_bias] + head * width * 4 if layer[L.k_bias] else 0
    _head(at(keys, head * width), bias, layer[L.k_norm], step, about[R.position], ONE, temporary)
    scales = layer[L.key_scales] + head * slots * 4 if layer[L.key_scales] else 0
    _keep(temporary, layer[L.keys] + place, scales, about[R.slot], padded)
    bias = layer[L.v_bias] + head * width * 4 if layer[L.v_bias] else 0
    _take(at(values, head * width), bias, width, padded, temporary)
    scales = layer[L.value_scales] + head * slots * 4 if layer[L.value_scales] else 0
    _keep(temporary, layer[L.values] + place, scales, about[R.slot], padded)


@njit(error_model="numpy")
def first_keys(step, layer, block, head, segment):
    """The keys of a block that attention with a K/V head reads first, to be asked for before it is that head's turn."""
    return _keys_at(step, layer, block, head, segment * SEGMENT)


@njit(error_model="numpy")
def _keys_at(step, layer, block, head, place):
    """The chunk of shared keys at logical place `place`."""
    size = step[S.kv_width] * (2 if layer[L.key_scales] == 0 else 1)
    count = max(0, min(block[B.shared_count] - place, CHUNK))
    slots = step[S.key_slots] + (block[B.shared_start] + place) * 8
    return Ahead(layer[L.keys] + head * step[S.head_slots] * size, size, slots, count)


@njit(error_model="numpy")
def attend(step, layer, block, start_row, stop_row, head, first_segment, last_segment, after, scratch, splits):
    """Attention of rows `start_row` to `stop_row` - 1 of a block with one K/V head over some segments of their keys.

    after: keys that are read when this is done.

    Scratch memory: the numbers from 0 to 63, as the order of keys that were widened; a chunk of keys or values; for
    each row and query head 64 scores, the states of this segment and of all segments so far.
    """
    width, heads = step[S.kv_width], step[S.heads]
    group = heads // step[S.kv_heads]
    rows, first_row = stop_row - start_row, block[B.first_row] + start_row
    vectors = rows * group
    state = LANES + width
    for j in range(CHUNK):
        longs(scratch)[j] = j
    scores = at(floats(scratch + ORDER_BYTES), CHUNK * width // 2)
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
            last_place = place + CHUNK >= min(last_segment * SEGMENT, block[B.longest])
            following = after if last_place else _keys_at(step, layer, block, head, place + CHUNK)
            if place < block[B.shared_count]:
                keys = block[B.shared_start] + place
                _chunk(step, layer, head, first_row, rows, keys, place, following, scratch, scores, parts, factors)
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
                        following if row == rows - 1 else NOTHING_AHEAD,
                        scratch,
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
def _chunk(step, layer, head, first_row, rows, keys, place, following, scratch, scores, parts, factors):
    """Adds up to 64 keys, from logical place `place` on, to the segments of `rows` rows.

    keys: their place in the key list. following: the keys that are read next. scratch: as of `attend`.
    """
    order, room = longs(scratch), scratch + ORDER_BYTES
    chunk = floats(room)
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
    vectors = rows * group
    quantized = layer[L.key_scales] != 0
    size = width * (1 if quantized else 2)
    offset = head * step[S.head_slots] * size
    scales = head * step[S.head_slots] * 4
    storage = layer[L.keys] + offset
    listed = slots
    if quantized:
        widen_keys(storage, layer[L.key_scales] + scales, slots, most, width, chunk)
        storage, listed = room, order
    values = Ahead(layer[L.values] + offset, size, step[S.key_slots] + keys * 8, most)
    queries = step[S.query] + (first_row * step[S.heads] + head * group) * width * 4
    vector = 0
    while vector < vectors:
        count, together = _alike(table, place, group, vector, vectors)
        if count > 0:
            mine = at(scores, vector * CHUNK)
            ahead = share(values, vector, vector + together, vectors)
            _score(storage, listed, count, step, queries, group, vector, together, ahead, mine)
            if window > 0:
                for own in range(vector, vector + together):
                    begins = table[own // group * ROW_LONGS + R.position] - window + 1
                    hide(at(scores, own * CHUNK), positions, count, begins)
            part = at(parts, vector * state)
            if together == 1:
                part[0], part[1], factors[vector] = soften(mine, count, part[0], part[1])
            else:
                soften_three(mine, count, part, state, at(factors, vector))
        vector += together
    storage = layer[L.values] + offset
    direct = not quantized and vectors <= TOGETHER
    if not direct:
        pair_values(storage, layer[L.value_scales] + scales if quantized else 0, slots, most, width, chunk)
    vector = 0
    while vector < vectors:
        count, together = _alike(table, place, group, vector, vectors)
        if count > 0:
            weights, mixed = at(scores, vector * CHUNK), at(parts, vector * state + LANES)
            own = at(factors, vector)
            ahead = share(following, vector, vector + together, vectors)
            if direct:
                _mix(stored_pairs, storage, slots, count, width, weights, own, ahead, mixed, state, together)
            else:
                _mix(paired, chunk, slots, count, width, weights, own, ahead, mixed, state, together)
        vector += together


@njit(error_model="numpy")
def _alike(table, place, group, vector, vectors):
    """How many of a chunk's keys vector `vector` (row by row, `group` query heads of each) sees; and how many vectors
    from it on are taken together: those that see as many.
    """
    count = min(table[vector // group * ROW_LONGS + R.seen] - place, CHUNK)
    if vector + TOGETHER > vectors:
        return count, 1
    last = min(table[(vector + TOGETHER - 1) // group * ROW_LONGS + R.seen] - place, CHUNK)
    middle = min(table[(vector + TOGETHER // 2) // group * ROW_LONGS + R.seen] - place, CHUNK)
    return count, TOGETHER if count == middle == last else 1


@njit(error_model="numpy")
def _score(storage, slots, count, step, queries, group, vector, together, ahead, scores):
    """Scores of vector `vector`, or of three from it on. queries: address of the first vector's query."""
    width, heads = step[S.kv_width], step[S.heads]
    first = floats(queries + (vector // group * heads + vector % group) * width * 4)
    if together == 1:
        score(storage, slots, count, width, first, ahead, scores)
        return
    own, third = vector + 1, vector + 2
    other = floats(queries + (own // group * heads + own % group) * width * 4)
    last = floats(queries + (third // group * heads + third % group) * width * 4)
    score_three(storage, slots, count, width, first, other, last, ahead, scores)


@njit(error_model="numpy")
def _mix(read, source, slots, count, width, weights, factors, ahead, mixed, stride, together):
    if together == 1:
        mix(read, source, slots, count, width, weights, factors[0], ahead, mixed)
    else:
        mix_three(read, source, slots, count, width, weights, factors, ahead, mixed, stride)


@njit(error_model="numpy")
def _any_from(positions, count, lowest):
    """Whether a key lies inside the window of some row."""
    found = False
    for j in range(count):
        found = found or positions[j] >= lowest
    return found
