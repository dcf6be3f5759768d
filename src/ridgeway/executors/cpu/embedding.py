"""Rows of the embedding as floats, out of a tensor that stays packed: a step uses a few of its rows only."""

from functools import lru_cache

from ridgeway.core.arrays import FloatArray, IntArray, ints
from ridgeway.quant.tensor import Tensor

_FEW = 16  # rows; for more of them one unpacking is quicker
_KEPT_BYTES = 4 << 20  # of floats


class Embedding:
    """Unpacks rows; those used of late are kept as floats, as texts repeat their words and NumPy takes ten calls to
    unpack one.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._row = lru_cache(_KEPT_BYTES // (4 * tensor.columns))(lambda token: tensor.take(ints(token))[0])

    def write(self, tokens: IntArray, x: FloatArray) -> None:
        """Writes the rows of `tokens` (k,) to the first columns of the first rows of `x`."""
        columns = self._tensor.columns
        if len(tokens) > _FEW:
            x[: len(tokens), :columns] = self._tensor.take(tokens)
            return
        for row, token in enumerate(tokens.tolist()):
            x[row, :columns] = self._row(token)
