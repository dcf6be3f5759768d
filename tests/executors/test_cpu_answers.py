"""Tokens and measures are those that the oracle finds in the same logits."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ridgeway.core.arrays import ints
from ridgeway.core.query import Adjustment, Batch, Entry, Query, Readout, Selection
from ridgeway.executors.cpu import CpuExecutor
from ridgeway.kernels.reference.selection import answer
from ridgeway.testing import toy_config, toy_model

VOCABULARY = 3000  # not a multiple of 16, 64 or 512
READS = 6
EVERYTHING = {"logprob", "confidence", "margin", "entropy", "logits"}
SETTINGS = {
    "greedy": {"temperature": 0.0},
    "whole distribution": {"temperature": 1.0},
    "cold": {"temperature": 0.2},
    "top k": {"temperature": 0.8, "top_k": 20},
    "nucleus": {"temperature": 0.9, "top_p": 0.7},
    "wide nucleus": {"temperature": 2.0, "top_p": 0.97},
    "min p": {"temperature": 1.1, "min_p": 0.05},
    "all at once": {"temperature": 0.7, "top_k": 50, "top_p": 0.9, "min_p": 0.01},
}


@pytest.fixture(scope="module")
def executor():
    runner = CpuExecutor(toy_model(toy_config(vocab_size=VOCABULARY)), 2)
    runner.allocate(200)
    return runner


def batch_of(read, adjustments=None, *, temperature, top_k=0, top_p=1.0, min_p=0.0):
    """Two queries of which the first reads `READS` rows and the second one."""
    generator = np.random.default_rng(3)
    rows = np.arange(READS)
    first = Query(generator.integers(0, VOCABULARY, READS), rows, read=read)
    second = Query(ints([7]), ints([0]), read=Readout.of([0], [1]))
    reads = READS + 1
    selection = Selection(
        sampled=np.append(read.sampled, True),
        temperature=np.full(reads, temperature),
        top_k=np.full(reads, top_k),
        top_p=np.full(reads, top_p),
        min_p=np.full(reads, min_p),
        seed=np.arange(reads).astype(np.uint64) + np.uint64(2**63),
        sample=np.arange(reads) % 2,
        position=np.arange(reads) + 11,
        adjustments=adjustments or {},
    )
    entries = (Entry(first, 0, rows), Entry(second, 0, ints([READS])))
    return Batch(entries, selection)


def check(executor, batch):
    """Compares an answer with the oracle's on the same logits."""
    first, second = executor.forward(batch).answers
    logits = executor.forward(_with_logits(batch)).answers
    expected, expected_second = answer(np.concatenate([one.logits for one in logits]), batch)
    assert_array_equal(first.tokens, expected.tokens)
    assert_array_equal(second.tokens, expected_second.tokens)
    for name, value in expected._asdict().items():
        found = getattr(first, name)
        assert (found is None) == (value is None), name
        if value is not None and value.dtype != np.int64:
            np.testing.assert_allclose(found, value, atol=2e-5, err_msg=name)
        elif value is not None:
            assert_array_equal(found, value, err_msg=name)


def _with_logits(batch):
    entries = []
    for entry in batch.entries:
        read = entry.query.read
        wanted = Readout.of(read.rows, read.predicts, sampled=False, measures={"logits"})
        entries.append(Entry(entry.query.reading(wanted), entry.cached, entry.slots))
    return Batch(tuple(entries), batch.selection)


@pytest.mark.parametrize("name", SETTINGS)
def test_tokens_are_the_oracles(executor, name):
    read = Readout.of(np.arange(READS), np.arange(READS) + 1)
    check(executor, batch_of(read, **SETTINGS[name]))


@pytest.mark.parametrize("name", ["greedy", "nucleus"])
def test_measures_are_the_oracles(executor, name):
    given = ints([5, -1, 7, 2999, -1, 0])
    read = Readout.of(np.arange(READS), np.arange(READS) + 1, given=given, top=9, measures=EVERYTHING)
    check(executor, batch_of(read, **SETTINGS[name]))


def test_penalties_biases_and_forbidden_ids_change_the_choice_and_no_measure(executor):
    plain = Readout.of(np.arange(READS), np.arange(READS) + 1, measures=EVERYTHING)
    tokens = executor.forward(batch_of(plain, temperature=0.0)).answers[0].tokens
    read = Readout.of(plain.rows, plain.predicts, measures=EVERYTHING, forbid=(int(tokens[1]),))
    change = Adjustment(ints(sorted({3, int(tokens[0])})), np.array([1.5, 1.5]), np.array([0.5, -np.inf]))
    for name in SETTINGS:
        check(executor, batch_of(read, {0: change, READS: change}, **SETTINGS[name]))


def test_the_token_of_a_row_does_not_depend_on_which_rows_are_drawn_with_it(executor):
    read = Readout.of(np.arange(READS), np.arange(READS) + 1)
    together = executor.forward(batch_of(read, temperature=1.0)).answers[0].tokens
    some = Readout.of(read.rows, read.predicts, sampled=np.arange(READS) % 2 == 0)
    partly = executor.forward(batch_of(some, temperature=1.0)).answers[0].tokens
    assert_array_equal(partly[::2], together[::2])
