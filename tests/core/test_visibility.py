import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ridgeway.core.errors import RequestError
from ridgeway.core.visibility import Block, Tree, parse_visibility


def test_blocks_are_aligned_to_absolute_positions():
    seen = Block(4).matrix(np.array([2, 3, 4, 5]))
    assert_array_equal(seen, [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]])


def test_a_row_of_a_tree_sees_its_ancestors_and_itself():
    seen = Tree.of_parents(np.array([-1, 0, 0, 2])).sees
    assert_array_equal(seen, [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]])


@pytest.mark.parametrize("text", ["", "casual", "block", "block()", "block(0)", "block(x)"])
def test_an_unknown_rule_is_refused(text):
    with pytest.raises(RequestError, match="expected causal"):
        parse_visibility(text)
