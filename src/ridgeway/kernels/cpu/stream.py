"""A whole weight stream as one compiled function.

Between phases threads wait for each other; within a phase each works on its own rows, tiles or heads. A layer has nine:
norm; query, key and value products; rotary positions and K/V storage; attention; its quantization; output product;
norm; gate and up products, gating; down product. The last one moves rows that are read to the front behind attention,
or ends before it if there are none. What follows a product element by element (bias, residual, gating, quantization) is
done by the task that computed it, while it is in the cache.
"""

from numba import njit

from ridgeway.kernels.cpu.activation import add, gate, quantize, rms_norm
from ridgeway.kernels.cpu.ahead import read_ahead
from ridgeway.kernels.cpu.heads import attend, combine, first_keys, prepare_head
from ridgeway.kernels.cpu.lanes import at, doubles, floats, load, longs, store
from ridgeway.kernels.cpu.layout import BLOCK_LONGS, CAREFUL, HEAD_UNIT, LANES, LAYER_LONGS, UNIT_FLOATS, B, L, M, S
from ridgeway.kernels.cpu.multiply import multiply
from ridgeway.kernels.cpu.phases import claim, close, enter, finish, leave
from ridgeway.kernels.cpu.prefetching import NOTHING_AHEAD
from ridgeway.kernels.cpu.team import AHEAD
from ridgeway.kernels.cpu.tiles import GROUP, GROUP_BYTES, OUTPUTS
from ridgeway.kernels.cpu.trimming import any_read, move_read, read_rows
from ridgeway.kernels.cpu.vocabulary import measure_unit, settle_best


