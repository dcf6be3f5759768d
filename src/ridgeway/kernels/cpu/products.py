"""The inner product of a tile with a few rows, written in LLVM's language.

The weights of a group of 32 inputs are unpacked once into registers and meet the same four bytes of each row in all
lanes: lane j is output j, so there is no horizontal sum. Everything up to the group's sum is integer arithmetic and has
the same result on every instruction set; a group's sum then meets its scales in the order

    total = fma(float(sum), weight scale * row scale, total);  total = fma(minimum, row scale * row sum, total)

for every number of rows and every instruction set, which is what makes rows independent of each other.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ridgeway.kernels.cpu.emitter import Emitter, Vectors
from ridgeway.kernels.cpu.isa import InstructionSet
from ridgeway.kernels.cpu.lanes import constant
from ridgeway.kernels.cpu.tiles import GROUP_BYTES, TileFormat

_BYTE = ir.IntType(8)
_SHORT = ir.IntType(16)
_INT = ir.IntType(32)
_LONG = ir.IntType(64)
_FLOAT = ir.FloatType()


def product_intrinsic(isa: InstructionSet, tile: TileFormat, again: bool = False) -> Any:
    """What `emit_product` emits, to be called from Numba functions."""

    @intrinsic
    def product(
        typingctx: Any, weights: Any, blocks: Any, x: Any, stride: Any, out: Any, out_stride: Any, rows: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            emit_product(builder, list(args), isa, tile, again)

        return types.void(*[types.int64] * 7), codegen

    return product


def emit_product(
    builder: Any, arguments: list[Any], isa: InstructionSet, tile: TileFormat, again: bool = False
) -> None:
    """Emits the product of a tile with rows; arguments: 64-bit integers, strides in bytes:

    the address of the weights of 16 outputs; how many blocks of inputs (for weights that stay floats: inputs); the
    address of the first row's quantized groups (its floats) and the rows' stride; the address of the first row's 16
    results and their stride; how many rows, at most the largest of the instruction set's row blocks.

    There is code for each size of row block, one after the other: the rows that a larger block leaves go to a smaller.
    """
    *fixed, rows = arguments
    left = cgutils.alloca_once_value(builder, rows)
    emit = _emit_quantized if tile.quantized else _emit_floats
    for size in isa.row_blocks:
        fits = builder.icmp_signed(">=", builder.load(left), ir.Constant(_LONG, size))
        with builder.if_then(fits):
            done = builder.sub(rows, builder.load(left))
            moved = list(fixed)
            for place in (2, 4):
                moved[place] = builder.add(fixed[place], builder.mul(done, fixed[place + 1]))
            emit(Emitter(builder, isa, tile, size, again), moved)
            builder.store(builder.sub(builder.load(left), ir.Constant(_LONG, size)), left)


def _emit_quantized(emitter: Emitter, arguments: list[Any]) -> None:
    builder, tile = emitter.builder, emitter.tile
    weights, blocks, activations, activation_stride, out, out_stride = arguments
    cursor = cgutils.alloca_once_value(builder, builder.inttoptr(weights, _BYTE.as_pointer()))
    row_cursors = _row_cursors(emitter, activations, activation_stride)
    totals = _zero_totals(emitter)

    def one_group(group: Any, block: list[Any]) -> None:
        row_groups = [builder.load(pointer) for pointer in row_cursors]
        emitter.add_group(group, row_groups, totals, block)
        for row_group, row_cursor in zip(row_groups, row_cursors, strict=True):
            builder.store(emitter.at(row_group, GROUP_BYTES), row_cursor)

    with cgutils.for_range(builder, blocks):
        start = builder.load(cursor)
        emitter.fetch_ahead(start)
        block = emitter.block_factors(start)
        if tile.groups_per_block == 1:
            one_group(start, block)
        else:
            with cgutils.for_range(builder, ir.Constant(_LONG, tile.groups_per_block)) as loop:
                offset = builder.mul(loop.index, ir.Constant(_LONG, tile.group_bytes))
                one_group(builder.gep(start, [offset]), block)
        builder.store(emitter.at(start, tile.block_bytes), cursor)
    _store_totals(emitter, totals, out, out_stride)


def _emit_floats(emitter: Emitter, arguments: list[Any]) -> None:
    """Inputs are added one after the other with a fused multiply-add in float32."""
    builder = emitter.builder
    weights, inputs, activations, activation_stride, out, out_stride = arguments
    first = builder.inttoptr(weights, _BYTE.as_pointer())
    rows = [builder.load(pointer) for pointer in _row_cursors(emitter, activations, activation_stride)]
    totals = _zero_totals(emitter)
    with cgutils.for_range(builder, inputs) as loop:
        place = builder.gep(first, [builder.mul(loop.index, ir.Constant(_LONG, emitter.tile.block_bytes))])
        emitter.fetch_ahead(place)
        column = [_float_column(emitter, place, part) for part in emitter.parts]
        offset = builder.mul(loop.index, ir.Constant(_LONG, 4))
        for row, pointer in enumerate(rows):
            value = emitter.spread(builder.gep(pointer, [offset]), 0, _FLOAT)
            for part in emitter.parts:
                total = emitter.fma(column[part], value, builder.load(totals[row][part]))
                builder.store(total, totals[row][part])
    _store_totals(emitter, totals, out, out_stride)


def _float_column(emitter: Emitter, place: Any, part: int) -> Any:
    builder = emitter.builder
    if emitter.tile.name == "F16":
        return emitter.halves(place, 0, part)
    if emitter.tile.name == "F32":
        return builder.bitcast(emitter.load_part(place, 0, part, _INT), emitter.floats)
    wide = builder.zext(emitter.load_part(place, 0, part, _SHORT), emitter.words)
    return builder.bitcast(builder.shl(wide, constant(16, emitter.words)), emitter.floats)


def _row_cursors(emitter: Emitter, activations: Any, stride: Any) -> list[Any]:
    """A variable for each row that points to its activations."""
    builder = emitter.builder
    pointers = []
    for row in range(emitter.rows):
        address = builder.add(activations, builder.mul(stride, ir.Constant(_LONG, row)))
        pointers.append(cgutils.alloca_once_value(builder, builder.inttoptr(address, _BYTE.as_pointer())))
    return pointers


def _zero_totals(emitter: Emitter) -> list[Vectors]:
    """A variable for each row and part, which LLVM keeps in a register where there is one."""
    zero = constant(0.0, emitter.floats)
    return [[cgutils.alloca_once_value(emitter.builder, zero) for _ in emitter.parts] for _ in range(emitter.rows)]


def _store_totals(emitter: Emitter, totals: list[Vectors], out: Any, out_stride: Any) -> None:
    builder = emitter.builder
    for row in range(emitter.rows):
        address = builder.add(out, builder.mul(out_stride, ir.Constant(_LONG, row)))
        pointer = builder.inttoptr(address, _BYTE.as_pointer())
        for part in emitter.parts:
            place = emitter.at(pointer, 4 * part * emitter.lanes)
            place = builder.bitcast(place, emitter.floats.as_pointer())
            builder.store(builder.load(totals[row][part]), place).align = 4
