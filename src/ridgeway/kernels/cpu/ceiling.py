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

from ridgeway.kernels.cpu.compilation import Compiler
from ridgeway.kernels.cpu.isa import InstructionSet
from ridgeway.kernels.cpu.lanes import longs
from ridgeway.kernels.cpu.products import dot_chains

_ITERATIONS = 200_000
_CHAINS = 8


def _chains_intrinsic(isa: InstructionSet) -> Any:
    @intrinsic
    def chains(typingctx: Any, iterations: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            sums = dot_chains(builder, isa, args[0], args[1], _CHAINS)
            total = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(64), 0))
            for value in sums:
                lane = builder.extract_element(value, ir.Constant(ir.IntType(32), 0))
                wide = builder.sext(lane, ir.IntType(64))
                builder.store(builder.add(builder.load(total), wide), total)
            return builder.load(total)

        return types.int64(types.int64, types.int64), codegen

    return chains


class Int8Ceiling:
    """Measures `threads` threads together."""

    def __init__(self, compiler: Compiler, isa: InstructionSet, threads: int) -> None:
        chains = _chains_intrinsic(isa)

        def run(iterations: int, out: int) -> None:
            longs(out)[1] = chains(iterations, out)

        self._kernel = compiler.kernel(f"ceiling-{isa.name}", run, ("iterations", "out"))
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
