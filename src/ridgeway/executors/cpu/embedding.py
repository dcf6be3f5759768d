"""Rows of the embedding as floats, out of a tensor that stays packed: a step uses a few of its rows only."""

from functools import lru_cache

import numpy as np

from ridgeway.core.arrays import FloatArray, IntArray, ints
from ridgeway.kernels.cpu.compilation import Compiler
from ridgeway.kernels.cpu.kernels import unpack_kernel
from ridgeway.quant.tensor import Tensor

_FEW = 16  # rows; for more of them one unpacking is quicker
_KEPT_BYTES = 4 << 20  # of floats


class Embedding:
    """Unpacks rows: those in Q8_0 in compiled code. In other formats NumPy takes ten calls to unpack one, so those used
    of late are kept as floats; texts repeat their words.

    place: address of the rows for kernels that unpack them themselves; 0: they cannot.
    """

    def __init__(self, tensor: Tensor, compiler: Compiler) -> None:
        self.tensor = tensor
        compiled = tensor.format.name == "Q8_0" and tensor.order is None and tensor.data.flags.c_contiguous
        self._kernel = unpack_kernel(compiler) if compiled else None
        self.place: int = tensor.data.ctypes.data if compiled else 0
        self.row_bytes: int = tensor.data.shape[1]
        if not compiled:
            self._row = lru_cache(_KEPT_BYTES // (4 * tensor.columns))(lambda token: tensor.take(ints(token))[0])

    def write(self, tokens: IntArray, x: FloatArray) -> None:
        """Writes the rows of `tokens` (k,), which there must be, to the first columns of the first rows of `x`."""
        columns, count = self.tensor.columns, len(tokens)
        if self._kernel is not None:
            ids = np.ascontiguousarray(tokens, dtype=np.int64)
            self._kernel(self.place, self.row_bytes, ids.ctypes.data, count, x.ctypes.data, x.strides[0])
        elif count > _FEW:
            x[:count, :columns] = self.tensor.take(tokens)
        else:
            for row, token in enumerate(tokens.tolist()):
                x[row, :columns] = self._row(token)
