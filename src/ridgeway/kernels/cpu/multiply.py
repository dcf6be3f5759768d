"""A product kernel (`matmul`) called from compiled code, by the tables of a matrix and of a step."""

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ridgeway.kernels.cpu.layout import M


@intrinsic
def _call_product(
    typingctx: Any, kernel: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any, i: Any
) -> Any:
    """Calls the product kernel at an address; arguments as in `matmul.ARGUMENTS`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        long = ir.IntType(64)
        type_ = ir.FunctionType(ir.VoidType(), [long] * 9)
        builder.call(builder.inttoptr(args[0], type_.as_pointer()), args[1:])

    return types.void(*[types.int64] * 10), codegen


@njit(error_model="numpy")
def multiply(matrix, first, last, rows, x, x_stride, packed, packed_bytes, out, out_stride):
    """Tiles `first` to `last` - 1 of `matrix` times all rows; `out` (address) gets the outputs of tile `first`."""
    activations, stride = x, x_stride * 4
    if matrix[M.quantized]:
        activations, stride = packed, packed_bytes
    tile_bytes = matrix[M.tile_bytes]
    _call_product(
        matrix[M.kernel],
        matrix[M.tiles] + first * tile_bytes,
        last - first,
        tile_bytes,
        matrix[M.blocks],
        activations,
        stride,
        rows,
        out,
        out_stride * 4,
    )
