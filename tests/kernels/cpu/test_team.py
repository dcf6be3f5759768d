"""A team does every task once, with any number of threads on any number of cores, however late helpers come."""

import ctypes
import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from ridgeway.executors.cpu import CpuExecutor
from ridgeway.kernels.cpu.team import INSIDE, OPEN, Team
from ridgeway.testing import toy_model

STREAM_ON_ONE_CORE = """
    import os, sys, time
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    import numpy as np
    from ridgeway.core.query import Batch, Entry, Query, Readout
    from ridgeway.engine.sampling import plain_selection
    from ridgeway.executors.cpu import CpuExecutor
    from ridgeway.testing import toy_model

    found = []
    for threads in (1, 4):
        executor = CpuExecutor(toy_model(), threads)
        executor.allocate(100)
        rows = np.arange(20)
        read = Readout.of(rows, rows + 1, sampled=False, measures={"logits"})
        batch = Batch((Entry(Query(rows, rows, read=read), 0, rows),), plain_selection(20))
        for _ in range(50):
            logits = executor.forward(batch).answers[0].logits
        found.append(logits)
    assert (found[0] == found[1]).all()
    print("same")
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a system that pins processes to cores")
def test_four_threads_on_one_core_give_the_results_of_one():
    code = textwrap.dedent(STREAM_ON_ONE_CORE)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == "same\n", done.stderr


def test_every_member_is_called_and_nobody_stays_inside():
    team, called = Team(3), []

    def work(member, stream):
        called.append((member, stream))
        time.sleep(0.01)

    for number in (1, 2, 3):
        team.run(work)
        time.sleep(0.1)
        assert sorted(member for member, stream in called if stream == number) == [0, 1, 2]
    assert team.control[INSIDE] == 0


def test_helpers_end_with_their_team():
    before = set(threading.enumerate())
    team = Team(3)
    helpers = set(threading.enumerate()) - before
    assert len(helpers) == 2
    del team
    for helper in helpers:
        helper.join(timeout=10)
        assert not helper.is_alive()


def test_a_helper_that_comes_after_the_end_does_nothing():
    from ridgeway.core.query import Batch, Entry, Query, Readout
    from ridgeway.engine.sampling import plain_selection

    executor = CpuExecutor(toy_model(), 2)
    executor.allocate(10)
    query = Query(np.array([1]), np.array([0]), read=Readout.of([0], [1], sampled=False))
    executor.forward(Batch((Entry(query, 0, np.array([0])),), plain_selection(1)))
    control = executor._team.control
    assert control[OPEN] == 0
    before = control.copy()
    executor._stream(control.ctypes.data, ctypes.c_int64(0).value, 1, 1)  # would crash if it looked at the step
    np.testing.assert_array_equal(control, before)
