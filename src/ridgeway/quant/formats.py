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


F32 = Format("F32", 0, 1, 4, _f32)
F16 = Format("F16", 1, 1, 2, _f16)
BF16 = Format("BF16", 30, 1, 2, _bf16)
Q4_0 = Format("Q4_0", 2, 32, 18, _q4_0)
Q4_1 = Format("Q4_1", 3, 32, 20, _q4_1)
Q8_0 = Format("Q8_0", 8, 32, 34, _q8_0)

FORMATS = {format.name: format for format in (F32, F16, BF16, Q4_0, Q4_1, Q8_0)}
BY_GGUF_TYPE = {format.gguf_type: format for format in FORMATS.values()}
