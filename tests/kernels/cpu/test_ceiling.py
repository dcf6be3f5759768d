"""The measured ceiling of int8 arithmetic is above what products of tiles reach."""

import time

import numpy as np
import pytest
from test_matmul import quantized_rows, random_tensor

from ridgeway.kernels.cpu.ceiling import Int8Ceiling
from ridgeway.kernels.cpu.compilation import Compiler
from ridgeway.kernels.cpu.isa import choose_instruction_set
from ridgeway.kernels.cpu.matmul import matmul_kernel
from ridgeway.kernels.cpu.tiles import tile_matrix
from ridgeway.models.cache_folder import cache_folder


@pytest.mark.slow  # it measures
def test_no_product_is_faster_than_the_ceiling():
    compiler, isa = Compiler(cache_folder("kernels")), choose_instruction_set()
    ceiling = Int8Ceiling(compiler, isa, threads=1)
    generator = np.random.default_rng(0)
    matrix = tile_matrix(random_tensor("Q4_1", 256, 512, generator))
    packed, _ = quantized_rows(generator.standard_normal((32, 512), dtype=np.float32))
    out = np.zeros((32, 256), dtype=np.float32)
    kernel = matmul_kernel(compiler, isa, matrix.tile)
    arguments = (matrix.data.ctypes.data, *matrix.data.shape, matrix.blocks, packed.ctypes.data, packed.strides[0])
    rates, seconds = [], []
    for _ in range(30):  # in turn, so that a busy machine slows both
        rates.append(ceiling.rate())
        start = time.perf_counter()
        kernel(*arguments, len(out), out.ctypes.data, out.strides[0])
        seconds.append(time.perf_counter() - start)
    reached = 2 * 32 * 512 * 256 / min(seconds)
    assert 0.1 * max(rates) < reached < 1.1 * max(rates)
