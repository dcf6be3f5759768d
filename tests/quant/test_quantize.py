"""Quantizing at load gives the bytes that ggml's own quantization gives."""

import gguf
import numpy as np
import pytest

from ridgeway.quant.quantize import QUANTIZATIONS, quantized
from ridgeway.quant.tensor import Tensor


@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_bytes_are_those_of_the_gguf_package(name):
    weights = np.random.default_rng(0).standard_normal((50, 96), dtype=np.float32)
    weights[3] = 0
    weights[4, :32] = np.arange(32) / 16 - 1
    expected = gguf.quants.quantize(weights, gguf.GGMLQuantizationType[name])
    assert np.array_equal(quantized(Tensor.of("w", weights), name).data, expected)


def test_matrices_of_other_widths_stay_as_they_are():
    tensor = Tensor.of("w", np.ones((4, 40), dtype=np.float32))
    assert quantized(tensor, "Q8_0") is tensor
