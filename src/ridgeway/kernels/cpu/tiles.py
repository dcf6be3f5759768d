"""Weights in the order in which the kernels read them: tiles of 16 outputs.

A group is 32 inputs of 16 outputs; one 64-byte load fills a register whose lane j belongs to output j. Of weights with
four bits, vector i (of four) holds in byte 4 * j + b input 4 * i + b of output j in its low nibble and input
16 + 4 * i + b in its high one. Then the formats differ:

- five bits: 64 bytes, of which byte 4 * j + b holds in bit t the top bit of input 4 * t + b;
- six bits: 128 bytes, of which byte 4 * j + b of half h holds in bits 2 * s, 2 * s + 1 the top bits of input
  16 * h + 4 * s + b;
- eight bits: eight vectors, byte 4 * j + b of vector t being input 4 * t + b;
- factors: 16 fp16 scales (and minima) per group; or, in the K formats, 16 bytes of scales (and minima) per group (two
  times 16 in Q6_K), and the fp16 factors after every eighth group.

A tile takes as many bytes as the file's blocks did (Q4_K and Q5_K 3 % more: six-bit scales become bytes). Weights that
stay floats lie with the 16 outputs of one input side by side. Outputs are padded with zeros to whole tiles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeway.kernels.cpu.residence import Room, aligned, forget
from ridgeway.quant.formats import (
    Bytes,
    k_scales,
    q4_k_quants,
    q5_k_quants,
    q5_quants,
    q6_k_quants,
)
from ridgeway.quant.tensor import Tensor

OUTPUTS = 16
GROUP = 32

# A group of quantized activations: 32 int8, a float scale, the scale times their sum, the sums of both halves.
GROUP_BYTES = 48
OFFSET_OF_SCALE = 32
OFFSET_OF_SCALED_SUM = 36
OFFSET_OF_FIRST_SUM = 40
OFFSET_OF_SECOND_SUM = 44

_CHUNK_BYTES = 4 << 20  # how much of a matrix is reordered at a time


@dataclass(frozen=True)
class TileFormat:
    """How the tiles of a weight format look.

    bits: of a weight; 16 or 32: floats, which have no groups. offset: what is subtracted from the stored integer.
    group_bytes: of a group without the factors of its block; group_factors: where in it the factors begin.
    block_bytes: of all groups of a block; of one input for floats. pack: (16 outputs, n blocks, bytes) to bytes.
    """

    name: str
    bits: int
    offset: int
    has_minimum: bool
    groups_per_block: int
    halves_scaled: bool
    group_bytes: int
    block_bytes: int
    pack: Callable[[Bytes], Bytes]

    @property
    def quantized(self) -> bool:
        return self.bits <= 8

    @property
    def group_factors(self) -> int:
        return 64 * self.bits

    @property
    def inputs_per_block(self) -> int:
        return GROUP * self.groups_per_block if self.quantized else 1


def _nibble_vectors(quants: NDArray[np.uint8]) -> Bytes:
    """(..., 16 outputs, 32) integers to (..., 256) bytes."""
    packed = (quants[..., :16] & 15) | (quants[..., 16:] & 15) << 4
    return _interleave(packed)


def _interleave(rows: NDArray[Any]) -> Bytes:
    """(..., 16 outputs, n bytes) to (..., 16 * n): four bytes of each output in turn."""
    words = np.ascontiguousarray(rows).view(np.uint32)  # (..., 16, n / 4)
    turned = np.ascontiguousarray(np.swapaxes(words, -1, -2))
    return turned.view(np.uint8).reshape(*rows.shape[:-2], -1)


def _across(values: NDArray[Any]) -> Bytes:
    """(..., 16 outputs, n bytes of one number) to (..., 16 * n): the outputs' numbers side by side."""
    return np.ascontiguousarray(values).reshape(*values.shape[:-2], -1)


def _fifth_bits(quants: NDArray[np.uint8]) -> Bytes:
    steps = (quants >> 4 & 1).reshape(*quants.shape[:-1], 8, 4)  # (..., 16, step, b)
    return _across(np.packbits(steps, axis=-2, bitorder="little")[..., 0, :])


def _top_bits(quants: NDArray[np.uint8]) -> Bytes:
    steps = (quants >> 4 & 3).reshape(*quants.shape[:-1], 2, 4, 4)  # (..., 16, half, step, b)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    packed = np.bitwise_or.reduce(steps << shifts, axis=-2)  # (..., 16, half, b)
    return np.concatenate([_across(packed[..., half, :]) for half in (0, 1)], axis=-1)


def _pack_q4(blocks: Bytes, factors: int) -> Bytes:
    """The file's nibbles pair input m with input 16 + m, as the tile's do."""
    by_group = blocks.transpose(0, 2, 1, 3)  # (tiles, groups, 16, bytes)
    parts = [_interleave(by_group[..., 2 * factors :])]
    parts += [_across(by_group[..., 2 * f : 2 * f + 2]) for f in range(factors)]
    return np.concatenate(parts, axis=-1)


