"""A draft head unrolled: several tokens guessed one after the other, without a weight stream between them.

For each row (a sequence) a state goes on from token to token (see `models.draft_head`):

    z = state, the head's row of the newest token
    seen = attention of (query z) to the K/V of the text so far
    state = state + down (silu(gate [z, seen]) * (up [z, seen]))
    logits = the head's rows of the frequent tokens, times state

The token that a row drafts is the likeliest one, or, at a temperature, the one with the highest total of scaled logit
and the noise that the target will use at that position. Products are those of a weight stream, and threads share the
tiles in the same way.
"""

import numpy as np
from numba import njit

from ridgeway.core.drafting import GUESSES
from ridgeway.kernels.cpu.activation import add, gate, quantize, rms_norm
from ridgeway.kernels.cpu.ahead import read_ahead
from ridgeway.kernels.cpu.heads import attend, prepare_query
from ridgeway.kernels.cpu.lanes import (
    at,
    broadcast,
    doubles,
    first_lanes,
    floats,
    halves,
    load,
    longs,
    max_lanes,
    store,
)
from ridgeway.kernels.cpu.layout import (
    BLOCK_LONGS,
    HEAD_UNIT,
    LANES,
    ROW_LONGS,
    UF,
    UNIT_FLOATS,
    UNROLL_ROW_LONGS,
    UR,
    M,
    R,
    S,
    U,
)
from ridgeway.kernels.cpu.multiply import multiply
from ridgeway.kernels.cpu.phases import claim, close, enter, finish, leave
from ridgeway.kernels.cpu.prefetching import NOTHING_AHEAD
from ridgeway.kernels.cpu.sampling import token_noise
from ridgeway.kernels.cpu.team import AHEAD
from ridgeway.kernels.cpu.tiles import GROUP, GROUP_BYTES, OUTPUTS
from ridgeway.kernels.cpu.unpack import unpack_row
from ridgeway.kernels.cpu.vocabulary import LEAST, measure_unit

_UNLIKELY = 12.0  # nats below the likeliest: the noise of such tokens is not asked for


@njit(error_model="numpy")
def _pack_rows(control, phase, table, step):
    """Quantizes states and tokens. At first these are the hidden state, which is normed, and the newest token."""
    rows, hidden = table[UF.rows], table[UF.hidden]
    groups = 2 * hidden // GROUP
    while True:
        first, count = claim(control, phase, rows, 1, table[UF.threads])
        if first < 0:
            return phase + 1
        for row in range(first, first + count):
            z = floats(table[UF.z] + row * table[UF.z_stride] * 4)
            if step == 0:
                rms_norm(z, floats(table[UF.norm]), z, hidden, hidden, floats(table[UF.eps])[0])
                if table[UF.embedding] != 0:
                    token = longs(table[UF.row_table] + row * UNROLL_ROW_LONGS * 8)[UR.token]
                    packed = table[UF.embedding] + token * table[UF.embedding_bytes]
                    unpack_row(packed, table[UF.embedding_bytes], table[UF.z] + (row * table[UF.z_stride] + hidden) * 4)
            quantize(z, groups, table[UF.z_packed] + row * table[UF.z_packed_bytes])
        finish(control, phase, rows, count)


@njit(error_model="numpy")
def _ask(control, phase, table):
    """The queries of all heads."""
    matrix = longs(table[UF.query])
    total = matrix[M.tile_count]
    while True:
        first, count = claim(control, phase, total, 2, table[UF.threads])
        if first < 0:
            return phase + 1
        out, stride = table[UF.product] + first * OUTPUTS * 4, table[UF.product_stride]
        packed = table[UF.z_packed]
        multiply(matrix, first, first + count, table[UF.rows], 0, 0, packed, table[UF.z_packed_bytes], out, stride)
        finish(control, phase, total, count)


@njit(error_model="numpy")
def _look(control, phase, table, number, member):
    """What the heads see, quantized. A task is a row and a K/V head."""
    step, layer = longs(table[UF.step]), longs(table[UF.layer])
    heads, kv_heads = step[S.heads], step[S.kv_heads]
    width, padded, group = step[S.head_dim], step[S.kv_width], heads // kv_heads
    scratch = step[S.scratch] + member * step[S.scratch_bytes]
    total = table[UF.rows] * kv_heads
    while True:
        first, count = claim(control, phase, total, 1, table[UF.threads])
        if first < 0:
            return phase + 1
        for task in range(first, first + count):
            row, head = task // kv_heads, task % kv_heads
            position = longs(step[S.row_table] + row * ROW_LONGS * 8)[R.position] + number
            asked = floats(table[UF.product] + row * table[UF.product_stride] * 4)
            out = floats(step[S.query] + row * heads * padded * 4)
            for own in range(head * group, (head + 1) * group):
                prepare_query(step, at(asked, own * width), 0, 0, position, at(out, own * padded))
            block = longs(step[S.block_table] + row * BLOCK_LONGS * 8)
            attend(step, layer, block, 0, 1, head, 0, step[S.segments], NOTHING_AHEAD, scratch, False)
        finish(control, phase, total, count)


