"""A row's bits depend on its own tokens alone: not on its company, on chunks, on threads, on where its K/V lie."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ridgeway.core.arrays import ints
from ridgeway.core.query import Batch, Entry, Query, Readout
from ridgeway.core.visibility import BIDIRECTIONAL, CAUSAL, Block, Tree
from ridgeway.engine.sampling import plain_selection
from ridgeway.executors.cpu import CpuExecutor
from ridgeway.executors.reference import ReferenceExecutor
from ridgeway.kernels.cpu.layout import S
from ridgeway.testing import bf16, toy_config, toy_model

GENERATOR = np.random.default_rng(5)
TOKENS = [int(token) for token in GENERATOR.integers(0, 61, 700)]
CONFIGS = {
    "grouped heads": toy_config(hidden=96, head_dim=16, heads=6, kv_heads=3, intermediate=136, tied_head=False),
    "sliding window": toy_config(windows=(20, None)),
    "biases and norms": toy_config(qkv_bias=True, qk_norm=True, output_bias=True, mlp_bias=True),
    "odd sizes": toy_config(hidden=40, head_dim=24, heads=3, kv_heads=1, intermediate=72),
    "large heads": toy_config(hidden=64, head_dim=80, heads=2, kv_heads=2, intermediate=64),
}
SLOTS = 4000


def make(config, **options):
    executor = CpuExecutor(toy_model(config), **options)
    executor.allocate(SLOTS)
    return executor


@pytest.fixture(params=CONFIGS, scope="module")
def config(request):
    return CONFIGS[request.param]


@pytest.fixture(params=["bf16", "int8"], scope="module")
def executor(request, config):
    return make(config, kv=request.param)


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


@pytest.mark.parametrize("visibility", [CAUSAL, BIDIRECTIONAL, Block(8)], ids=lambda v: v.key)
def test_logits_are_those_of_the_reference_executor(config, visibility):
    reference = ReferenceExecutor(toy_model(config), rounded=bf16)
    reference.allocate(SLOTS)
    cpu = make(config)
    for cached, count in ((0, 40), (40, 3), (43, 1), (44, 100)):
        rows = entry(TOKENS[cached : cached + count], cached, 0, visibility)
        (expected,), (found,) = run(reference, rows), run(cpu, rows)
        assert np.abs(found - expected).max() < 5e-3  # a sum in another order may be rounded the other way
        assert np.abs(found - expected).mean() < 8e-4


def test_chunks_of_any_size_give_the_same_bits(executor):
    (whole,) = run(executor, entry(TOKENS, 0, 0))
    for size in (1, 7, 64, 513):
        starts = range(0, len(TOKENS), size)
        parts = [run(executor, entry(TOKENS[start : start + size], start, 800))[0] for start in starts]
        assert_array_equal(np.concatenate(parts), whole)


def test_neighbours_change_no_bit(executor):
    (alone,) = run(executor, entry(TOKENS[:50], 0, 0))
    others = [entry(TOKENS[n : 2 * n], 0, 400 + 100 * n) for n in range(1, 14)]
    together = run(executor, others[0], entry(TOKENS[:50], 0, 200), *others[1:])
    assert_array_equal(together[1], alone)


def test_a_path_of_a_tree_gives_the_bits_of_a_chain(executor):
    prefix = TOKENS[:610]
    run(executor, entry(prefix, 0, 0))
    (chain,) = run(executor, entry([10, 20, 30], 610, 0))
    parent = ints([-1, 0, 0, 1, 2])  # 10 -> (11, 20); 11 -> 12; 20 -> 30
    tree = entry([10, 11, 20, 12, 30], 610, 0, Tree.of_parents(parent), [610, 611, 611, 612, 612])
    (branches,) = run(executor, tree)
    assert_array_equal(branches[[0, 2, 4]], chain)


def test_long_contexts_shared_among_threads_give_the_bits_of_one_thread(config):
    alone, together = make(config, threads=1), make(config, threads=4)
    for cached, count in ((0, 600), (600, 1), (601, 5)):
        rows = entry(TOKENS[cached : cached + count], cached, 0)
        assert_array_equal(run(alone, rows)[0], run(together, rows)[0])


@pytest.mark.parametrize("kv", ["bf16", "int8"])
def test_few_rows_shared_among_threads_give_the_bits_of_one_thread(config, kv):
    parent = ints([-1, 0, 0, 1, 2, 2, 5])
    depths = ints([0, 1, 1, 2, 2, 2, 3])
    asked = [entry(TOKENS[200 : 200 + rows], 200, 0) for rows in (2, 3, 7)]
    asked.append(entry(TOKENS[300:307], 200, 0, Tree.of_parents(parent), 200 + depths))
    found = []
    for threads in (1, 2, 3, 5, 16):
        executor = make(config, threads=threads, kv=kv)
        run(executor, entry(TOKENS[:200], 0, 0))
        found.append([run(executor, one)[0] for one in asked])
    for other in found[1:]:
        for one, expected in zip(other, found[0], strict=True):
            assert_array_equal(one, expected)


@pytest.mark.parametrize("others", [[39], [30, 39], [39, 39], []], ids=str)
@pytest.mark.parametrize("rows", [[39], [0], [3, 17, 18, 39], [39, 2], [5, 5, 20], list(range(1, 40)), []], ids=str)
def test_rows_that_nobody_reads_change_no_bit(executor, rows, others):
    """The last layer leaves them out; their K/V are there all the same."""
    everyone = entry(TOKENS[:40], 0, 0)
    everyone = with_reads(everyone, list(range(40)))
    whole = executor.forward(Batch((everyone,), plain_selection(40))).answers[0]
    layers = range(executor.config.layers)
    before = [executor.kv(layer, np.arange(40)) for layer in layers]
    for slots in (np.arange(40), 100 + np.arange(40)):
        executor.move(900 + np.arange(40), slots)  # something else
    batch = Batch(
        (with_reads(entry(TOKENS[:40], 0, 0), rows), with_reads(entry(TOKENS[:40], 0, 100), others)),
        plain_selection(len(rows) + len(others)),
    )
    part, other = executor.forward(batch).answers
    reads = [*rows, *(40 + row for row in others)]
    assert executor._buffers.step[S.trims] == (reads == sorted(set(reads)))
    for answer, read in ((part, rows), (other, others)):
        assert_array_equal(answer.logits, whole.logits[read])
        assert_array_equal(answer.hidden, whole.hidden[read])
    for layer, kept in zip(layers, before, strict=True):
        for slots in (np.arange(40), 100 + np.arange(40)):
            for found, expected in zip(executor.kv(layer, slots), kept, strict=True):
                assert_array_equal(found, expected)


@pytest.mark.parametrize("skipped", [None, 0, 1], ids=["whole", "no attention", "no MLP"])
def test_rows_that_nobody_reads_change_no_bit_beside_others(executor, skipped):
    """A row behind a long context, a chunk of a prompt behind a cached prefix, branches; the last layer in part."""
    sublayers = np.ones((executor.config.layers, 2), dtype=np.bool_)
    if skipped is not None:
        sublayers[-1, skipped] = False
    run(executor, entry(TOKENS[:600], 0, 0))
    run(executor, entry(TOKENS[:70], 0, 700))
    tree = entry([10, 11, 20, 12, 30], 70, 900, Tree.of_parents(ints([-1, 0, 0, 1, 2])), [70, 71, 71, 72, 72])
    executor.move(700 + np.arange(70), 900 + np.arange(70))
    mixed = [entry([9], 600, 0), entry(TOKENS[70:110], 70, 700), tree]
    for entries in (mixed, mixed[1:2], [entry(TOKENS[600:605], 600, 0)]):
        answers = []
        for read in (lambda one: list(range(len(one.query))), lambda one: [len(one.query) - 1]):
            chosen = tuple(with_reads(one, read(one)) for one in entries)
            batch = Batch(chosen, plain_selection(sum(len(one.query.read) for one in chosen)), sublayers)
            answers.append(executor.forward(batch).answers)
        assert executor._buffers.step[S.trims]
        for every, last in zip(*answers, strict=True):
            assert_array_equal(every.logits[-1:], last.logits)
            assert_array_equal(every.hidden[-1:], last.hidden)


def test_a_row_may_be_read_more_often_than_there_are_rows(config):
    executor = make(config)
    answer = executor.forward(Batch((with_reads(entry([7], 0, 0), [0] * 40),), plain_selection(40))).answers[0]
    assert len(executor._buffers.x) >= 40  # what is normed for the head has as many rows
    assert_array_equal(answer.logits, np.repeat(answer.logits[:1], 40, axis=0))


def with_reads(one, rows):
    rows = ints(rows)
    read = Readout.of(rows, one.query.positions[rows] + 1, sampled=False, measures={"logits", "hidden"})
    return Entry(Query(one.query.tokens, one.query.positions, one.query.visibility, read), one.cached, one.slots)


def test_slots_in_any_order_give_the_same_bits(executor):
    (expected,) = run(executor, entry(TOKENS[:90], 0, 0))
    one = entry(TOKENS[:90], 0, 0)
    scattered = Entry(one.query, 0, 1000 + GENERATOR.permutation(90))
    assert_array_equal(run(executor, scattered)[0], expected)


def test_moved_slots_serve_like_the_originals(executor):
    run(executor, entry(TOKENS[:40], 0, 0))
    (expected,) = run(executor, entry([9], 40, 0))
    executor.move(np.arange(40), 1000 + np.arange(40))
    (moved,) = run(executor, entry([9], 40, 1000))
    assert_array_equal(moved, expected)


def test_int8_keys_and_values_stay_near_bf16(config):
    fine, coarse = make(config), make(config, kv="int8")
    (expected,), (found,) = run(fine, entry(TOKENS[:80], 0, 0)), run(coarse, entry(TOKENS[:80], 0, 0))
    assert 0 < np.abs(found - expected).max() < 0.2


def test_skipped_sublayers_are_skipped():
    cpu, reference = make(toy_config()), ReferenceExecutor(toy_model(toy_config()), rounded=bf16)
    reference.allocate(100)
    one = entry(TOKENS[:8], 0, 0)
    for runs in ([[0, 0], [0, 0]], [[1, 0], [0, 1]], [[0, 1], [1, 1]]):
        batch = Batch((one,), plain_selection(8), sublayers=np.array(runs, dtype=np.bool_))
        expected, found = (executor.forward(batch).answers[0].logits for executor in (reference, cpu))
        assert np.abs(found - expected).max() < 5e-3
    everything = Batch((one,), plain_selection(8), sublayers=np.ones((2, 2), dtype=np.bool_))
    assert_array_equal(cpu.forward(everything).answers[0].logits, run(cpu, one)[0])