@njit(error_model="numpy")
def _norm_row(step, indexed, row, weight, normed, packed):
    """Norm and quantization of a row of the residual stream, or of that listed at `indexed`."""
    width = step[S.hidden]
    padded = (width + LANES - 1) // LANES * LANES
    origin = row
    if indexed != 0:
        origin = longs(indexed)[row]
    x = floats(step[S.x] + origin * step[S.x_stride] * 4)
    rms_norm(x, floats(weight), floats(normed), width, padded, floats(step[S.eps])[0])
    if width % GROUP == 0:
        quantize(floats(normed), width // GROUP, packed)


@njit(error_model="numpy")
def _norm_rows(control, phase, step, rows, indexed, weight):
    """`_norm_row` of all rows; a single row is left to the phase that follows, where each member does it for itself.

    That is quicker than to wait for one to do it for all.
    """
    if rows == 1:
        return phase
    threads = step[S.threads]
    while True:
        first, count = claim(control, phase, rows, 1, threads)
        if first < 0:
            return phase + 1
        for row in range(first, first + count):
            normed = step[S.normed] + row * step[S.normed_stride] * 4
            _norm_row(step, indexed, row, weight, normed, step[S.packed] + row * step[S.packed_bytes])
        finish(control, phase, rows, count)


@njit(error_model="numpy")
def _normed(step, rows, member):
    """Where the phase after `_norm_rows` finds its input: floats, quantized."""
    if rows > 1:
        return step[S.normed], step[S.packed]
    scratch = step[S.scratch] + member * step[S.scratch_bytes]
    return scratch, scratch + step[S.normed_stride] * 4


@njit(error_model="numpy")
def _project(control, phase, step, layer, member):
    """Query, key and value products, side by side in one buffer."""
    rows = step[S.rows]
    stride = step[S.product_stride]
    total = layer[L.q + M.tile_count] + layer[L.k + M.tile_count] + layer[L.v + M.tile_count]
    normed, packed = _normed(step, rows, member)
    ready = rows > 1
    while True:
        first, count = claim(control, phase, total, 2, step[S.threads])
        if first < 0:
            return phase + 1
        if not ready:
            _norm_row(step, 0, 0, layer[L.attn_norm], normed, packed)
            ready = True
        base = 0
        for place in (L.q, L.k, L.v):
            matrix = at(layer, place)
            start = max(first, base)
            stop = min(first + count, base + matrix[M.tile_count])
            if start < stop:
                multiply(
                    matrix,
                    start - base,
                    stop - base,
                    rows,
                    normed,
                    step[S.normed_stride],
                    packed,
                    step[S.packed_bytes],
                    step[S.product] + start * OUTPUTS * 4,
                    stride,
                )
            base += matrix[M.tile_count]
        finish(control, phase, total, count)


@njit(error_model="numpy")
def _add_product(control, phase, step, rows, matrix, bias, x, x_stride, packed, packed_bytes):
    """A product and its bias, added to the residual stream."""
    stride = step[S.product_stride]
    total = matrix[M.tile_count]
    while True:
        first, count = claim(control, phase, total, 1, step[S.threads])
        if first < 0:
            return phase + 1
        offset = first * OUTPUTS * 4
        out = step[S.product] + offset
        multiply(matrix, first, first + count, rows, x, x_stride, packed, packed_bytes, out, stride)
        for row in range(rows):
            residual = floats(step[S.x] + row * step[S.x_stride] * 4 + offset)
            product = floats(out + row * stride * 4)
            add(residual, product, floats(bias + offset), bias != 0, count * OUTPUTS)
        finish(control, phase, total, count)


@njit(error_model="numpy")
def _add_bias(out, bias, count):
    for i in range(0, count, LANES):
        store(out, i, load(out, i) + load(bias, i))


@njit(error_model="numpy")
def _gate_and_up(control, phase, step, rows, layer, member):
    """Gate and up products of the same outputs in one task, which also gates and quantizes: two tiles, one group."""
    stride = step[S.product_stride]
    gates, ups = at(layer, L.gate), at(layer, L.up)
    tiles = gates[M.tile_count]
    total = (tiles + 1) // 2
    quantized = step[S.intermediate] % GROUP == 0
    x, packed = _normed(step, rows, member)
    ready = rows > 1
    while True:
        first, count = claim(control, phase, total, 1, step[S.threads])
        if first < 0:
            return phase + 1
        if not ready:
            _norm_row(step, 0, 0, layer[L.mlp_norm], x, packed)
            ready = True
        start, stop = 2 * first, min(2 * (first + count), tiles)
        width = (stop - start) * OUTPUTS
        offset = start * OUTPUTS * 4
        gate_out = step[S.product] + offset
        up_out = gate_out + tiles * OUTPUTS * 4
        for place in range(2):
            matrix, out = (gates, gate_out) if place == 0 else (ups, up_out)
            multiply(matrix, start, stop, rows, x, step[S.normed_stride], packed, step[S.packed_bytes], out, stride)
        for row in range(rows):
            move = row * stride * 4
            if layer[L.gate_bias]:
                _add_bias(floats(gate_out + move), floats(layer[L.gate_bias] + offset), width)
            if layer[L.up_bias]:
                _add_bias(floats(up_out + move), floats(layer[L.up_bias] + offset), width)
            out = step[S.gated] + row * step[S.gated_stride] * 4 + offset
            gate(floats(gate_out + move), floats(up_out + move), floats(out), width)
            if quantized:
                place = step[S.gated_packed] + row * step[S.gated_packed_bytes] + first * GROUP_BYTES
                quantize(floats(out), width // GROUP, place)
        finish(control, phase, total, count)


@njit(error_model="numpy")
def _store_heads(control, phase, step, layer, member):
    rows = step[S.rows]
    if step[S.alone]:
        return phase  # each row attends to no other row of its query: attention prepares its own heads
    scratch = step[S.scratch] + member * step[S.scratch_bytes]
    while True:
        first, count = claim(control, phase, rows, 1, step[S.threads])
        if first < 0:
            return phase + 1
        for row in range(first, first + count):
            for head in range(step[S.kv_heads]):
                prepare_head(step, layer, row, head, scratch)
        finish(control, phase, rows, count)


@njit(error_model="numpy")
def _piece(task, whole, pieces):
    """Which block and K/V head a task of attention is of, which piece of it, of how many."""
    if task < whole:
        return task, 0, 1
    return whole + (task - whole) // pieces, (task - whole) % pieces, pieces


@njit(error_model="numpy")
def _attend(control, phase, step, layer, member, trims):
    """A task is a block of rows and a K/V head; where few are left for many threads, a piece of its rows. With long
    contexts and few rows it is a segment of keys. trims: blocks of which no row is read are left out.
    """
    segments, pieces, heads = step[S.segments], step[S.pieces], step[S.kv_heads]
    total, whole = step[S.blocks] * heads, step[S.whole]
    if step[S.splits]:
        total, whole, pieces = total * segments, 0, segments
    else:
        total = whole + (total - whole) * pieces
    threads = step[S.threads]
    if total <= CAREFUL * threads:
        threads = total  # one at a time
    scratch = step[S.scratch] + member * step[S.scratch_bytes]
    while True:
        first, count = claim(control, phase, total, 1, threads)
        if first < 0:
            break
        for task in range(first, first + count):
            number, part, parts = _piece(task, whole, pieces)
            head = number % heads
            block = longs(step[S.block_table] + number // heads * BLOCK_LONGS * 8)
            if trims and not any_read(step, block):
                continue
            after = NOTHING_AHEAD
            if task + 1 < first + count:
                number, segment, _ = _piece(task + 1, whole, pieces)
                coming = longs(step[S.block_table] + number // heads * BLOCK_LONGS * 8)
                after = first_keys(step, layer, coming, number % heads, segment if step[S.splits] else 0)
            if step[S.alone]:
                prepare_head(step, layer, block[B.first_row], head, scratch)
            if step[S.splits]:
                attend(step, layer, block, 0, block[B.rows], head, part, part + 1, after, scratch, True)
            else:
                start, stop = part * block[B.rows] // parts, (part + 1) * block[B.rows] // parts
                attend(step, layer, block, start, stop, head, 0, segments, after, scratch, False)
        finish(control, phase, total, count)
    if step[S.splits] == 0 and step[S.heads] // heads * step[S.head_dim] % GROUP == 0:
        return phase + 1  # the tasks have quantized what they returned
    return _conclude_attention(control, phase + 1, step)


@njit(error_model="numpy")
def _conclude_attention(control, phase, step):
    """Joins the segments where they were tasks, and quantizes what attention returned."""
    width = step[S.heads] * step[S.head_dim]
    rows = step[S.rows]
    while True:
        first, count = claim(control, phase, rows, 1, step[S.threads])
        if first < 0:
            return phase + 1
        for row in range(first, first + count):
            if step[S.splits]:
                combine(step, row)
            if width % GROUP == 0:
                mixed = floats(step[S.mixed] + row * step[S.mixed_stride] * 4)
                quantize(mixed, width // GROUP, step[S.packed] + row * step[S.packed_bytes])
        finish(control, phase, rows, count)


@njit(error_model="numpy")
def _head(control, phase, step, member):
    """Logits of the rows that are read, and what is wanted of them while they are in the cache."""
    reads = step[S.reads]
    matrix = longs(step[S.head])
    tiles = matrix[M.tile_count]
    total = (tiles + HEAD_UNIT - 1) // HEAD_UNIT
    stride = step[S.logits_stride]
    normed, packed = _normed(step, reads, member)
    ready = reads > 1
    while True:
        first, count = claim(control, phase, total, 1, step[S.threads])
        if first < 0:
            return phase + 1
        if not ready:
            _norm_row(step, read_rows(step), 0, step[S.final_norm], normed, packed)
            ready = True
        for unit in range(first, first + count):
            start = unit * HEAD_UNIT
            stop = min(start + HEAD_UNIT, tiles)
            out = step[S.logits] + start * OUTPUTS * 4
            multiply(
                matrix,
                start,
                stop,
                reads,
                normed,
                step[S.normed_stride],
                packed,
                step[S.packed_bytes],
                out,
                stride,
            )
            tokens = min(stop * OUTPUTS, step[S.vocabulary]) - start * OUTPUTS
            for row in range(reads):
                found = floats(step[S.units] + (row * total + unit) * UNIT_FLOATS * 4)
                measure_unit(floats(out + row * stride * 4), tokens, step[S.measures], found)
        finish(control, phase, total, count)


@njit(error_model="numpy")
def _layer(control, phase, step, layer, member, trims):
    """trims: of the last layer nothing is wanted but K/V of all rows, and the rows that are read."""
    rows = step[S.rows]
    if layer[L.runs_attention]:
        phase = _norm_rows(control, phase, step, rows, 0, layer[L.attn_norm])
        phase = _project(control, phase, step, layer, member)
        phase = _store_heads(control, phase, step, layer, member)
        if trims and step[S.reads] == 0:
            return phase
        phase = _attend(control, phase, step, layer, member, trims and not step[S.splits])
    if trims:
        phase = move_read(control, phase, step)
        rows = step[S.reads]
        if rows == 0:
            return phase
    if layer[L.runs_attention]:
        mixed, packed = step[S.mixed], step[S.packed]
        output = at(layer, L.o)
        phase = _add_product(
            control,
            phase,
            step,
            rows,
            output,
            layer[L.o_bias],
            mixed,
            step[S.mixed_stride],
            packed,
            step[S.packed_bytes],
        )
    if layer[L.runs_mlp]:
        phase = _norm_rows(control, phase, step, rows, 0, layer[L.mlp_norm])
        phase = _gate_and_up(control, phase, step, rows, layer, member)
        phase = _add_product(
            control,
            phase,
            step,
            rows,
            at(layer, L.down),
            layer[L.down_bias],
            step[S.gated],
            step[S.gated_stride],
            step[S.gated_packed],
            step[S.gated_packed_bytes],
        )
    return phase


def weight_stream(control_address: int, step_address: int, member: int, number: int) -> None:
    control = longs(control_address)
    if member > 0 and not enter(control, number):
        return
    step = longs(step_address)
    phase = step[S.first_phase]
    for index in range(step[S.layers]):
        layer = longs(step[S.layer_table] + index * LAYER_LONGS * 8)
        trims = step[S.trims] != 0 and index == step[S.layers] - 1
        phase = _layer(control, phase, step, layer, member, trims)
    if step[S.reads] > 0:
        phase = _norm_rows(control, phase, step, step[S.reads], read_rows(step), step[S.final_norm])
        phase = _head(control, phase, step, member)
    if member > 0:
        ahead, helpers = control[AHEAD], step[S.threads] - 1
        leave(control)
        read_ahead(control, ahead, number, member - 1, helpers)
        return
    close(control)
    units = (longs(step[S.head])[M.tile_count] + HEAD_UNIT - 1) // HEAD_UNIT
    for row in range(step[S.reads]):
        found = floats(step[S.units] + row * units * UNIT_FLOATS * 4)
        settle_best(found, units, doubles(step[S.bests] + row * 16))
