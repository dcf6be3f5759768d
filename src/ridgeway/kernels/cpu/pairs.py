"""Pairs of bf16 numbers in the lanes of a vector, and their products.

A lane holds two numbers, the first in its lower half; to LLVM it is a float of the same bits.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ridgeway.kernels.cpu.isa import processor_features
from ridgeway.kernels.cpu.lanes import HALVES, VECTOR, WORDS, bf16_bits, call, constant, lanes_type, vector_at
from ridgeway.kernels.cpu.layout import LANES


def _pairs(builder: Any, low: Any, high: Any) -> Any:
    """Words as 16 pairs of bf16."""
    return builder.bitcast(builder.or_(low, builder.shl(high, constant(16, WORDS))), VECTOR)


@intrinsic
def load_pairs(typingctx: Any, first: Any, second: Any, index: Any) -> Any:
    """Pairs of bf16 numbers: 16 from `first[index]` on, each with one from `second[index]` on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first, second, index = args
        low, high = (builder.zext(vector_at(builder, one, index, HALVES, 2), WORDS) for one in (first, second))
        return _pairs(builder, low, high)

    return lanes_type(first, second, types.int64), codegen


@intrinsic
def pair(typingctx: Any, low: Any, high: Any) -> Any:
    """Pairs of two floats each, rounded to bf16."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _pairs(builder, *(bf16_bits(builder, one) for one in args))

    return lanes_type(lanes_type, lanes_type), codegen


class _Bf16(ir.Type):  # type: ignore[misc]
    """LLVM's bf16, which llvmlite has no name for."""

    intrinsic_name = "bf16"

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bf16)

    def __hash__(self) -> int:
        return hash(_Bf16)


def _dot_pairs(native: bool) -> Any:
    """The intrinsic that multiplies pairs, by the instruction for it or without."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b, total = args
        if native:
            bf16s = ir.VectorType(_Bf16(), 2 * LANES)
            a, b = builder.bitcast(a, bf16s), builder.bitcast(b, bf16s)
            return call(builder, "llvm.x86.avx512bf16.dpbf16ps.512", VECTOR, total, a, b)
        a, b = builder.bitcast(a, WORDS), builder.bitcast(b, WORDS)
        high, shift = constant(0xFFFF0000, WORDS), constant(16, WORDS)
        for part in (lambda word: builder.and_(word, high), lambda word: builder.shl(word, shift)):
            x, y = (builder.bitcast(part(word), VECTOR) for word in (a, b))
            total = call(builder, "llvm.fma.v16f32", VECTOR, x, y, total)
        return total

    @intrinsic
    def dot(typingctx: Any, a: Any, b: Any, total: Any) -> Any:
        """`total` plus the products of 16 pairs of bf16: first those of their second numbers, then those of their first
        ones, each a fused multiply-add. So does `vdpbf16ps`, but it takes factors and results below 1.2e-38 for 0.
        """
        return lanes_type(lanes_type, lanes_type, lanes_type), codegen

    return dot


dot_pairs_plainly = _dot_pairs(native=False)
dot_pairs = _dot_pairs(native=True) if "avx512bf16" in processor_features() else dot_pairs_plainly
