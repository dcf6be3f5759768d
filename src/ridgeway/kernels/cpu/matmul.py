"""Rows times tiles: one kernel per weight format, from one row to as many as there are.

A tile's whole row of groups, once fetched from memory, serves a panel of rows from the first-level cache. Rows go in
blocks that share the unpacking; how rows are cut into blocks and panels changes no bit, since rows never meet. The
inputs are never split.
"""

from ridgeway.kernels.cpu.compilation import Compiler, Function, Kernel
from ridgeway.kernels.cpu.isa import InstructionSet
from ridgeway.kernels.cpu.tiles import OUTPUTS, TileFormat

_PANEL_BYTES = 128 << 10  # of activations, which all tiles of a task meet while they are in the second-level cache

ARGUMENTS = (
    "tiles",  # address of the first tile
    "count",  # how many tiles
    "tile_bytes",
    "blocks",  # blocks of inputs in a tile
    "activations",  # address of the first row
    "activation_stride",  # bytes from row to row
    "rows",
    "out",  # address of the first row's first float
    "out_stride",  # bytes from row to row
)


def matmul_kernel(compiler: Compiler, isa: InstructionSet, tile: TileFormat, again: bool = False) -> Kernel:
    """The kernel that multiplies rows by tiles of the format `tile`; arguments as in `ARGUMENTS`.

    again: whether the tiles are met again before long, and should stay in the caches; those of a whole model are not.
    """
    name = f"matmul-{tile.name}-{isa.name}{'-again' if again else ''}"
    return compiler.kernel(name, lambda: _multiply(isa, tile, again), ARGUMENTS)


def _multiply(isa: InstructionSet, tile: TileFormat, again: bool) -> Function:
    from ridgeway.kernels.cpu.products import product_intrinsic  # with all of Numba

    rows_at_a_time = isa.row_blocks[0]
    product = product_intrinsic(isa, tile, again)
    step = 4 * OUTPUTS

    def multiply(
        tiles: int,
        count: int,
        tile_bytes: int,
        blocks: int,
        activations: int,
        activation_stride: int,
        rows: int,
        out: int,
        out_stride: int,
    ) -> None:
        panel = max(_PANEL_BYTES // activation_stride // rows_at_a_time, 1) * rows_at_a_time
        for first in range(0, rows, panel):
            for index in range(count):
                tile = tiles + index * tile_bytes
                place = out + index * step
                for row in range(first, min(first + panel, rows), rows_at_a_time):
                    product(
                        tile,
                        blocks,
                        activations + row * activation_stride,
                        activation_stride,
                        place + row * out_stride,
                        out_stride,
                        min(rows - row, rows_at_a_time),
                    )

    return multiply
