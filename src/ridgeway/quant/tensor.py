"""A weight tensor as its file packs it: bytes, a format and a shape."""

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ridgeway.core.arrays import FloatArray, IntArray
from ridgeway.quant.formats import F32, Bytes, Format


@dataclass(frozen=True)
class Tensor:
    """data: (rows, bytes per row) packed bytes, often a view into a memory-mapped file; never written to.

    shape: (n,) or (outputs, inputs); a vector is one row. order: which row of `data` each row is; None: they lie in
    order.
    """

    name: str
    format: Format
    shape: tuple[int, ...]
    data: Bytes
    order: IntArray | None = None

    def __post_init__(self) -> None:
        expected = (self.rows, self.format.nbytes(self.columns))
        assert self.data.shape == expected, (self.name, self.data.shape, expected)

    @property
    def rows(self) -> int:
        return 1 if len(self.shape) == 1 else self.shape[0]

    @property
    def columns(self) -> int:
        return self.shape[-1]

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    def dequantize(self) -> FloatArray:
        """All weights as float32, in `shape`."""
        return self._unpack(self.packed(0, self.rows)).reshape(self.shape)

    def take(self, rows: IntArray) -> FloatArray:
        """Rows `rows` (k,) as float32 (k, columns)."""
        return self._unpack(self.data[rows if self.order is None else self.order[rows]])

    def packed(self, start: int, stop: int) -> Bytes:
        """Rows `start` to `stop` - 1 as bytes; a view of `data` where they lie in order."""
        return self.data[start:stop] if self.order is None else self.data[self.order[start:stop]]

    def reordered(self, rows: IntArray) -> "Tensor":
        """The tensor with its rows (outputs) in another order; the bytes of a matrix stay where they are."""
        if len(self.shape) == 1:
            values = self.dequantize()[rows]
            return Tensor.of(self.name, values)
        return replace(self, order=rows if self.order is None else self.order[rows])

    def _unpack(self, packed: Bytes) -> FloatArray:
        blocks = np.ascontiguousarray(packed).reshape(-1, self.format.block_bytes)
        return self.format.unpack(blocks).reshape(packed.shape[0], -1)

    @classmethod
    def of(cls, name: str, values: FloatArray) -> "Tensor":
        """A float32 tensor."""
        rows = 1 if values.ndim == 1 else values.shape[0]
        data = np.ascontiguousarray(values, dtype=np.float32).reshape(rows, -1).view(np.uint8)
        return cls(name, F32, tuple(values.shape), data)
