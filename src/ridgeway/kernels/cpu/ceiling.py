"""How fast this processor multiplies int8: the ceiling of every quantized product, measured.

The best case and nothing else: unpacked four-bit weights and activations stay in registers, sums go to as many
accumulators as hide the latency, nothing is loaded or stored. No product of a tile with rows can be faster.
"""

import threading
import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ridgeway.kernels.cpu.compilation import Compiler, Function
from ridgeway.kernels.cpu.emitter import STEPS, Emitter
from ridgeway.kernels.cpu.isa import InstructionSet
from ridgeway.kernels.cpu.lanes import constant, longs, splat
from ridgeway.kernels.cpu.tiles import TILE_FORMATS

_ITERATIONS = 200_000
_CHAINS = 8


def _dot_chains(builder: Any, isa: InstructionSet, iterations: Any, address: Any, chains: int) -> list[Any]:
    """Emits, `iterations` times, eight steps of products of four-bit weights for each of `chains` sums; returns these.

    What is multiplied comes from the four bytes at `address`, mostly once: this measures arithmetic alone.
    """
    emitter = Emitter(builder, isa, TILE_FORMATS["Q4_1"], 1)
    source = builder.inttoptr(address, ir.IntType(32).as_pointer())
    four = builder.load(source)
    nibbles = constant(0x0F0F0F0F, emitter.words)
    weights = builder.and_(splat(builder, four, emitter.lanes), nibbles)
    sums = [cgutils.alloca_once_value(builder, constant(0, emitter.words)) for _ in range(chains)]
    with cgutils.for_range(builder, iterations):
        for total in sums:
            before = builder.load(total)
            if isa.name == "avx2":
                after = builder.add(before, emitter.chain(weights, four))
            else:
                after = before
                for _ in range(STEPS):
                    if isa.name == "portable":
                        # LLVM may not assume that it reads the same again, so it computes the products again.
                        again = builder.load_atomic(source, "monotonic", 4)
                        weights = builder.and_(splat(builder, again, emitter.lanes), nibbles)
                    after = emitter.dot(after, weights, four)
            builder.store(after, total)
    return [builder.load(total) for total in sums]


def _chains_intrinsic(isa: InstructionSet) -> Any:
    @intrinsic
    def chains(typingctx: Any, iterations: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            sums = _dot_chains(builder, isa, args[0], args[1], _CHAINS)
            total = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(64), 0))
            for value in sums:
                lane = builder.extract_element(value, ir.Constant(ir.IntType(32), 0))
                wide = builder.sext(lane, ir.IntType(64))
                builder.store(builder.add(builder.load(total), wide), total)
            return builder.load(total)

        return types.int64(types.int64, types.int64), codegen

    return chains


def _run(isa: InstructionSet) -> Function:
    chains = _chains_intrinsic(isa)

    def run(iterations: int, out: int) -> None:
        longs(out)[1] = chains(iterations, out)

    return run


class Int8Ceiling:
    """Measures `threads` threads together."""

    def __init__(self, compiler: Compiler, isa: InstructionSet, threads: int) -> None:
        self._kernel = compiler.kernel(f"ceiling-{isa.name}", lambda: _run(isa), ("iterations", "out"))
        self._memory = np.ones((threads, 8), dtype=np.int64)
        self._operations = 2 * 4 * isa.lanes * 8 * _CHAINS * _ITERATIONS * threads

    def rate(self) -> float:
        """Operations per second, a multiply and an add being two; takes a few milliseconds."""
        threads = [threading.Thread(target=self._kernel, args=(_ITERATIONS, line.ctypes.data)) for line in self._memory]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self._operations / (time.perf_counter() - start)