def _pack_q5(blocks: Bytes, factors: int) -> Bytes:
    tiles, outputs, groups, size = blocks.shape
    quants = q5_quants(blocks.reshape(-1, size), 2 * factors).reshape(tiles, outputs, groups, GROUP)
    quants = quants.transpose(0, 2, 1, 3)
    by_group = blocks.transpose(0, 2, 1, 3)
    parts = [_nibble_vectors(quants), _fifth_bits(quants)]
    parts += [_across(by_group[..., 2 * f : 2 * f + 2]) for f in range(factors)]
    return np.concatenate(parts, axis=-1)


def _pack_q8_0(blocks: Bytes) -> Bytes:
    by_group = blocks.transpose(0, 2, 1, 3)
    return np.concatenate([_interleave(by_group[..., 2:]), _across(by_group[..., :2])], axis=-1)


def _pack_k(blocks: Bytes, quants_of: Callable[[Bytes], NDArray[np.uint8]]) -> Bytes:
    tiles, outputs, count, size = blocks.shape
    flat = blocks.reshape(-1, size)
    quants = quants_of(flat).reshape(tiles, outputs, count, 8, GROUP).transpose(0, 2, 3, 1, 4)
    parts = [_nibble_vectors(quants)]  # (tiles, blocks, 8, 256)
    if quants_of is q5_k_quants:
        parts.append(_fifth_bits(quants))
    if quants_of is q6_k_quants:
        parts.append(_top_bits(quants))
        scales = flat[:, 192:208].reshape(tiles, outputs, count, 8, 2).transpose(0, 2, 3, 4, 1)
        parts.append(scales.reshape(*scales.shape[:3], 32))
        factors = [slice(208, 210)]
    else:
        packed = k_scales(flat[:, 4:16])
        parts += [part.reshape(tiles, outputs, count, 8).transpose(0, 2, 3, 1) for part in packed]
        factors = [slice(0, 2), slice(2, 4)]
    groups = np.concatenate(parts, axis=-1)
    groups = groups.reshape(tiles, count, -1)
    by_block = blocks.transpose(0, 2, 1, 3)
    return np.concatenate([groups, *(_across(by_block[..., place]) for place in factors)], axis=-1)


def _pack_floats(blocks: Bytes) -> Bytes:
    return _across(blocks.transpose(0, 2, 1, 3))


def _simple(name: str, bits: int, offset: int, factors: int, pack: Callable[[Bytes], Bytes]) -> TileFormat:
    size = 64 * bits + 32 * factors
    return TileFormat(name, bits, offset, factors == 2, 1, False, size, size, pack)


def _k(name: str, bits: int, quants_of: Callable[[Bytes], NDArray[np.uint8]]) -> TileFormat:
    group = 64 * bits + 32
    six = bits == 6
    block = 8 * group + (32 if six else 64)
    offset = 32 if six else 0
    return TileFormat(name, bits, offset, not six, 8, six, group, block, lambda blocks: _pack_k(blocks, quants_of))


def _floats(name: str, bits: int) -> TileFormat:
    return TileFormat(name, bits, 0, False, 1, False, 0, OUTPUTS * bits // 8, _pack_floats)


TILE_FORMATS = {
    tile.name: tile
    for tile in (
        _simple("Q4_0", 4, 8, 1, lambda blocks: _pack_q4(blocks, 1)),
        _simple("Q4_1", 4, 0, 2, lambda blocks: _pack_q4(blocks, 2)),
        _simple("Q5_0", 5, 16, 1, lambda blocks: _pack_q5(blocks, 1)),
        _simple("Q5_1", 5, 0, 2, lambda blocks: _pack_q5(blocks, 2)),
        _simple("Q8_0", 8, 0, 1, _pack_q8_0),
        _k("Q4_K", 4, q4_k_quants),
        _k("Q5_K", 5, q5_k_quants),
        _k("Q6_K", 6, q6_k_quants),
        _floats("F16", 16),
        _floats("BF16", 16),
        _floats("F32", 32),
    )
}


@dataclass(frozen=True)
class TiledMatrix:
    """data: (tiles, blocks * block_bytes), its address a multiple of 64."""

    tile: TileFormat
    outputs: int
    inputs: int
    data: Bytes

    @property
    def blocks(self) -> int:
        return self.inputs // self.tile.inputs_per_block


def tile_matrix(tensor: Tensor, room: Room | None = None) -> TiledMatrix:
    """`tensor` (outputs, inputs) reordered into tiles; what the file's pages took in memory is given back.

    room: where the tiles are to lie; None: in memory of their own.
    """
    outputs, inputs = tensor.shape
    tile = TILE_FORMATS[tensor.format.name]
    blocks = inputs // tensor.format.block
    tiles = -(-outputs // OUTPUTS)
    shape = tiles, inputs // tile.inputs_per_block * tile.block_bytes
    data = aligned(*shape) if room is None else room.take(*shape)
    step = max(1, _CHUNK_BYTES // (OUTPUTS * tensor.data.shape[1]))
    for first in range(0, tiles, step):
        last = min(first + step, tiles)
        rows = tensor.packed(first * OUTPUTS, last * OUTPUTS)
        missing = (last - first) * OUTPUTS - len(rows)
        if missing:
            rows = np.concatenate([rows, np.zeros((missing, rows.shape[1]), dtype=np.uint8)])
        cut = rows.reshape(last - first, OUTPUTS, blocks, tensor.format.block_bytes)
        data[first:last] = tile.pack(cut).reshape(last - first, -1)
    forget(tensor.data)
    return TiledMatrix(tile, outputs, inputs, data)
