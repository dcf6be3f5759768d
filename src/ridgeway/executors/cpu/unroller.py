"""A draft head in compiled kernels: tables for one call that drafts several tokens for several sequences."""

import numpy as np

from ridgeway.core.arrays import AnyArray, FloatArray, IntArray
from ridgeway.core.drafting import GUESSES, Guessed, Unrolling
from ridgeway.executors.cpu.ahead import NOTHING_AHEAD, AheadTable
from ridgeway.executors.cpu.embedding import Embedding
from ridgeway.executors.cpu.sight import Sight
from ridgeway.executors.cpu.weights import matrix_table
from ridgeway.kernels.cpu.compilation import Compiler
from ridgeway.kernels.cpu.isa import InstructionSet
from ridgeway.kernels.cpu.kernels import unroll_kernel
from ridgeway.kernels.cpu.layout import HEAD_UNIT, UF, UNIT_FLOATS, UNROLL_LONGS, UNROLL_ROW_LONGS, UR
from ridgeway.kernels.cpu.residence import Room, aligned, forget
from ridgeway.kernels.cpu.team import AHEAD, Team
from ridgeway.kernels.cpu.tiles import GROUP, GROUP_BYTES, OUTPUTS, tile_matrix
from ridgeway.models.draft_head import HELD, DraftHead
from ridgeway.quant.quantize import quantized
from ridgeway.quant.tensor import Tensor

_MOST_ROWS = 64


