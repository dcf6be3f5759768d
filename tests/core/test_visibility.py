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


def test_trees_of_any_size_are_their_parents_closure():
    generator = np.random.default_rng(1)
    for rows in (1, 7, 8, 9, 16, 17, 40):
        parent = np.array([generator.integers(-1, row) for row in range(rows)])
        seen = Tree.of_parents(parent).sees
        for row in range(rows):
            path, above = set(), row
            while above >= 0:
                path.add(above)
                above = parent[above]
            assert set(np.flatnonzero(seen[row])) == path


@pytest.mark.parametrize("text", ["", "casual", "block", "block()", "block(0)", "block(x)"])
def test_an_unknown_rule_is_refused(text):
    with pytest.raises(RequestError, match="expected causal"):
        parse_visibility(text)
