"""Products of tiles against NumPy models of the same arithmetic, for every format, shape and instruction set."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from ridgeway.kernels.cpu.compilation import Compiler
from ridgeway.kernels.cpu.isa import INSTRUCTION_SETS, choose_instruction_set, processor_features
from ridgeway.kernels.cpu.matmul import matmul_kernel
from ridgeway.kernels.cpu.residence import aligned
from ridgeway.kernels.cpu.tiles import GROUP, GROUP_BYTES, TILE_FORMATS, tile_matrix
from ridgeway.models.cache_folder import cache_folder
from ridgeway.quant.formats import FORMATS
from ridgeway.quant.tensor import Tensor

QUANTIZED = [name for name, tile in TILE_FORMATS.items() if tile.quantized]
FLOATS = [name for name in TILE_FORMATS if name not in QUANTIZED]
RUNNABLE = [name for name, isa in INSTRUCTION_SETS.items() if processor_features().issuperset(isa.needs)]
FACTORS = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}  # where blocks hold fp16 numbers


@pytest.fixture(scope="module")
def compiler():
    return Compiler(cache_folder("kernels"))


def random_tensor(name, outputs, inputs, generator):
    """Weights of any bits, with finite factors."""
    format = FORMATS[name]
    if format.block == 1:
        values = generator.standard_normal((outputs, inputs), dtype=np.float32)
        packed = {"F32": values, "F16": values.astype(np.float16), "BF16": (values.view(np.uint32) >> 16)}[name]
        data = packed.astype(np.uint16) if name == "BF16" else packed
        return Tensor("w", format, (outputs, inputs), np.ascontiguousarray(data).view(np.uint8))
    blocks = generator.integers(0, 256, (outputs, inputs // format.block, format.block_bytes), dtype=np.uint8)
    for place in FACTORS.get(name, (0, 2) if name.endswith("_1") else (0,)):
        factors = generator.uniform(-0.01, 0.01, (*blocks.shape[:2], 1)).astype(np.float16)
        blocks[..., place : place + 2] = factors.view(np.uint8)
    return Tensor("w", format, (outputs, inputs), blocks.reshape(outputs, -1))


def quantized_rows(x):
    """Rows as the kernels want them: (rows, groups * GROUP_BYTES) bytes, and what they stand for, in float64."""
    groups = x.reshape(len(x), -1, GROUP)
    largest = np.abs(groups).max(axis=-1)
    scale = largest / np.float32(127)
    inverse = np.where(largest > 0, np.float32(127) / np.maximum(largest, np.float32(1e-30)), np.float32(0))
    quants = np.rint(groups * inverse[..., None]).astype(np.int8)
    sums = quants.reshape(*groups.shape[:2], 2, 16).sum(axis=-1, dtype=np.int32)
    packed = aligned(len(x), groups.shape[1], GROUP_BYTES)
    packed[..., :32] = quants.view(np.uint8)
    packed[..., 32:36] = scale[..., None].view(np.uint8)
    packed[..., 36:40] = (scale * sums.sum(axis=-1).astype(np.float32))[..., None].view(np.uint8)
    packed[..., 40:48] = np.ascontiguousarray(sums).view(np.uint8)
    return packed.reshape(len(x), -1), (quants * scale[..., None].astype(np.float64)).reshape(x.shape)


def product(compiler, isa, tensor, x):
    """(rows, outputs) by the kernel."""
    matrix = tile_matrix(tensor)
    kernel = matmul_kernel(compiler, INSTRUCTION_SETS[isa], matrix.tile)
    rows = quantized_rows(x)[0] if matrix.tile.quantized else x
    tiles, tile_bytes = matrix.data.shape
    out = np.zeros((len(x), tiles * 16), dtype=np.float32)
    kernel(
        matrix.data.ctypes.data,
        tiles,
        tile_bytes,
        matrix.blocks,
        rows.ctypes.data,
        rows.strides[0],
        len(x),
        out.ctypes.data,
        out.strides[0],
    )
    return out[:, : tensor.rows]


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("name", QUANTIZED)
def test_products_are_those_of_the_quantized_numbers(compiler, name, isa):
    generator = np.random.default_rng(1)
    tensor = random_tensor(name, 37, 512, generator)
    x = generator.standard_normal((6, 512), dtype=np.float32)
    _, meant = quantized_rows(x)
    weights = tensor.dequantize().astype(np.float64)
    expected, size = meant @ weights.T, np.abs(meant) @ np.abs(weights.T)
    assert (np.abs(product(compiler, isa, tensor, x) - expected) / size).max() < 1e-6


@pytest.mark.parametrize("name", QUANTIZED)
@settings(deadline=None, max_examples=15)
@given(outputs=st.integers(1, 70), blocks=st.integers(1, 5), rows=st.integers(1, 13), seed=st.integers(0, 9))
def test_every_shape_is_multiplied_right(compiler, name, outputs, blocks, rows, seed):
    generator = np.random.default_rng(seed)
    inputs = blocks * FORMATS[name].block
    tensor = random_tensor(name, outputs, inputs, generator)
    x = generator.standard_normal((rows, inputs), dtype=np.float32)
    _, meant = quantized_rows(x)
    weights = tensor.dequantize().astype(np.float64)
    expected, size = meant @ weights.T, np.abs(meant) @ np.abs(weights.T)
    found = product(compiler, choose_instruction_set().name, tensor, x)
    assert (np.abs(found - expected) <= 1e-5 * size).all()


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("name", FLOATS)
def test_float_weights_are_multiplied_in_their_type(compiler, name, isa):
    generator = np.random.default_rng(2)
    tensor = random_tensor(name, 33, 50, generator)
    x = generator.standard_normal((7, 50), dtype=np.float32)
    expected = x.astype(np.float64) @ tensor.dequantize().astype(np.float64).T
    assert np.abs(product(compiler, isa, tensor, x) - expected).max() < 1e-5


@pytest.mark.parametrize("name", TILE_FORMATS)
def test_instruction_sets_agree_in_every_bit(compiler, name):
    generator = np.random.default_rng(3)
    tensor = random_tensor(name, 40, 512, generator)
    x = generator.standard_normal((5, 512), dtype=np.float32)
    expected = product(compiler, "portable", tensor, x)
    for isa in RUNNABLE:
        assert_array_equal(product(compiler, isa, tensor, x), expected)


@pytest.mark.parametrize("name", TILE_FORMATS)
def test_a_row_has_the_same_bits_in_any_company(compiler, name):
    generator = np.random.default_rng(4)
    tensor = random_tensor(name, 40, 512, generator)
    x = generator.standard_normal((19, 512), dtype=np.float32)
    isa = choose_instruction_set().name
    together = product(compiler, isa, tensor, x)
    for row in range(len(x)):
        assert_array_equal(product(compiler, isa, tensor, x[row : row + 1])[0], together[row])


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("name", QUANTIZED)
def test_the_largest_numbers_do_not_overflow(compiler, name, isa):
    format = FORMATS[name]
    generator = np.random.default_rng(5)
    tensor = random_tensor(name, 16, 512, generator)
    blocks = tensor.data.reshape(-1, format.block_bytes)
    start = 2 * len(FACTORS.get(name, (0, 2) if name.endswith("_1") else (0,))) if name != "Q6_K" else 0
    stop = 208 if name == "Q6_K" else format.block_bytes
    for bits in (0xFF, 0x00, 0x80, 0x7F):
        blocks[:, start:stop] = bits
        x = np.where(np.arange(512) % 64 < 32, 1.0, -1.0).astype(np.float32)[None]
        _, meant = quantized_rows(x)
        weights = tensor.dequantize().astype(np.float64)
        size = np.abs(meant) @ np.abs(weights.T) + 1e-30
        error = np.abs(product(compiler, isa, tensor, x) - meant @ weights.T) / size
        assert error.max() < 1e-6
