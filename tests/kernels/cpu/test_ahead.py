"""Helpers read what the next stream begins with, touch nothing that is not named, and stop when a stream begins."""

import numpy as np
from numba import njit

from ridgeway.executors.cpu import CpuExecutor
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
    read_ahead(longs(control), stream, helper, helpers)


def control_block(*table):
    control, places = aligned(CONTROL_LONGS * 8).view(np.int64), np.array(table, dtype=np.int64)
    control[AHEAD] = places.ctypes.data
    return control, places


def test_what_is_named_is_read_and_nothing_else():
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
    found = weights.first(1)
    assert found == [(layer[L.q + M.tiles], layer[L.q + M.tile_count] * layer[L.q + M.tile_bytes])]
    everything = weights.first(1 << 40)
    assert len(everything) == 7 * len(weights.layers)
    some = weights.first(1 + found[0][1])
    assert some == everything[:2]
