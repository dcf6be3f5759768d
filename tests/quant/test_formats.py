import gguf
import numpy as np
import pytest

from ridgeway.quant.formats import FORMATS
from ridgeway.quant.tensor import Tensor

FACTORS = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}  # where a block holds fp16 numbers


def packed(name: str, rows: int = 6, columns: int = 768) -> tuple[Tensor, np.ndarray]:
    """A tensor in a format, and what the gguf package unpacks from the same bytes."""
    type = gguf.GGMLQuantizationType[name]
    generator = np.random.default_rng(3)
    if name in FACTORS:  # the package unpacks these, but does not pack them
        format = FORMATS[name]
        blocks = generator.integers(0, 256, (rows, columns // format.block, format.block_bytes), dtype=np.uint8)
        for place in FACTORS[name]:
            factors = generator.normal(0, 0.01, (*blocks.shape[:2], 1)).astype(np.float16)
            blocks[..., place : place + 2] = factors.view(np.uint8)
        data = blocks.reshape(rows, -1)
    else:
        data = gguf.quants.quantize(generator.normal(size=(rows, columns)).astype(np.float32), type)
    expected = gguf.quants.dequantize(data, type)
    return Tensor(name, FORMATS[name], (rows, columns), data.view(np.uint8).reshape(rows, -1)), expected


@pytest.mark.parametrize("name", FORMATS)
def test_weights_unpack_to_what_the_gguf_package_unpacks(name: str) -> None:
    tensor, expected = packed(name)
    assert np.array_equal(tensor.dequantize(), expected)


@pytest.mark.parametrize("name", FORMATS)
def test_any_bytes_unpack_to_what_the_gguf_package_unpacks(name: str) -> None:
    """Scales and minima of both signs, denormal and large."""
    format = FORMATS[name]
    data = np.random.default_rng(5).integers(0, 256, (64, 3 * format.block_bytes), dtype=np.uint8)
    with np.errstate(invalid="ignore", over="ignore"):
        expected = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[name])
        found = Tensor(name, format, (64, 3 * format.block), data).dequantize()
    assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize("name", FORMATS)
def test_some_rows_unpack_as_they_do_among_all(name: str) -> None:
    tensor, expected = packed(name)
    rows = np.array([5, 0, 0, 3])
    assert np.array_equal(tensor.take(rows), expected[rows])


@pytest.mark.parametrize("name", FORMATS)
def test_reordering_moves_rows_and_keeps_the_packing(name: str) -> None:
    tensor, expected = packed(name)
    order = np.array([3, 1, 5, 0, 2, 4])
    moved = tensor.reordered(order)
    assert np.array_equal(moved.dequantize(), expected[order])
    assert (moved.format, moved.nbytes) == (tensor.format, tensor.nbytes)
    assert np.array_equal(moved.reordered(order).dequantize(), expected[order][order])
    assert np.array_equal(moved.take(order[:2]), expected[order][order[:2]])
    assert np.array_equal(moved.packed(1, 3), tensor.data[order[1:3]])
    assert np.shares_memory(moved.data, tensor.data)


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_takes_the_bytes_that_the_gguf_package_says(name: str) -> None:
    block, nbytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    assert (FORMATS[name].block, FORMATS[name].block_bytes) == (block, nbytes)
    assert FORMATS[name].gguf_type == gguf.GGMLQuantizationType[name].value


def test_bits_per_weight_count_scales_and_minima() -> None:
    assert {name: format.bits_per_weight for name, format in FORMATS.items()} == {
        "F32": 32, "F16": 16, "BF16": 16, "Q8_0": 8.5, "Q4_0": 4.5, "Q4_1": 5.0,
        "Q5_0": 5.5, "Q5_1": 6.0, "Q4_K": 4.5, "Q5_K": 5.5, "Q6_K": 6.5625,
    }  # fmt: skip
