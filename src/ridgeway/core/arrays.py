"""Names for the array types that cross module borders. Shapes are given where an array is declared."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
AnyArray = NDArray[Any]


def ints(values: Any) -> IntArray:
    """`values` as a one-dimensional int64 array."""
    array = np.asarray(values, dtype=np.int64)
    return array if array.ndim == 1 else array.reshape(-1)


def span(start: int, stop: int) -> IntArray:
    """`start` to `stop` - 1, not to be written to: nearly always a view of one array, which is the quickest to make."""
    if start >= -1 and stop < len(_NUMBERS):
        return _NUMBERS[start + 1 : stop + 1]
    return np.arange(start, stop, dtype=np.int64)


def joined(parts: list[Any]) -> AnyArray:
    """Arrays behind each other; one alone is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


_NUMBERS: IntArray = np.arange(-1, 1 << 15, dtype=np.int64)
NO_INTS: IntArray = ints([])
for _shared in (_NUMBERS, NO_INTS):
    _shared.setflags(write=False)
