"""What sequences want of their tokens is kept from batch to batch, and is never another batch's."""

import dataclasses

import numpy as np

from ridgeway.core.arrays import span
from ridgeway.core.query import NOTHING, Query, Readout
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.core.sequence import Sequence
from ridgeway.engine.sampling import Selections, selection_of
from ridgeway.methods.autoregressive import Autoregressive
from ridgeway.testing import toy_model


def sequence(number):
    params = SamplingParams(temperature=0.1 + number, top_k=number, top_p=0.9, seed=number, presence_penalty=number / 4)
    return Sequence(f"r{number}", number, [1, 2, 3], params, 7 * number, Autoregressive(), toy_model().config.traits)


def query(start, rows, reads=True):
    read = Readout.of(span(0, rows), span(start + 1, start + rows + 1)) if reads else NOTHING
    return Query(np.full(rows, 5), span(start, start + rows), read=read)


def same(one, other):
    for name, value in vars(one).items():
        theirs = getattr(other, name)
        if name == "adjustments":
            assert value.keys() == theirs.keys()
            value = [array for change in value.values() for array in dataclasses.astuple(change)]
            theirs = [array for change in theirs.values() for array in dataclasses.astuple(change)]
            assert all(np.array_equal(a, b) for a, b in zip(value, theirs, strict=True))
        else:
            assert value.dtype == theirs.dtype
            np.testing.assert_array_equal(value, theirs)


def test_selections_of_batches_that_follow_each_other_are_those_of_each_alone():
    first, second, twin = sequence(1), sequence(2), sequence(1)
    batches = [
        [(first, query(3, 1)), (second, query(3, 1))],
        [(first, query(4, 1)), (second, query(4, 1))],  # the same, a step later
        [(first, query(5, 1)), (second, query(5, 3))],  # drafts
        [(second, query(8, 1)), (first, query(6, 3))],  # as many rows of others
        [(first, query(9, 4, reads=False)), (second, query(9, 1))],  # one that reads nothing
        [(second, query(10, 1))],
        [(first, query(9, 4, reads=False))],
        [(twin, query(3, 1))],
        *([(twin, query(3, rows))] for rows in (16, 17, 3, 40, 16)),  # one alone: what is made for 16 rows is cut
        [(first, query(3, 16)), (second, query(3, 1))],
    ]
    selections = Selections()
    for batch in batches:
        same(selections.of(batch), selection_of(batch))


def test_what_does_not_change_is_kept():
    one, selections = sequence(1), Selections()
    before = selections.of([(one, query(3, 1))])
    after = selections.of([(one, query(4, 5))])
    assert np.shares_memory(after.temperature, before.temperature)
    assert (before.position.tolist(), after.position.tolist()) == ([4], [5, 6, 7, 8, 9])