@njit(error_model="numpy")
def _gate_and_up(control, phase, table):
    """Two tiles of each at a time, gated and quantized as one group."""
    rows, stride = table[UF.rows], table[UF.product_stride]
    gates, ups = longs(table[UF.gate]), longs(table[UF.up])
    tiles = gates[M.tile_count]
    total = tiles // 2
    while True:
        first, count = claim(control, phase, total, 1, table[UF.threads])
        if first < 0:
            return phase + 1
        start, stop = 2 * first, 2 * (first + count)
        width = (stop - start) * OUTPUTS
        offset = start * OUTPUTS * 4
        gate_out = table[UF.product] + offset
        up_out = gate_out + tiles * OUTPUTS * 4
        for place in range(2):
            matrix, out = (gates, gate_out) if place == 0 else (ups, up_out)
            packed = table[UF.z_packed]
            multiply(matrix, start, stop, rows, 0, 0, packed, table[UF.z_packed_bytes], out, stride)
        for row in range(rows):
            move = row * stride * 4
            out = table[UF.gated] + row * table[UF.gated_stride] * 4 + offset
            gate(floats(gate_out + move), floats(up_out + move), floats(out), width)
            place = table[UF.gated_packed] + row * table[UF.gated_packed_bytes] + first * GROUP_BYTES
            quantize(floats(out), width // GROUP, place)
        finish(control, phase, total, count)


@njit(error_model="numpy")
def _down(control, phase, table):
    """The new state, two tiles at a time, and the same quantized: a group."""
    rows, stride = table[UF.rows], table[UF.product_stride]
    matrix = longs(table[UF.down])
    total = matrix[M.tile_count] // 2
    while True:
        first, count = claim(control, phase, total, 1, table[UF.threads])
        if first < 0:
            return phase + 1
        start, stop = 2 * first, 2 * (first + count)
        offset = start * OUTPUTS * 4
        out = table[UF.product] + offset
        packed = table[UF.gated_packed]
        multiply(matrix, start, stop, rows, 0, 0, packed, table[UF.gated_packed_bytes], out, stride)
        for row in range(rows):
            state = floats(table[UF.z] + row * table[UF.z_stride] * 4 + offset)
            add(state, floats(out + row * stride * 4), state, False, (stop - start) * OUTPUTS)
            place = table[UF.z_packed] + row * table[UF.z_packed_bytes] + first * GROUP_BYTES
            quantize(state, count, place)
        finish(control, phase, total, count)


@njit(error_model="numpy")
def _head(control, phase, table):
    """Logits of the frequent tokens."""
    rows, stride = table[UF.rows], table[UF.logits_stride]
    matrix = longs(table[UF.head])
    tiles = matrix[M.tile_count]
    total = (tiles + HEAD_UNIT - 1) // HEAD_UNIT
    while True:
        first, count = claim(control, phase, total, 1, table[UF.threads])
        if first < 0:
            return phase + 1
        for unit in range(first, first + count):
            start = unit * HEAD_UNIT
            stop = min(start + HEAD_UNIT, tiles)
            out = table[UF.logits] + start * OUTPUTS * 4
            packed = table[UF.z_packed]
            multiply(matrix, start, stop, rows, 0, 0, packed, table[UF.z_packed_bytes], out, stride)
            tokens = min(stop * OUTPUTS, table[UF.vocabulary]) - start * OUTPUTS
            for row in range(rows):
                found = floats(table[UF.units] + (row * total + unit) * UNIT_FLOATS * 4)
                measure_unit(floats(out + row * stride * 4), tokens, 0, found)
        finish(control, phase, total, count)


@njit(error_model="numpy")
def _mass(logits, count, best, inverse):
    """The sum of exp((logit - best) * inverse)."""
    total = 0.0
    for i in range(0, count, LANES):
        gaps = first_lanes(load(logits, i), count - i, LEAST) - broadcast(best)
        highest = max_lanes(gaps)
        if highest * inverse > np.float32(-_UNLIKELY):
            for j in range(i, min(i + LANES, count)):
                total += np.exp(np.float64((logits[j] - best) * inverse))
    return total


@njit(error_model="numpy")
def _guess(table, row, step):
    """The two tokens with the highest totals, as outputs of the head; and their probabilities."""
    count = table[UF.vocabulary]
    units = (longs(table[UF.head])[M.tile_count] + HEAD_UNIT - 1) // HEAD_UNIT
    found = floats(table[UF.units] + row * units * UNIT_FLOATS * 4)
    logits = floats(table[UF.logits] + row * table[UF.logits_stride] * 4)
    ids = longs(table[UF.ids])
    about = longs(table[UF.row_table] + row * UNROLL_ROW_LONGS * 8)
    temperature = doubles(table[UF.numbers] + row * 16)[0]
    sampled = temperature > 0.0
    scale = temperature if sampled else 1.0
    best = found[U.best]
    for unit in range(1, units):
        best = max(best, found[unit * UNIT_FLOATS + U.best])
    limit = best - np.float32(_UNLIKELY * scale)
    first = second = np.int64(-1)
    first_total = second_total = -np.inf
    position, sample = np.uint64(about[UR.position] + step), np.uint64(about[UR.sample])
    seed = np.uint64(about[UR.seed])
    for unit in range(units):
        if found[unit * UNIT_FLOATS + U.best] < limit:
            continue
        start = unit * HEAD_UNIT * OUTPUTS
        for i in range(start, min(start + HEAD_UNIT * OUTPUTS, count), LANES):
            values = first_lanes(load(logits, i), count - i, LEAST)
            highest = max_lanes(values)
            if highest < limit or (not sampled and highest <= second_total):
                continue
            for j in range(i, min(i + LANES, count)):
                if logits[j] < limit:
                    continue
                total = np.float64(logits[j])
                if sampled:
                    total = total / temperature + token_noise(ids[j], position, sample, seed)
                if total > first_total:
                    second, second_total = first, first_total
                    first, first_total = j, total
                elif total > second_total:
                    second, second_total = j, total
    inverse = np.float32(1.0 / scale)
    mass = _mass(logits, count, best, inverse)
    return first, second, mass, best, inverse


@njit(error_model="numpy")
def _feed(table, output, row):
    """The head's row of a token, behind the row's state."""
    hidden = table[UF.hidden]
    fed = halves(table[UF.fed] + output * hidden * 2)
    out = floats(table[UF.z] + (row * table[UF.z_stride] + hidden) * 4)
    for i in range(0, hidden, LANES):
        store(out, i, load(fed, i))


@njit(error_model="numpy")
def _choose(control, phase, table, step):
    """Chooses each row's token and prepares the next step of rows that go on."""
    rows, depth = table[UF.rows], table[UF.depth]
    while True:
        start, count = claim(control, phase, rows, 1, table[UF.threads])
        if start < 0:
            return phase + 1
        for row in range(start, start + count):
            before = 1.0
            survival = doubles(table[UF.survival])
            if step > 0:
                before = survival[(step - 1) * rows + row]
            least = doubles(table[UF.numbers] + row * 16)[1]
            if before < least:
                survival[step * rows + row] = 0.0
                continue
            first, second, mass, best, inverse = _guess(table, row, step)
            if first < 0:  # no logit is a number
                survival[step * rows + row] = 0.0
                continue
            place = (row * depth + step) * GUESSES
            tokens, chances = longs(table[UF.tokens]), doubles(table[UF.chances])
            logits = floats(table[UF.logits] + row * table[UF.logits_stride] * 4)
            ids = longs(table[UF.ids])
            chance = np.exp(np.float64((logits[first] - best) * inverse)) / mass
            tokens[place], chances[place] = ids[first], chance
            if second >= 0:
                tokens[place + 1] = ids[second]
                chances[place + 1] = np.exp(np.float64((logits[second] - best) * inverse)) / mass
            survival[step * rows + row] = before * chance
            _feed(table, first, row)
        finish(control, phase, rows, count)


def unroll(control_address: int, table_address: int, member: int, number: int) -> None:
    control = longs(control_address)
    if member > 0 and not enter(control, number):
        return
    table = longs(table_address)
    rows = table[UF.rows]
    phase = table[UF.first_phase]
    for step in range(table[UF.depth]):
        if step > 0:
            going = 0
            for row in range(rows):
                least = doubles(table[UF.numbers] + row * 16)[1]
                if doubles(table[UF.survival])[(step - 1) * rows + row] >= least:
                    going += 1
            if going == 0:
                break
        phase = _pack_rows(control, phase, table, step)
        if table[UF.query] != 0:
            phase = _ask(control, phase, table)
            phase = _look(control, phase, table, step, member)
        phase = _gate_and_up(control, phase, table)
        phase = _down(control, phase, table)
        phase = _head(control, phase, table)
        phase = _choose(control, phase, table, step)
    if member > 0:
        ahead, helpers = control[AHEAD], table[UF.threads] - 1
        leave(control)
        read_ahead(control, ahead, number, member - 1, helpers)
    else:
        close(control)
