"""Vectors of 16 floats and bare pointers for Numba functions.

Numba gives no vector types, and a loop that LLVM vectorizes by itself orders a sum by the width of the processor's
registers. So sums here run in 16 virtual lanes on every instruction set: one AVX-512 register, two of AVX2, four of
NEON. LLVM splits them; the order of every addition is the program's. Nothing is contracted or reassociated: a fused
multiply-add happens where `fma` is written and nowhere else.

Pointers are Numba's `CPointer`: `p[i]` reads and writes an element, `at(p, i)` points further on.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

from ridgeway.kernels.cpu.layout import LANES

_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()
VECTOR = ir.VectorType(_FLOAT, LANES)
HALVES = ir.VectorType(ir.IntType(16), LANES)
_BYTES = ir.VectorType(ir.IntType(8), LANES)
WORDS = ir.VectorType(ir.IntType(32), LANES)


class LanesType(types.Type):
    """16 floats."""

    def __init__(self) -> None:
        super().__init__(name="f32x16")


lanes_type = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, VECTOR)


def _operator(symbol: Any, instruction: str) -> None:
    @infer_global(symbol)
    class Template(ConcreteTemplate):
        cases = (lanes_type(lanes_type, lanes_type),)

    @lower_builtin(symbol, lanes_type, lanes_type)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _operator(_symbol, _instruction)


def constant(values: Any, type_: Any = VECTOR) -> Any:
    """An LLVM vector constant; one number is repeated over the lanes."""
    if not isinstance(values, list):
        values = [values] * type_.count
    return ir.Constant(type_, values)


def splat(builder: Any, scalar: Any, count: int = LANES) -> Any:
    """`scalar` in every lane."""
    vector = ir.VectorType(scalar.type, count)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count))


def call(builder: Any, name: str, result: Any, *args: Any) -> Any:
    """A call of the LLVM intrinsic `name`."""
    function_type = ir.FunctionType(result, [argument.type for argument in args])
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, function_type, name)
    return builder.call(function, args)


def vector_at(builder: Any, pointer: Any, index: Any, type_: Any, align: int) -> Any:
    """The vector from `pointer[index]` on."""
    place = builder.bitcast(builder.gep(pointer, [index]), type_.as_pointer())
    load = builder.load(place)
    load.align = align
    return load


def _store(builder: Any, value: Any, pointer: Any, index: Any, align: int) -> None:
    place = builder.bitcast(builder.gep(pointer, [index]), value.type.as_pointer())
    store = builder.store(value, place)
    store.align = align


_POINTERS = {
    "floats": types.CPointer(types.float32),
    "doubles": types.CPointer(types.float64),
    "halves": types.CPointer(types.uint16),
    "bf16s": types.CPointer(types.int16),
    "signed_bytes": types.CPointer(types.int8),
    "integers": types.CPointer(types.int32),
    "longs": types.CPointer(types.int64),
}
float_pointer = _POINTERS["floats"]


def _pointer_cast(kind: Any) -> Any:
    @intrinsic
    def cast(typingctx: Any, address: Any) -> Any:
        if isinstance(address, types.CPointer):
            return kind(address), lambda context, builder, sig, args: builder.bitcast(
                args[0], context.get_value_type(kind)
            )

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(kind))

        return kind(types.int64), codegen

    return cast


floats = _pointer_cast(_POINTERS["floats"])
doubles = _pointer_cast(_POINTERS["doubles"])
halves = _pointer_cast(_POINTERS["halves"])
bf16s = _pointer_cast(_POINTERS["bf16s"])
signed_bytes = _pointer_cast(_POINTERS["signed_bytes"])
integers = _pointer_cast(_POINTERS["integers"])
longs = _pointer_cast(_POINTERS["longs"])


@intrinsic
def at(typingctx: Any, pointer: Any, index: Any) -> Any:
    """The pointer `index` elements further on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), codegen


