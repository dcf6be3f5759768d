"""LLVM's instructions for the product of a tile with a few rows, for one weight format and one instruction set.

What `products` writes its loops with: loads, weights unpacked into registers, dot products of four bytes, sums of a
group and its scales. The three ways to multiply int8 differ here and nowhere else.
"""

from typing import Any

from llvmlite import ir
from llvmlite.binding import llvm_version_info

from ridgeway.kernels.cpu.isa import InstructionSet
from ridgeway.kernels.cpu.lanes import call, constant, splat
from ridgeway.kernels.cpu.layout import LANES
from ridgeway.kernels.cpu.tiles import (
    OFFSET_OF_FIRST_SUM,
    OFFSET_OF_SCALE,
    OFFSET_OF_SCALED_SUM,
    OFFSET_OF_SECOND_SUM,
    TileFormat,
)

_BYTE, _SHORT, _INT, _LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_FLOAT = ir.FloatType()
STEPS = 8  # four inputs each
# How far ahead weights are asked for, in bytes (measured: docs/cpu-executor.md).
_FOR_ONE = 128  # a single row does nothing but read: it is quickest if least is displaced
_FOR_SEVERAL = 8192  # into the second-level cache, so that products of several rows never wait
_IF_KEPT = 512  # what is read again before long lies in a cache already, if all is well

_VECTOR_REGISTER = "x"  # LLVM's name in constraints of inline assembly

Vectors = list[Any]  # one LLVM value per part of the 16 lanes


