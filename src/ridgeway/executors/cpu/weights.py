"""A model's weights as the compiled stream reads them: tiles, vectors, and the table that says where they are."""

import numpy as np

from ridgeway.core.arrays import FloatArray, IntArray
from ridgeway.core.errors import ModelError
from ridgeway.kernels.cpu.compilation import Compiler
from ridgeway.kernels.cpu.isa import InstructionSet
from ridgeway.kernels.cpu.layout import LAYER_LONGS, MATRIX_LONGS, L, M
from ridgeway.kernels.cpu.matmul import matmul_kernel
from ridgeway.kernels.cpu.residence import Room, aligned
from ridgeway.kernels.cpu.tiles import GROUP, OUTPUTS, TILE_FORMATS, TiledMatrix, tile_matrix
from ridgeway.models.model import Model
from ridgeway.quant.quantize import quantized

_VECTORS = (
    "attn_norm",
    "mlp_norm",
    "q_norm",
    "k_norm",
    "q_bias",
    "k_bias",
    "v_bias",
    "o_bias",
    "gate_bias",
    "up_bias",
    "down_bias",
)
_MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


def padded(count: int, multiple: int = OUTPUTS) -> int:
    """`count` rounded up to a multiple."""
    return -(-count // multiple) * multiple


class HeldWeights:
    """layers: (layers, LAYER_LONGS) tables, of which windows and addresses of weights are filled in.

    head: (MATRIX_LONGS,). final_norm: address. nbytes: of each tensor as it is held, by canonical name.
    """

    def __init__(self, model: Model, compiler: Compiler, isa: InstructionSet, quant: str | None) -> None:
        self._model, self._compiler, self._isa, self._quant = model, compiler, isa, quant
        self._owned: list[TiledMatrix | FloatArray] = []
        self._room = Room()
        self.nbytes: dict[str, int] = {}
        config = model.config
        self.layers: IntArray = np.zeros((config.layers, LAYER_LONGS), dtype=np.int64)
        for index in range(config.layers):
            self._load_layer(index)
        self.final_norm = self._vector("final_norm")
        name = "embed" if config.tied_head else "head"
        self.head: IntArray = self._matrix(name)
        self.nbytes.setdefault("embed", model.tensors["embed"].nbytes)

    def quantized(self) -> bool:
        """Whether most weights are multiplied as integers."""
        return self._quant is not None or TILE_FORMATS[self._model.precision].quantized

    def part(self, start: int, stop: int) -> list[tuple[int, int]]:
        """(address, bytes) of bytes `start` to `stop` - 1 of what a stream reads, matrix by matrix."""
        found: list[tuple[int, int]] = []
        for table in self.layers:
            for name in _MATRICES:
                place = getattr(L, name)
                nbytes = int(table[place + M.tile_count] * table[place + M.tile_bytes])
                first, last = max(0, start), min(stop, nbytes)
                if first < last:
                    found.append((int(table[place + M.tiles]) + first, last - first))
                start, stop = start - nbytes, stop - nbytes
        return found

    def _load_layer(self, index: int) -> None:
        table = self.layers[index]
        window = self._model.config.windows[index]
        table[L.window] = window or 0
        for name in _VECTORS:
            full = f"layers.{index}.{name}"
            if full in self._model.tensors:
                table[getattr(L, name)] = self._vector(full)
        for name in _MATRICES:
            place = getattr(L, name)
            table[place : place + MATRIX_LONGS] = self._matrix(f"layers.{index}.{name}")

    def _vector(self, name: str) -> int:
        """Address of a vector as floats, followed by zeros up to whatever rows and heads are padded to."""
        values = self._model.tensors[name].dequantize()
        held = aligned(4 * padded(len(values), GROUP)).view(np.float32)
        held[: len(values)] = values
        self._owned.append(held)
        self.nbytes[name] = 4 * len(values)
        return held.ctypes.data

    def _matrix(self, name: str) -> IntArray:
        tensor = self._model.tensors[name]
        if tensor.format.name not in TILE_FORMATS:
            known = ", ".join(TILE_FORMATS)
            raise ModelError(
                self._model.source or self._model.name,
                f"tensor {name} is {tensor.format.name}; the cpu executor multiplies {known}: "
                "use the reference executor",
            )
        if self._quant is not None and not TILE_FORMATS[tensor.format.name].quantized:
            tensor = quantized(tensor, self._quant)
        matrix = tile_matrix(tensor, self._room)
        self._owned.append(matrix)
        self.nbytes[name] = matrix.data.nbytes
        return matrix_table(matrix, self._compiler, self._isa)


def matrix_table(matrix: TiledMatrix, compiler: Compiler, isa: InstructionSet, again: bool = False) -> IntArray:
    """(MATRIX_LONGS,) what a compiled stream has to know of a matrix. again: see `matmul_kernel`."""
    table: IntArray = np.zeros(MATRIX_LONGS, dtype=np.int64)
    table[M.kernel] = matmul_kernel(compiler, isa, matrix.tile, again).address
    table[M.tiles] = matrix.data.ctypes.data
    table[M.tile_count], table[M.tile_bytes] = matrix.data.shape
    table[M.blocks] = matrix.blocks
    table[M.quantized] = matrix.tile.quantized
    return table