class CpuUnroller:
    """Matrices are kept in `models.draft_head.HELD`: their bytes are what a step costs. The rows that it feeds on, one
    a step, are kept as fp16 beside them. embedding: rows of the model's head. ahead: what helpers read after a call for
    a single sequence.

    See `core.drafting.Unroller` for the contract.
    """

    def __init__(
        self,
        head: DraftHead,
        embedding: Embedding,
        compiler: Compiler,
        isa: InstructionSet,
        team: Team,
        sight: Sight,
        ahead: AheadTable,
    ) -> None:
        self._head, self._team, self._ahead = head, team, ahead
        self._sight = None if head.query is None else sight
        self.seen_bytes = 0 if head.query is None else sight.token_bytes
        self._compiler = compiler  # owns the products' machine code
        self._kernel = unroll_kernel(compiler)
        self._table: IntArray = np.zeros(UNROLL_LONGS, dtype=np.int64)
        self._kept: list[AnyArray] = []
        self.matrices: list[AnyArray] = []  # as they are held
        self.held_bytes, room = 0, Room()
        self.operations = 2 * head.elements
        matrices = (*head.stored, head.head)
        fed = matrices[-1].dequantize().astype(np.float16)
        self._table[UF.fed] = fed.ctypes.data
        self._kept.append(fed)
        places = (UF.query, UF.gate, UF.up, UF.down, UF.head)[-len(matrices) :]
        for place, tensor in zip(places, matrices, strict=True):
            matrix = tile_matrix(_held(tensor), room)
            forget(tensor.data)
            table = matrix_table(matrix, compiler, isa, again=True)
            self._kept += [matrix.data, table]
            self.matrices.append(matrix.data)
            self._table[place] = table.ctypes.data
            self.held_bytes += matrix.data.nbytes
        self._embedding = embedding
        vectors = np.ascontiguousarray(head.norm, dtype=np.float32), np.array([head.eps], dtype=np.float32)
        self._kept += vectors
        self._table[UF.embedding], self._table[UF.embedding_bytes] = embedding.place, embedding.row_bytes
        self._table[UF.norm], self._table[UF.eps] = (vector.ctypes.data for vector in vectors)
        self._rows: IntArray = np.zeros((_MOST_ROWS, UNROLL_ROW_LONGS), dtype=np.int64)
        self._numbers = np.zeros((_MOST_ROWS, 2))
        self._depth = 0
        table = self._table
        self._place: int = table.ctypes.data
        table[UF.row_table], table[UF.numbers] = self._rows.ctypes.data, self._numbers.ctypes.data
        table[UF.threads], table[UF.hidden] = team.threads, head.hidden
        table[UF.vocabulary], table[UF.ids] = len(head.tokens), head.tokens.ctypes.data
        tiles = -(-len(head.tokens) // OUTPUTS)
        width = 2 * head.hidden + head.width
        strides = {
            "z": width,
            "product": max(2 * head.inner, head.hidden, head.width),
            "gated": head.inner,
            "logits": tiles * OUTPUTS,
        }
        for name, floats in strides.items():
            self._buffer(name, 4 * floats)
            table[getattr(UF, f"{name}_stride")] = floats
        for name, floats in (("z_packed", width), ("gated_packed", head.inner)):
            size = -(-floats // GROUP * GROUP_BYTES // 64) * 64
            self._buffer(name, size)
            table[getattr(UF, f"{name}_bytes")] = size
        self._buffer("units", -(-tiles // HEAD_UNIT) * UNIT_FLOATS * 4)
        if self._sight is not None:
            before = 2 * head.hidden
            mixed = int(table[UF.z]) + before * 4, width
            packed = int(table[UF.z_packed]) + before // GROUP * GROUP_BYTES, int(table[UF.z_packed_bytes])
            self._sight.begin(_MOST_ROWS, mixed, packed)
            table[UF.step], table[UF.layer] = sight.step.ctypes.data, sight.layer.ctypes.data

    def unroll(self, asked: Unrolling) -> Guessed:
        parts = [
            self._unroll(asked.part(first, first + _MOST_ROWS)) for first in range(0, len(asked.tokens), _MOST_ROWS)
        ]
        if len(parts) == 1:
            return parts[0]
        tokens, chances = (np.concatenate([getattr(part, name) for part in parts]) for name in ("tokens", "chances"))
        return Guessed(tokens, chances, sum(part.steps for part in parts))

    def _unroll(self, asked: Unrolling) -> Guessed:
        count, depth, table = len(asked.tokens), asked.depth, self._table
        z, hidden = self._z[:count], self._head.hidden
        z[:, :hidden] = asked.hidden
        if not self._embedding.place:
            self._embedding.write(asked.tokens, z[:, hidden : 2 * hidden])
        rows, numbers = self._rows, self._numbers
        rows[:count, UR.seed], rows[:count, UR.sample] = asked.seed.view(np.int64), asked.sample
        rows[:count, UR.position], rows[:count, UR.token] = asked.positions, asked.tokens
        numbers[:count, 0], numbers[:count, 1] = asked.temperature, asked.least
        self._fit(depth)
        size = count * depth * GUESSES
        tokens, chances = self._tokens[:size], self._chances[:size]
        tokens.fill(0)
        chances.fill(0)
        table[UF.first_phase] = self._team.phase
        table[UF.rows], table[UF.depth] = count, depth
        if self._sight is not None:
            self._sight.prepare(asked)
        control, place = self._team.address, self._place
        self._team.control[AHEAD] = self._ahead.address if count == 1 else NOTHING_AHEAD.address
        self._team.run(lambda member, number: self._kernel(control, place, member, number))
        shape = count, depth, GUESSES
        found = chances.reshape(shape).copy()
        steps = max(sum(chance > 0 for chance in row) for row in found[:, :, 0].tolist())
        return Guessed(tokens.reshape(shape).copy(), found, steps)

    def _fit(self, depth: int) -> None:
        """Room for the results of so many steps. Their tables are kept, as are their addresses in the call's."""
        if depth <= self._depth:
            return
        self._depth, size = depth, _MOST_ROWS * depth * GUESSES
        self._tokens: IntArray = np.zeros(size, dtype=np.int64)
        self._chances, self._survival = np.zeros(size), np.zeros(size)
        table = self._table
        table[UF.tokens], table[UF.chances] = self._tokens.ctypes.data, self._chances.ctypes.data
        table[UF.survival] = self._survival.ctypes.data

    def _buffer(self, name: str, row_bytes: int) -> None:
        kept = aligned(_MOST_ROWS, row_bytes)
        self._kept.append(kept)
        self._table[getattr(UF, name)] = kept.ctypes.data
        if name == "z":
            self._z: FloatArray = kept.view(np.float32)


def _held(tensor: Tensor) -> Tensor:
    if tensor.format.name == HELD:
        return tensor
    return quantized(tensor if tensor.format.block == 1 else Tensor.of(tensor.name, tensor.dequantize()), HELD)
