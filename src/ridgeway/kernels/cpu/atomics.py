"""What threads need to share work: a few atomic operations on 64-bit integers, and manners while waiting."""

import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ridgeway.kernels.cpu.lanes import call

_LONG_POINTER = types.CPointer(types.int64)


@intrinsic
def atomic_read(typingctx: Any, pointer: Any, index: Any) -> Any:
    """`pointer[index]`, not older than what the writer wrote before it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(builder.gep(args[0], [args[1]]), "seq_cst", 8)

    return types.int64(_LONG_POINTER, types.int64), codegen


@intrinsic
def atomic_write(typingctx: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Writes `pointer[index]` after everything before it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], builder.gep(args[0], [args[1]]), "seq_cst", 8)

    return types.void(_LONG_POINTER, types.int64, types.int64), codegen


@intrinsic
def atomic_add(typingctx: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Adds `value` to `pointer[index]`; returns what was there before."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.gep(args[0], [args[1]]), args[2], "seq_cst")

    return types.int64(_LONG_POINTER, types.int64, types.int64), codegen


@intrinsic
def atomic_replace(typingctx: Any, pointer: Any, index: Any, old: Any, new: Any) -> Any:
    """Writes `new` to `pointer[index]` if `old` is there; returns whether it was."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.gep(args[0], [args[1]])
        pair = builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 1)

    return types.boolean(_LONG_POINTER, types.int64, types.int64, types.int64), codegen


@intrinsic
def relax(typingctx: Any) -> Any:
    """A moment's pause inside a spinning loop, kind to the other thread of the core."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if context.codegen()._tm_features is not None and "x86" in builder.module.triple:
            call(builder, "llvm.x86.sse2.pause", ir.VoidType())

    return types.void(), codegen


@intrinsic
def give_way(typingctx: Any) -> Any:
    """Lets another thread have this core: without it, two threads on one core would wait out whole time slices."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        call(builder, name, ir.IntType(32))

    return types.void(), codegen
