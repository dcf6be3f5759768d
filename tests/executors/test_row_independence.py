"""A row's result does not depend on its company: not one bit differs alone, in batches, chunked, or behind a cache."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ridgeway.core.arrays import ints
from ridgeway.core.query import Batch, Entry, Query, Readout
from ridgeway.core.visibility import CAUSAL, Tree
from ridgeway.engine.sampling import plain_selection
from ridgeway.executors.reference import ReferenceExecutor
from ridgeway.testing import toy_config, toy_model

GENERATOR = np.random.default_rng(5)
TOKENS = [int(token) for token in GENERATOR.integers(0, 61, 150)]
CONFIGS = {
    "grouped heads": toy_config(hidden=96, head_dim=16, heads=6, kv_heads=3, intermediate=136, tied_head=False),
    "sliding window": toy_config(windows=(20, None)),
    "biases and norms": toy_config(qkv_bias=True, qk_norm=True),
}


@pytest.fixture(params=CONFIGS, scope="module")
def executor(request):
    runner = ReferenceExecutor(toy_model(CONFIGS[request.param]))
    runner.allocate(2000)
    return runner


def entry(tokens, cached, base, visibility=CAUSAL, positions=None):
    """Rows for `tokens` after `cached` slots, at physical slots from `base` on; all rows are read."""
    rows = np.arange(len(tokens))
    positions = cached + rows if positions is None else ints(positions)
    read = Readout.of(rows, positions + 1, sampled=False, measures={"logits"})
    query = Query(ints(tokens), positions, visibility, read)
    return Entry(query, cached, base + np.arange(cached + len(tokens)))


def run(executor, *entries):
    batch = Batch(entries, plain_selection(sum(len(one.query) for one in entries)))
    return [one.logits for one in executor.forward(batch).answers]


def test_chunks_of_any_size_give_the_same_bits(executor):
    (whole,) = run(executor, entry(TOKENS, 0, 0))
    for size in (1, 7, 64, 149):
        parts = [
            run(executor, entry(TOKENS[start : start + size], start, 300))[0] for start in range(0, len(TOKENS), size)
        ]
        assert_array_equal(np.concatenate(parts), whole)


def test_neighbours_change_no_bit(executor):
    (alone,) = run(executor, entry(TOKENS[:50], 0, 0))
    others = [entry(TOKENS[n : 2 * n], 0, 400 + 100 * n) for n in (1, 5, 13)]
    together = run(executor, others[0], entry(TOKENS[:50], 0, 200), *others[1:])
    assert_array_equal(together[1], alone)


def test_a_path_of_a_tree_gives_the_bits_of_a_chain(executor):
    prefix = TOKENS[:70]
    run(executor, entry(prefix, 0, 0))
    (chain,) = run(executor, entry([10, 20, 30], 70, 0))
    parent = ints([-1, 0, 0, 1, 2])  # 10 -> (11, 20); 11 -> 12; 20 -> 30
    tree = entry([10, 11, 20, 12, 30], 70, 0, Tree.of_parents(parent), [70, 71, 71, 72, 72])
    (branches,) = run(executor, tree)
    assert_array_equal(branches[[0, 2, 4]], chain)


def test_moved_slots_serve_like_the_originals(executor):
    run(executor, entry(TOKENS[:40], 0, 0))
    (expected,) = run(executor, entry([9], 40, 0))
    executor.move(np.arange(40), 1000 + np.arange(40))
    (moved,) = run(executor, entry([9], 40, 1000))
    assert_array_equal(moved, expected)


def test_skipped_sublayers_are_skipped():
    runner = ReferenceExecutor(toy_model())
    runner.allocate(100)
    one = entry(TOKENS[:8], 0, 0)
    nothing = Batch((one,), plain_selection(8), sublayers=np.zeros((2, 2), dtype=np.bool_))
    everything = Batch((one,), plain_selection(8), sublayers=np.ones((2, 2), dtype=np.bool_))
    bare = runner.forward(nothing).answers[0].logits
    (full,) = run(runner, one)
    assert_array_equal(runner.forward(everything).answers[0].logits, full)
    # Without sublayers only embedding, final norm and head are left: equal tokens give equal logits.
    assert_array_equal(bare[TOKENS[:8].index(TOKENS[0])], bare[0])
    assert not np.array_equal(bare, full)
