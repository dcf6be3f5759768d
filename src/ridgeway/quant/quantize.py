"""Floats into packed weights: what `--quant` does to a model as it is loaded.

The arithmetic is that of ggml's reference quantization, so that a file quantized by llama.cpp's tools to the same
format holds the same bytes.
"""

from collections.abc import Callable, Mapping

import numpy as np

from ridgeway.core.arrays import FloatArray
from ridgeway.quant.formats import FORMATS, Bytes
from ridgeway.quant.tensor import Tensor

_ROWS_AT_A_TIME = 1024


def _round_away(x: FloatArray) -> FloatArray:
    """To the nearest integer, halves away from zero."""
    whole = np.floor(np.abs(x))
    rounded: FloatArray = np.sign(x) * (whole + (np.abs(x) - whole >= 0.5))
    return rounded


def _inverse(scale: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.where(scale == 0, np.float32(0), np.float32(1) / scale)


def _half(scale: FloatArray) -> Bytes:
    return scale.astype(np.float16).view(np.uint8).reshape(*scale.shape[:-1], 2)


def _pack_q8_0(groups: FloatArray) -> Bytes:
    scale = np.abs(groups).max(axis=-1, keepdims=True) / np.float32(127)
    quants = _round_away(groups * _inverse(scale)).astype(np.int8)
    return np.concatenate([_half(scale), quants.view(np.uint8)], axis=-1)


def _pack_q4_0(groups: FloatArray) -> Bytes:
    """The weight with the largest magnitude becomes -8, the end of the range that reaches further."""
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=-1, keepdims=True), axis=-1)
    scale = extreme / np.float32(-8)
    quants = np.trunc(groups * _inverse(scale) + np.float32(8.5)).clip(0, 15).astype(np.uint8)
    return np.concatenate([_half(scale), quants[..., :16] | quants[..., 16:] << 4], axis=-1)


_PACKERS: Mapping[str, Callable[[FloatArray], Bytes]] = {"Q8_0": _pack_q8_0, "Q4_0": _pack_q4_0}
QUANTIZATIONS = tuple(_PACKERS)


def quantized(tensor: Tensor, name: str) -> Tensor:
    """The matrix `tensor` in the format `name`, one of `QUANTIZATIONS`; as it is if its rows are not whole groups."""
    format = FORMATS[name]
    if len(tensor.shape) != 2 or tensor.columns % format.block:
        return tensor
    data = np.empty((tensor.rows, format.nbytes(tensor.columns)), dtype=np.uint8)
    for start in range(0, tensor.rows, _ROWS_AT_A_TIME):
        rows = np.arange(start, min(start + _ROWS_AT_A_TIME, tensor.rows))
        groups = tensor.take(rows).reshape(len(rows), -1, format.block)
        data[rows] = _PACKERS[name](groups).reshape(len(rows), -1)
    return Tensor(tensor.name, format, tensor.shape, data)
