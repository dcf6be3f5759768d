"""The VNNI kernels on processors without VNNI: the one instruction is replaced by what Intel's manual says it does.

`vpdpbusd` adds to each 32-bit lane the sum of four products of unsigned and signed bytes, without saturation. With a
model of it in its place, the rest of such a kernel runs anywhere; what no model can show is in the assembly.
"""

import ctypes
import re

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from numpy.testing import assert_array_equal
from test_matmul import product, quantized_rows, random_tensor

from ridgeway.kernels.cpu.compilation import Compiler
from ridgeway.kernels.cpu.isa import INSTRUCTION_SETS
from ridgeway.kernels.cpu.products import emit_product
from ridgeway.kernels.cpu.tiles import TILE_FORMATS, tile_matrix
from ridgeway.models.cache_folder import cache_folder

QUANTIZED = [name for name, tile in TILE_FORMATS.items() if tile.quantized]
ARGUMENTS = 7
PROCESSORS = [("avx512vnni", "znver4"), ("avx512vnni", "sapphirerapids"), ("avxvnni", "alderlake")]


def language(isa, name):
    """The kernel in LLVM's language, as a function of seven integers."""
    module = ir.Module()
    long = ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [long] * ARGUMENTS), "kernel")
    builder = ir.IRBuilder(function.append_basic_block())
    emit_product(builder, list(function.args), INSTRUCTION_SETS[isa], TILE_FORMATS[name])
    builder.ret_void()
    return str(module)


def with_model(text):
    """`text` with the instruction replaced by a function that does the same by plain arithmetic."""
    (name,) = set(re.findall(r"llvm\.x86\.avx512\.vpdpbusd\.\d+", text))
    lanes = int(name.rpartition(".")[2]) // 32
    bytes_, words = f"<{4 * lanes} x i8>", f"<{lanes} x i32>"
    text = re.sub(rf"declare [^\n]*{re.escape(name)}[^\n]*\n", "", text)
    lines = [f"define {words} @model({words} %sum0, {bytes_} %w, {bytes_} %a) {{"]
    for b in range(4):
        mask = ", ".join(f"i32 {4 * lane + b}" for lane in range(lanes))
        quarter = f"<{lanes} x i8>"
        for side, widen in (("w", "zext"), ("a", "sext")):
            picked = f"shufflevector {bytes_} %{side}, {bytes_} %{side}, <{lanes} x i32> <{mask}>"
            lines.append(f"  %{side}{b} = {picked}")
            lines.append(f"  %{side}wide{b} = {widen} {quarter} %{side}{b} to {words}")
        lines.append(f"  %p{b} = mul {words} %wwide{b}, %awide{b}")
        lines.append(f"  %sum{b + 1} = add {words} %sum{b}, %p{b}")
    lines += [f"  ret {words} %sum4", "}"]
    return text.replace(name, "model").replace('@"model"', "@model") + "\n".join(lines)


def machine(processor=None):
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    if processor is None:
        features = llvm.get_host_cpu_features().flatten()
        return llvm.Target.from_default_triple().create_target_machine(cpu=llvm.get_host_cpu_name(), features=features)
    return llvm.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine(cpu=processor, opt=3)


@pytest.mark.parametrize("isa", ["avx512vnni", "avxvnni"])
@pytest.mark.parametrize("name", QUANTIZED)
def test_the_kernel_around_the_instruction_gives_the_portable_kernels_bits(name, isa):
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(with_model(language(isa, name))), machine())
    engine.finalize_object()
    kernel = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * ARGUMENTS)(engine.get_function_address("kernel"))
    generator = np.random.default_rng(11)
    tensor = random_tensor(name, 16, 512, generator)
    matrix = tile_matrix(tensor)
    for rows in range(1, INSTRUCTION_SETS[isa].row_blocks[0] + 1):
        x = generator.standard_normal((rows, 512), dtype=np.float32)
        packed, _ = quantized_rows(x)
        out = np.zeros((rows, 16), dtype=np.float32)
        kernel(
            matrix.data.ctypes.data,
            matrix.blocks,
            packed.ctypes.data,
            packed.strides[0],
            out.ctypes.data,
            out.strides[0],
            rows,
        )
        assert_array_equal(out, product(Compiler(cache_folder("kernels")), "portable", tensor, x))


@pytest.mark.parametrize(("isa", "processor"), PROCESSORS)
@pytest.mark.parametrize("name", ["Q4_1", "Q8_0"])
def test_the_instruction_is_what_processors_that_have_it_get(name, isa, processor):
    module = llvm.parse_assembly(language(isa, name))
    assembly = machine(processor).emit_assembly(module)
    rows = sum(INSTRUCTION_SETS[isa].row_blocks)
    parts = 16 // INSTRUCTION_SETS[isa].lanes
    assert assembly.count("vpdpbusd") == 8 * rows * parts  # eight steps in a group
    assert ("zmm" in assembly) == (isa == "avx512vnni")
    assert "vpmaddubsw" not in assembly
