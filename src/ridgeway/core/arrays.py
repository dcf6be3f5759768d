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


NO_INTS: IntArray = ints([])
NO_INTS.setflags(write=False)