@intrinsic
def load(typingctx: Any, pointer: Any, index: Any) -> Any:
    """16 floats from `pointer[index]` on: floats as they are, fp16 (uint16) and int8 converted exactly."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if sig.args[0].dtype == types.float32:
            return vector_at(builder, *args, VECTOR, 4)
        if sig.args[0].dtype == types.int8:
            return builder.sitofp(vector_at(builder, *args, _BYTES, 1), VECTOR)
        packed = builder.bitcast(vector_at(builder, *args, HALVES, 2), ir.VectorType(ir.HalfType(), LANES))
        return builder.fpext(packed, VECTOR)

    return lanes_type(pointer, types.int64), codegen


@intrinsic
def load_integers(typingctx: Any, pointer: Any, index: Any) -> Any:
    """16 int32 from `pointer[index]` on, as the nearest floats."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.sitofp(vector_at(builder, *args, WORDS, 4), VECTOR)

    return lanes_type(pointer, types.int64), codegen


@intrinsic
def store(typingctx: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Writes 16 floats from `pointer[index]` on; to int16 as bf16, rounded to nearest even."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer, index, value = args
        if sig.args[0].dtype == types.float32:
            _store(builder, value, pointer, index, 4)
        else:
            _store(builder, builder.trunc(bf16_bits(builder, value), HALVES), pointer, index, 2)

    return types.void(pointer, types.int64, lanes_type), codegen


def bf16_bits(builder: Any, value: Any) -> Any:
    """bf16 of 16 floats, rounded to nearest even, in the lower halves of words."""
    bits = builder.bitcast(value, WORDS)
    odd = builder.and_(builder.lshr(bits, constant(16, WORDS)), constant(1, WORDS))
    rounded = builder.add(bits, builder.add(odd, constant(0x7FFF, WORDS)))
    return builder.lshr(rounded, constant(16, WORDS))


@intrinsic
def store_rounded(typingctx: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Writes 16 floats, rounded to the nearest even integer, as int8; returns the sum of the integers."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer, index, value = args
        whole = builder.fptosi(call(builder, "llvm.rint.v16f32", VECTOR, value), WORDS)
        _store(builder, builder.trunc(whole, _BYTES), pointer, index, 1)
        return call(builder, "llvm.vector.reduce.add.v16i32", ir.IntType(32), whole)

    return types.int32(pointer, types.int64, lanes_type), codegen


@intrinsic
def prefetch(typingctx: Any, address: Any) -> Any:
    """Asks for the cache line at `address`, which is read soon, into the second-level cache: the first-level one has
    room for fewer that are under way.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        flags = [ir.Constant(ir.IntType(32), flag) for flag in (0, 2, 1)]  # to read; not into the first level; data
        call(builder, "llvm.prefetch.p0", ir.VoidType(), pointer, *flags)

    return types.void(types.int64), codegen


@intrinsic
def broadcast(typingctx: Any, value: Any) -> Any:
    """One float in all lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return splat(builder, args[0])

    return lanes_type(types.float32), codegen


def _elementwise(name: str, count: int) -> Any:
    intrinsic_name = f"llvm.{name}.v16f32"

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return call(builder, intrinsic_name, VECTOR, *args)

    if count == 1:

        @intrinsic
        def one(typingctx: Any, a: Any) -> Any:
            return lanes_type(lanes_type), codegen

        return one

    @intrinsic
    def three(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
        return lanes_type(lanes_type, lanes_type, lanes_type), codegen

    return three


fma = _elementwise("fma", 3)  # a * b + c, rounded once
absolute = _elementwise("fabs", 1)
nearest = _elementwise("rint", 1)


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@intrinsic
def minimum(typingctx: Any, a: Any, b: Any) -> Any:
    """The smaller of `a` and `b`, lane by lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b = args
        return builder.select(builder.fcmp_ordered("<", a, b), a, b)

    return lanes_type(lanes_type, lanes_type), codegen


@intrinsic
def maximum(typingctx: Any, a: Any, b: Any) -> Any:
    """The larger of `a` and `b`, lane by lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _larger(builder, *args)

    return lanes_type(lanes_type, lanes_type), codegen


@intrinsic
def fma1(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c of three floats, rounded once."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return call(builder, "llvm.fma.f32", _FLOAT, *args)

    return types.float32(types.float32, types.float32, types.float32), codegen


@intrinsic
def power_of_two(typingctx: Any, exponent: Any) -> Any:
    """2 to the whole numbers `exponent`, from -126 to 127, lane by lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        biased = builder.add(builder.fptosi(args[0], WORDS), constant(127, WORDS))
        return builder.bitcast(builder.shl(biased, constant(23, WORDS)), VECTOR)

    return lanes_type(lanes_type), codegen


@intrinsic
def first_lanes(typingctx: Any, value: Any, count: Any, rest: Any) -> Any:
    """`value` in the first `count` lanes, the float `rest` in the others."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, count, rest = args
        lane = ir.Constant(WORDS, list(range(LANES)))
        taken = builder.icmp_signed("<", lane, splat(builder, builder.trunc(count, ir.IntType(32))))
        return builder.select(taken, value, splat(builder, rest))

    return lanes_type(lanes_type, types.int64, types.float32), codegen


def _fold(builder: Any, value: Any, combine: Any) -> Any:
    """All lanes into one, halves onto halves: 16 to 8 to 4 to 2 to 1."""
    width = value.type.count
    while width > 1:
        width //= 2
        words = ir.VectorType(ir.IntType(32), width)
        low = builder.shuffle_vector(value, value, ir.Constant(words, list(range(width))))
        high = builder.shuffle_vector(value, value, ir.Constant(words, list(range(width, 2 * width))))
        value = combine(low, high)
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


@intrinsic
def first_lane(typingctx: Any, value: Any) -> Any:
    """The first of the lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.extract_element(args[0], ir.Constant(ir.IntType(32), 0))

    return types.float32(lanes_type), codegen


@intrinsic
def sum_lanes(typingctx: Any, value: Any) -> Any:
    """The sum of the lanes: lane i and i + 8, then i and i + 4, and so on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _fold(builder, args[0], builder.fadd)

    return types.float32(lanes_type), codegen


@intrinsic
def max_lanes(typingctx: Any, value: Any) -> Any:
    """The largest lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _fold(builder, args[0], lambda a, b: _larger(builder, a, b))

    return types.float32(lanes_type), codegen


@intrinsic
def store_sums(typingctx: Any, pointer: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Writes the sums of the lanes of four vectors to `pointer[index]` to `pointer[index + 3]`.

    Each sum's order is that of `sum_lanes`; all levels are shared among the four.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def shuffle(x: Any, y: Any, lanes: list[int]) -> Any:
            return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))

        def fold(x: Any, y: Any, part: int) -> Any:
            """Of pieces of 2 * part lanes each, upper halves added to lower ones: those of x, then those of y."""
            pieces = range(0, 2 * LANES, 2 * part)
            low = [start + lane for start in pieces for lane in range(part)]
            return builder.fadd(shuffle(x, y, low), shuffle(x, y, [lane + part for lane in low]))

        a, b, c, d = args[2:]
        quarters = fold(fold(a, b, 8), fold(c, d, 8), 4)
        for part in (2, 1):
            moved = [lane ^ part for lane in range(LANES)]
            quarters = builder.fadd(quarters, shuffle(quarters, quarters, moved))
        sums = shuffle(quarters, quarters, [0, 4, 8, 12])
        _store(builder, sums, args[0], args[1], 4)

    vectors = (lanes_type,) * 4
    return types.void(pointer, types.int64, *vectors), codegen


@intrinsic
def zero_below(typingctx: Any, value: Any, x: Any, limit: Any) -> Any:
    """`value`, but 0 in the lanes where `x` is below `limit`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, x, limit = args
        below = builder.fcmp_ordered("<", x, splat(builder, limit))
        return builder.select(below, constant(0.0), value)

    return lanes_type(lanes_type, lanes_type, types.float32), codegen


@intrinsic
def store_first(typingctx: Any, pointer: Any, index: Any, value: Any, count: Any) -> Any:
    """Writes the first `count` lanes to floats from `pointer[index]` on, and nothing beyond."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer, index, value, count = args
        lane = ir.Constant(WORDS, list(range(LANES)))
        taken = builder.icmp_signed("<", lane, splat(builder, builder.trunc(count, ir.IntType(32))))
        place = builder.bitcast(builder.gep(pointer, [index]), VECTOR.as_pointer())
        align = ir.Constant(ir.IntType(32), 4)
        name = "llvm.masked.store.v16f32.p0"
        call(builder, name, ir.VoidType(), value, place, align, taken)

    return types.void(pointer, types.int64, lanes_type, types.int64), codegen