class Emitter:
    """Emits LLVM instructions for one tile format, instruction set and number of rows.

    again: whether the weights are read again before long, so that they should stay in the caches.
    """

    def __init__(self, builder: Any, isa: InstructionSet, tile: TileFormat, rows: int, again: bool = False) -> None:
        self.builder, self.isa, self.tile, self.rows = builder, isa, tile, rows
        self.again = again
        self.lanes = isa.lanes
        self.parts = range(LANES // isa.lanes)
        self.words = ir.VectorType(_INT, self.lanes)
        self.shorts = ir.VectorType(_SHORT, 2 * self.lanes)
        self.bytes = ir.VectorType(_BYTE, 4 * self.lanes)
        self.floats = ir.VectorType(_FLOAT, self.lanes)

    # Loads

    def at(self, pointer: Any, offset: int) -> Any:
        return self.builder.gep(pointer, [ir.Constant(_LONG, offset)])

    def load(self, pointer: Any, offset: int, type_: Any) -> Any:
        value = self.builder.load(self.builder.bitcast(self.at(pointer, offset), type_.as_pointer()))
        value.align = 1
        return value

    def load_part(self, pointer: Any, offset: int, part: int, element: Any) -> Any:
        """Of 16 integers from byte `offset` on, those of a part."""
        size = self.lanes * element.width // 8
        return self.load(pointer, offset + part * size, ir.VectorType(element, self.lanes))

    def halves(self, pointer: Any, offset: int, part: int) -> Any:
        """Of 16 fp16 numbers, those of a part as floats."""
        raw = self.load_part(pointer, offset, part, _SHORT)
        return self.builder.fpext(self.builder.bitcast(raw, ir.VectorType(ir.HalfType(), self.lanes)), self.floats)

    def fetch_ahead(self, pointer: Any) -> None:
        """Asks for weights that come later; the processor's own guess stops at page borders."""
        if self.again:
            kept, ahead = 3, _IF_KEPT  # in all caches
        elif self.rows == 1:
            kept, ahead = 0, _FOR_ONE  # in no cache but the nearest
        else:
            kept, ahead = 2, _FOR_SEVERAL  # in all but the nearest
        flags = [ir.Constant(_INT, flag) for flag in (0, kept, 1)]  # to read; data
        for offset in range(0, self.tile.block_bytes, 64):
            call(self.builder, "llvm.prefetch.p0", ir.VoidType(), self.at(pointer, ahead + offset), *flags)

    def small_integers(self, pointer: Any, offset: int, part: int, signed: bool) -> Any:
        """Of 16 bytes, those of a part as 32-bit integers."""
        widen = self.builder.sext if signed else self.builder.zext
        return widen(self.load_part(pointer, offset, part, _BYTE), self.words)

    def spread(self, pointer: Any, offset: int, type_: Any) -> Any:
        """The number at byte `offset`, in all lanes."""
        return splat(self.builder, self.load(pointer, offset, type_), self.lanes)

    def settle(self, values: list[Vectors]) -> list[Vectors]:
        """`values` [row][part], which must all exist at this point of the program, in registers.

        The order of instructions is made for 16 registers: sums of all rows and parts, one step's weights, one row's
        activations. LLVM would rather regroup the sums by rows, keep all unpacked weights, and spill.
        """
        if self.isa.registers > 16 or self.isa.name == "portable":
            return values
        flat = [value for row in values for value in row]
        names = [f"={_VECTOR_REGISTER}"] * len(flat) + [str(place) for place in range(len(flat))]
        struct = ir.LiteralStructType([value.type for value in flat]) if len(flat) > 1 else flat[0].type
        type_ = ir.FunctionType(struct, [value.type for value in flat])
        settled = self.builder.asm(type_, "", ",".join(names), flat, side_effect=True)
        if len(flat) == 1:
            return [[settled]]
        width = len(values[0])
        parts = [self.builder.extract_value(settled, place) for place in range(len(flat))]
        return [parts[start : start + width] for start in range(0, len(parts), width)]

    # Unpacking

    def masked_shift(self, value: Any, shift: int, mask: int) -> Any:
        """Every byte shifted right by `shift` (left if negative), and masked."""
        builder = self.builder
        if shift > 0:
            value = builder.lshr(value, constant(shift, self.words))
        elif shift < 0:
            value = builder.shl(value, constant(-shift, self.words))
        return builder.and_(value, constant(mask * 0x01010101, self.words))

    def unpack(self, group: Any, step: int, part: int, memo: dict[int, Any]) -> Any:
        """The weights of the four inputs of a step, a byte each. memo: vectors of this group that were loaded."""

        def vector(offset: int) -> Any:
            if offset + part not in memo:
                memo[offset + part] = self.load_part(group, offset, part, _INT)
            return memo[offset + part]

        if self.tile.bits == 8:
            return self.prepared(vector(64 * step))
        nibbles = self.masked_shift(vector(64 * (step % 4)), 4 * (step // 4), 0x0F)
        if self.tile.bits == 5:
            return self.builder.or_(nibbles, self.masked_shift(vector(256), step - 4, 0x10))
        if self.tile.bits == 6:
            top = self.masked_shift(vector(256 + 64 * (step // 4)), 2 * (step % 4) - 4, 0x30)
            return self.builder.or_(nibbles, top)
        return nibbles

    def prepared(self, weights: Any) -> Any:
        """Signed bytes as `vpdpbusd` wants them: 128 larger, unsigned."""
        if self.isa.name in ("avx512vnni", "avxvnni"):
            return self.builder.xor(weights, constant(0x80808080, self.words))
        return weights

    # Integer products

    @property
    def offset(self) -> int:
        """What was added to each weight as it enters the product."""
        if self.tile.bits == 8:
            return 128 if self.isa.name in ("avx512vnni", "avxvnni") else 0
        return self.tile.offset

    def order(self, steps: range) -> list[int]:
        """Steps that share a load one after the other."""
        if self.tile.bits == 8 or self.tile.halves_scaled:
            return list(steps)
        return [step for pair in range(4) for step in (pair, pair + 4)]

    def sums(self, group: Any, rows: list[Any], steps: range) -> list[Vectors]:
        """[row][part]: integer sums over `steps` of weight times activation, the weights' offset not removed."""
        if self.isa.name == "avx2":
            return self._sums_by_shorts(group, rows, steps)
        memo: dict[int, Any] = {}
        totals = [[constant(0, self.words) for _ in self.parts] for _ in rows]
        for step in self.order(steps):
            weights = [self.unpack(group, step, part, memo) for part in self.parts]
            for row, pointer in enumerate(rows):
                four = self.load(pointer, 4 * step, _INT)
                for part in self.parts:
                    totals[row][part] = self.dot(totals[row][part], weights[part], four)
            totals = self.settle(totals)
        return totals

    def dot(self, total: Any, weights: Any, four: Any) -> Any:
        builder = self.builder
        if self.isa.name != "portable":
            return self._vpdpbusd(total, weights, splat(builder, four, self.lanes))
        for byte in range(4):
            if self.tile.bits == 8:
                moved = builder.shl(weights, constant(24 - 8 * byte, self.words))
                weight = builder.ashr(moved, constant(24, self.words))
            else:
                moved = builder.lshr(weights, constant(8 * byte, self.words))
                weight = builder.and_(moved, constant(255, self.words))
            shifted = builder.shl(four, ir.Constant(_INT, 24 - 8 * byte))
            activation = splat(builder, builder.ashr(shifted, ir.Constant(_INT, 24)), self.lanes)
            total = builder.add(total, builder.mul(weight, activation))
        return total

    def _vpdpbusd(self, total: Any, weights: Any, activations: Any) -> Any:
        name = f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}"
        # The operands' type changed from words to bytes in LLVM 21.
        if llvm_version_info[0] >= 21:
            weights = self.builder.bitcast(weights, self.bytes)
            activations = self.builder.bitcast(activations, self.bytes)
        return call(self.builder, name, self.words, total, weights, activations)

    def _sums_by_shorts(self, group: Any, rows: list[Any], steps: range) -> list[Vectors]:
        """AVX2: pairs of products are summed in 16 bits as long as they cannot overflow, then in 32."""
        together = {4: 8, 5: 4, 6: 2, 8: 1}[self.tile.bits]  # 2 * 127 * largest weight * together < 2**15
        memo: dict[int, Any] = {}
        order = self.order(steps)
        totals: list[Vectors] = []
        for first in range(0, len(order), together):
            pairs: list[Vectors] = []
            for step in order[first : first + together]:
                more = self._pairs(group, rows, step, memo)
                pairs = self.settle(self._add(pairs, more))
            wide = [[self._widened(part) for part in row] for row in pairs]
            totals = self.settle(self._add(totals, wide))
        return totals

    def _add(self, sums: list[Vectors], more: list[Vectors]) -> list[Vectors]:
        if not sums:
            return more
        return [
            [self.builder.add(a, b) for a, b in zip(left, right, strict=True)]
            for left, right in zip(sums, more, strict=True)
        ]

    def _pairs(self, group: Any, rows: list[Any], step: int, memo: dict[int, Any]) -> list[Vectors]:
        """[row][part]: sums of two products each, 16 bits."""
        builder = self.builder
        signed = [builder.bitcast(self.unpack(group, step, part, memo), self.bytes) for part in self.parts]
        sizes = signed
        if self.tile.bits == 8:
            # |w| times a with w's sign; |-128| is 128 as an unsigned byte, and 2 * 128 * 127 fits.
            is_poison = ir.Constant(ir.IntType(1), 0)
            sizes = [call(builder, "llvm.abs.v32i8", self.bytes, weights, is_poison) for weights in signed]
        result = []
        for pointer in rows:
            four = builder.bitcast(self.spread(pointer, 4 * step, _INT), self.bytes)
            factors = [four for _ in self.parts]
            if self.tile.bits == 8:
                factors = [call(builder, "llvm.x86.avx2.psign.b", self.bytes, four, w) for w in signed]
            result.append(
                [
                    call(builder, "llvm.x86.avx2.pmadd.ub.sw", self.shorts, size, factor)
                    for size, factor in zip(sizes, factors, strict=True)
                ]
            )
        return result

    def chain(self, weights: Any, four: Any) -> Any:
        """AVX2: eight steps of the same weights, which LLVM must take for different ones."""
        builder = self.builder
        factor = builder.bitcast(splat(builder, four, self.lanes), self.bytes)
        pairs = None
        for _ in range(STEPS):
            ((weights,),) = self.settle([[weights]])
            own = builder.bitcast(weights, self.bytes)
            pair = call(builder, "llvm.x86.avx2.pmadd.ub.sw", self.shorts, own, factor)
            pairs = pair if pairs is None else builder.add(pairs, pair)
        return self._widened(pairs)

    def _widened(self, pairs: Any) -> Any:
        ones = constant(1, self.shorts)
        return call(self.builder, "llvm.x86.avx2.pmadd.wd", self.words, pairs, ones)

    def without_offset(self, sums: Any, row: Any, places: tuple[int, ...]) -> Any:
        """`sums` less the weights' offset times the sum of the row's activations."""
        if not self.offset:
            return sums
        builder = self.builder
        total = self.load(row, places[0], _INT)
        for place in places[1:]:
            total = builder.add(total, self.load(row, place, _INT))
        return builder.sub(sums, splat(builder, builder.mul(total, ir.Constant(_INT, self.offset)), self.lanes))

    # A group of 32 inputs

    def add_group(self, group: Any, rows: list[Any], totals: list[Vectors], block: list[Any]) -> None:
        """Adds the group's products to `totals` [row][part] in place. block: factors of eight groups, by part."""
        builder = self.builder
        sums = self.group_sums(group, rows)
        factors = [self.factors(group, part, block[part]) for part in self.parts]
        for row, pointer in enumerate(rows):
            row_scale = self.spread(pointer, OFFSET_OF_SCALE, _FLOAT)
            for part, (scale, minimum) in enumerate(factors):
                product = builder.sitofp(sums[row][part], self.floats)
                total = builder.load(totals[row][part])
                total = self.fma(product, builder.fmul(scale, row_scale), total)
                if minimum is not None:
                    total = self.fma(minimum, self.spread(pointer, OFFSET_OF_SCALED_SUM, _FLOAT), total)
                builder.store(total, totals[row][part])

    def group_sums(self, group: Any, rows: list[Any]) -> list[Vectors]:
        """[row][part]: exact sums of the group's products; in Q6_K times the integer scale of each half."""
        if not self.tile.halves_scaled:
            sums = self.sums(group, rows, range(STEPS))
            places = (OFFSET_OF_FIRST_SUM, OFFSET_OF_SECOND_SUM)
            return [
                [self.without_offset(part, pointer, places) for part in row]
                for row, pointer in zip(sums, rows, strict=True)
            ]
        totals: list[Vectors] = []
        for half, place in enumerate((OFFSET_OF_FIRST_SUM, OFFSET_OF_SECOND_SUM)):
            sums = self.sums(group, rows, range(4 * half, 4 * half + 4))
            first = self.tile.group_factors + 16 * half
            scales = [self.small_integers(group, first, part, signed=True) for part in self.parts]
            scaled = [
                [
                    self.builder.mul(self.without_offset(total, pointer, (place,)), scale)
                    for total, scale in zip(row, scales, strict=True)
                ]
                for row, pointer in zip(sums, rows, strict=True)
            ]
            totals = self._add(totals, scaled)
        return totals

    def factors(self, group: Any, part: int, block: Any) -> tuple[Any, Any]:
        """The group's scales, and its minima or None."""
        tile, builder = self.tile, self.builder
        place = tile.group_factors
        if tile.groups_per_block == 1:
            minimum = self.halves(group, place + 32, part) if tile.has_minimum else None
            return self.halves(group, place, part), minimum
        scale, minimum = block
        if tile.halves_scaled:
            return scale, None
        own = builder.uitofp(self.small_integers(group, place, part, signed=False), self.floats)
        low = builder.uitofp(self.small_integers(group, place + 16, part, signed=False), self.floats)
        return builder.fmul(scale, own), builder.fneg(builder.fmul(minimum, low))

    def block_factors(self, block: Any) -> list[Any]:
        """K formats: the fp16 factors of 256 inputs lie after their eight groups."""
        tile = self.tile
        if tile.groups_per_block == 1:
            return [None for _ in self.parts]
        place = tile.groups_per_block * tile.group_bytes
        return [
            (self.halves(block, place, part), self.halves(block, place + 32, part) if tile.has_minimum else None)
            for part in self.parts
        ]

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return call(self.builder, f"llvm.fma.v{self.lanes}f32", self.floats, a, b, c)
