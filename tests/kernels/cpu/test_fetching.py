"""How far ahead products ask for their weights, and into which caches: as it is written in the kernels."""

import re

import pytest
from llvmlite import ir

from ridgeway.kernels.cpu.emitter import Emitter
from ridgeway.kernels.cpu.isa import INSTRUCTION_SETS
from ridgeway.kernels.cpu.tiles import TILE_FORMATS


@pytest.mark.parametrize(
    ("rows", "again", "locality", "bytes_ahead"),
    [(1, False, 0, 128), (2, False, 2, 8192), (8, False, 2, 8192), (1, True, 3, 512)],
)
@pytest.mark.parametrize("name", ["Q4_1", "Q8_0"])
def test_each_line_of_a_block_is_asked_for_once(rows, again, locality, bytes_ahead, name):
    """Past the caches for a single row, into the second-level one for several, into all if it is read again."""
    tile = TILE_FORMATS[name]
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()]), "ask")
    builder = ir.IRBuilder(function.append_basic_block())
    Emitter(builder, INSTRUCTION_SETS["avx512vnni"], tile, rows, again).fetch_ahead(function.args[0])
    builder.ret_void()
    text = str(function)
    offsets = [int(place) for place in re.findall(r"getelementptr i8, [^,]+, i64 (\d+)", text)]
    assert offsets == [bytes_ahead + line for line in range(0, tile.block_bytes, 64)]
    asked = re.findall(r"call void @\"?llvm\.prefetch\.p0\"?\([^,]+, i32 (\d), i32 (\d), i32 (\d)\)", text)
    assert asked == [("0", str(locality), "1")] * len(offsets)
