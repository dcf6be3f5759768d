"""Packed rows as floats: the embedding's rows of the tokens of a step."""

from numba import njit

from ridgeway.kernels.cpu.lanes import broadcast, first_lane, floats, halves, load, longs, signed_bytes, store
from ridgeway.kernels.cpu.layout import LANES
from ridgeway.kernels.cpu.tiles import GROUP
from ridgeway.quant.formats import FORMATS

BLOCK_BYTES = FORMATS["Q8_0"].block_bytes  # an fp16 scale, then 32 int8


@njit(error_model="numpy")
def unpack_row(packed, row_bytes, out):
    """A row in Q8_0, at address `packed`, as float32 to address `out`."""
    for block in range(row_bytes // BLOCK_BYTES):
        place, target = packed + block * BLOCK_BYTES, floats(out + block * GROUP * 4)
        scale = broadcast(first_lane(load(halves(place), 0)))
        quants = signed_bytes(place + 2)
        for i in range(0, GROUP, LANES):
            store(target, i, load(quants, i) * scale)


def unpack_q8_0(packed: int, row_bytes: int, tokens: int, count: int, out: int, stride: int) -> None:
    """Rows `tokens` (count,) int64 of a matrix in Q8_0 as float32; out: where, `stride` bytes from row to row."""
    ids = longs(tokens)
    for number in range(count):
        unpack_row(packed + ids[number] * row_bytes, row_bytes, out + number * stride)
