"""What helpers do while Python is between two kernels: they read what the next stream, or draft head, begins with.

The bus would stand still meanwhile. What is read lies in the last-level cache when it is wanted, at least if that is
soon; so it is a few megabytes, after a draft head some more. A helper stops as soon as the next kernel has begun.
"""

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ridgeway.kernels.cpu.atomics import atomic_read
from ridgeway.kernels.cpu.lanes import longs
from ridgeway.kernels.cpu.team import OPEN

_PIECE = 4096  # bytes between two looks at whether a stream has begun
_LINE = 64


@intrinsic
def _touch(typingctx: Any, address: Any) -> Any:
    """Reads a byte for nothing. Prefetches would be dropped where the memory cannot keep up with them."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        byte = builder.load(builder.inttoptr(args[0], ir.IntType(8).as_pointer()))
        type_ = ir.FunctionType(ir.VoidType(), [byte.type])
        builder.asm(type_, "", "r", [byte], side_effect=True)

    return types.void(types.int64), codegen


@njit(error_model="numpy")
def read_ahead(control, address, stream, helper, helpers):
    """Reads what the table at `address` names, if there is one, after `stream` has ended; helpers take turns.

    address: what `control[AHEAD]` was before the helper left: whoever waits for it to leave may write another.
    """
    if address == 0:
        return
    table = longs(address)
    turn = 0
    for place in range(table[0]):
        start, size = table[1 + 2 * place], table[2 + 2 * place]
        for offset in range(0, size, _PIECE):
            turn += 1
            if turn % helpers != helper:
                continue
            began = atomic_read(control, OPEN)
            if began != 0 and began != stream:
                return
            for line in range(offset, min(offset + _PIECE, size), _LINE):
                _touch(start + line)
