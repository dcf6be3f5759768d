import numpy as np
import pytest

from ridgeway.core.arrays import joined, span


@pytest.mark.parametrize(
    "bounds", [(0, 0), (-1, 0), (-1, 5), (3, 4), (0, 40_000), (32_766, 32_767), (40_000, 40_003), (-3, 2)]
)
def test_a_span_is_a_range(bounds):
    numbers = span(*bounds)
    assert numbers.dtype == np.int64
    np.testing.assert_array_equal(numbers, np.arange(*bounds))


def test_a_span_that_is_shared_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        span(2, 5)[0] = 7


def test_one_array_alone_is_not_copied():
    one, other = np.array([1, 2]), np.array([3])
    assert joined([one]) is one
    assert joined([one, other]).tolist() == [1, 2, 3]
