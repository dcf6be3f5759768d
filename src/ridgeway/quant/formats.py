"""Weight formats: how many bits a weight takes and how they unpack.

A format packs `block` consecutive weights of a row into `block_bytes` bytes. Layouts follow GGUF (ggml's
`ggml-common.h`); type numbers are those of the GGUF specification.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ridgeway.core.arrays import FloatArray

Bytes = NDArray[np.uint8]

_FOUR = np.uint8(4)


@dataclass(frozen=True)
class Format:
    """unpack: (n, block_bytes) bytes -> (n, block) float32."""

    name: str
    gguf_type: int
    block: int
    block_bytes: int
    unpack: Callable[[Bytes], FloatArray]

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.block_bytes / self.block

    def nbytes(self, elements: int) -> int:
        return elements // self.block * self.block_bytes


def _f32(blocks: Bytes) -> FloatArray:
    return blocks.view(np.float32)


def _f16(blocks: Bytes) -> FloatArray:
    return blocks.view(np.float16).astype(np.float32)


def _bf16(blocks: Bytes) -> FloatArray:
    return (blocks.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


def _scale(blocks: Bytes, start: int) -> FloatArray:
    """The fp16 number at byte `start` of each block, as a column."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view(np.float16).astype(np.float32)


def _nibbles(packed: Bytes) -> NDArray[np.uint8]:
    """Low nibbles are the first half of a block, high nibbles the second."""
    return np.concatenate([packed & 0x0F, packed >> 4], axis=1)


def _q8_0(blocks: Bytes) -> FloatArray:
    return _scale(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _q4_0(blocks: Bytes) -> FloatArray:
    return _scale(blocks, 0) * (_nibbles(blocks[:, 2:]).astype(np.float32) - 8)


def _q4_1(blocks: Bytes) -> FloatArray:
    return _scale(blocks, 0) * _nibbles(blocks[:, 4:]).astype(np.float32) + _scale(blocks, 2)


def _bits(packed: Bytes) -> NDArray[np.uint8]:
    """(n, b) bytes to (n, 8 * b) bits, lowest first."""
    return np.unpackbits(packed, axis=1, bitorder="little")


def q5_quants(blocks: Bytes, start: int) -> NDArray[np.uint8]:
    """Five-bit integers of Q5_0 and Q5_1: 32 high bits at byte `start`, then 16 bytes of nibbles."""
    quants: NDArray[np.uint8] = _nibbles(blocks[:, start + 4 :]) | _bits(blocks[:, start : start + 4]) << _FOUR
    return quants


def k_scales(packed: Bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Scales and minima (n, 8), six bits each, out of the 12 bytes in which Q4_K and Q5_K keep them.

    The first four of each lie in the low six bits of bytes 0-3 and 4-7, whose top two bits are the top bits of the
    last four; the low nibbles of those are in bytes 8-11, scales low, minima high.
    """
    first, second, third = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([first & 63, (third & 15) | (first >> 6) << 4], axis=1)
    minima = np.concatenate([second & 63, (third >> 4) | (second >> 6) << 4], axis=1)
    return scales, minima


def q4_k_quants(blocks: Bytes) -> NDArray[np.uint8]:
    """Four-bit integers (n, 256): each 32 bytes hold 32 inputs in low nibbles and the next 32 in high ones."""
    packed = blocks[:, 16:].reshape(-1, 4, 1, 32)
    return np.concatenate([packed & 15, packed >> 4], axis=2).reshape(-1, 256)


def q5_k_quants(blocks: Bytes) -> NDArray[np.uint8]:
    """Five-bit integers (n, 256): bit g of byte m of the 32 high bytes belongs to input m of group g."""
    low = q4_k_quants(np.concatenate([blocks[:, :16], blocks[:, 48:]], axis=1))
    high = _bits(blocks[:, 16:48]).reshape(-1, 32, 8).transpose(0, 2, 1).reshape(-1, 256)
    quants: NDArray[np.uint8] = low | high << _FOUR
    return quants


def q6_k_quants(blocks: Bytes) -> NDArray[np.uint8]:
    """Six-bit integers (n, 256): of each 128 inputs, 64 bytes of nibbles and 32 bytes of the two top bits."""
    low = blocks[:, :128].reshape(-1, 2, 64)
    low = np.concatenate([low & 15, low >> 4], axis=2)  # (n, 2, 128)
    high = blocks[:, 128:192].reshape(-1, 2, 32)
    high = np.concatenate([high >> shift & 3 for shift in (0, 2, 4, 6)], axis=2)
    quants: NDArray[np.uint8] = low | high << _FOUR
    return quants.reshape(-1, 256)


def _q5_0(blocks: Bytes) -> FloatArray:
    return _scale(blocks, 0) * (q5_quants(blocks, 2).astype(np.float32) - 16)


def _q5_1(blocks: Bytes) -> FloatArray:
    return _scale(blocks, 0) * q5_quants(blocks, 4).astype(np.float32) + _scale(blocks, 2)


def _k_with_minima(blocks: Bytes, quants: NDArray[np.uint8]) -> FloatArray:
    scales, minima = (part.astype(np.float32) for part in k_scales(blocks[:, 4:16]))
    scale, minimum = _scale(blocks, 0) * scales, _scale(blocks, 2) * minima  # (n, 8)
    weights = scale[:, :, None] * quants.reshape(-1, 8, 32).astype(np.float32) - minimum[:, :, None]
    unpacked: FloatArray = weights.reshape(-1, 256)
    return unpacked


def _q4_k(blocks: Bytes) -> FloatArray:
    return _k_with_minima(blocks, q4_k_quants(blocks))


def _q5_k(blocks: Bytes) -> FloatArray:
    return _k_with_minima(blocks, q5_k_quants(blocks))


def _q6_k(blocks: Bytes) -> FloatArray:
    scales = _scale(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)  # (n, 16)
    quants = q6_k_quants(blocks).reshape(-1, 16, 16).astype(np.float32) - 32
    unpacked: FloatArray = (scales[:, :, None] * quants).reshape(-1, 256)
    return unpacked


F32 = Format("F32", 0, 1, 4, _f32)
F16 = Format("F16", 1, 1, 2, _f16)
BF16 = Format("BF16", 30, 1, 2, _bf16)
Q4_0 = Format("Q4_0", 2, 32, 18, _q4_0)
Q4_1 = Format("Q4_1", 3, 32, 20, _q4_1)
Q5_0 = Format("Q5_0", 6, 32, 22, _q5_0)
Q5_1 = Format("Q5_1", 7, 32, 24, _q5_1)
Q8_0 = Format("Q8_0", 8, 32, 34, _q8_0)
Q4_K = Format("Q4_K", 12, 256, 144, _q4_k)
Q5_K = Format("Q5_K", 13, 256, 176, _q5_k)
Q6_K = Format("Q6_K", 14, 256, 210, _q6_k)

FORMATS = {format.name: format for format in (F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K)}
BY_GGUF_TYPE = {format.gguf_type: format for format in FORMATS.values()}
