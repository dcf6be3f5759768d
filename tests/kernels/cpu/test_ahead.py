"""Helpers read what the next stream begins with, touch nothing that is not named, and stop when a stream begins."""

import numpy as np
from numba import njit

from ridgeway.core.query import Batch, Entry, Query, Readout
from ridgeway.engine.sampling import plain_selection
from ridgeway.executors.cpu import CpuExecutor
from ridgeway.executors.cpu.ahead import AheadTable
from ridgeway.executors.cpu.weights import HeldWeights
from ridgeway.kernels.cpu.ahead import read_ahead
from ridgeway.kernels.cpu.lanes import longs
from ridgeway.kernels.cpu.layout import L, M
from ridgeway.kernels.cpu.residence import aligned
from ridgeway.kernels.cpu.team import AHEAD, CONTROL_LONGS, OPEN
from ridgeway.testing import toy_model

NOWHERE = 8  # an address at which nobody may read


@njit
def read(control, stream, helper, helpers):
    read_ahead(longs(control), longs(control)[AHEAD], stream, helper, helpers)


def control_block(*table):
    control, places = aligned(CONTROL_LONGS * 8).view(np.int64), np.array(table, dtype=np.int64)
    control[AHEAD] = places.ctypes.data
    return control, places


def test_nothing_is_read_but_what_is_named():
    memory = np.zeros(10_000, dtype=np.uint8)
    control, _places = control_block(1, memory.ctypes.data, memory.nbytes, NOWHERE, 4096)
    for helper in range(2):
        read(control.ctypes.data, 1, helper, 2)


def test_nothing_is_read_where_nothing_is_named():
    control = aligned(CONTROL_LONGS * 8).view(np.int64)
    read(control.ctypes.data, 1, 0, 1)


def test_nothing_is_read_once_another_stream_has_begun():
    control, _places = control_block(1, NOWHERE, 4096)
    control[OPEN] = 2
    read(control.ctypes.data, 1, 0, 1)


def test_helpers_share_the_pieces():
    control, _places = control_block(1, NOWHERE, 4096)
    read(control.ctypes.data, 1, 0, 2)  # the only piece is the other one's


def test_the_first_matrices_of_a_stream_are_named():
    executor = CpuExecutor(toy_model(), 1)
    weights: HeldWeights = executor._weights
    layer = weights.layers[0]
    assert weights.part(0, 64) == [(layer[L.q + M.tiles], 64)]
    everything = weights.part(0, 1 << 40)
    assert len(everything) == 7 * len(weights.layers)
    assert everything[0][1] == layer[L.q + M.tile_count] * layer[L.q + M.tile_bytes]
    q, k, v, *_ = everything
    assert weights.part(0, 64 + q[1]) == [q, (k[0], 64)]
    assert weights.part(64, q[1] + k[1] + 64) == [(q[0] + 64, q[1] - 64), k, (v[0], 64)]
    assert weights.part(q[1], q[1]) == []


def batch_of(sequences, measures=frozenset()):
    rows = np.arange(3)
    read = Readout.of(rows, rows + 1, sampled=False, measures=measures)
    entries = tuple(Entry(Query(rows, rows, read=read), 0, 3 * number + rows) for number in range(sequences))
    return Batch(entries, plain_selection(3 * sequences))


def test_what_is_read_ahead_depends_on_what_is_likely_next():
    executor = CpuExecutor(toy_model(), 2)
    assert executor._ahead_after(batch_of(1)).table[0] > 0
    assert executor._ahead_after(batch_of(2)).address == 0
    matrix = np.zeros(100, dtype=np.uint8)
    executor._ahead_of_head = AheadTable.of([(8, 64)], [matrix])
    wanted = executor._ahead_after(batch_of(1, {"hidden"}))
    assert wanted.table.tolist() == [2, matrix.ctypes.data, 100, 8, 64]
    assert CpuExecutor(toy_model(), 1)._ahead_after(batch_of(1)).address == 0


def test_streams_and_their_bits_do_not_mind():
    found = []
    for threads in (1, 3):
        executor = CpuExecutor(toy_model(), threads)
        executor.allocate(10)
        for _ in range(100):
            logits = executor.forward(batch_of(1, {"logits"})).answers[0].logits
        found.append(logits)
    assert (found[0] == found[1]).all()
