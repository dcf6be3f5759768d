"""Threads that share the work of a weight stream.

A stream is a sequence of phases, each a number of tasks that do not depend on each other; a phase begins when the one
before it is finished. Whoever takes part walks through all phases and claims tasks as long as there are some. So a
thread that comes late, or that the system takes away, costs time and nothing else: one alone finishes every phase. That
is what makes it safe to spin while the others finish (a microsecond, where a lock takes tens), on any number of cores.

Between streams nobody spins: helpers read a little ahead (`ahead`), then sleep on a lock of the interpreter.
"""

import os
import threading
import weakref
from _thread import LockType, allocate_lock
from collections.abc import Callable
from pathlib import Path

from ridgeway.kernels.cpu.residence import aligned

# Places in the control block; each has a cache line (8 longs) of its own.
TICKET = 0  # phase << 24 | tasks claimed
DONE = 8  # tasks finished in this phase
INSIDE = 16  # helpers that take part
OPEN = 24  # the number of the stream in which helpers may take part, 0: none
AHEAD = 25  # beside it, as both are written before a stream only: what helpers read after it (see `ahead`), 0: nothing
CONTROL_LONGS = 32

CLAIM_BITS = 24


def usable_cores() -> int:
    """Physical cores that this process may use: siblings of one core share its arithmetic units."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:
        return os.cpu_count() or 1
    cores = set()
    for processor in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
        try:
            cores.add(topology.read_text().strip())
        except OSError:
            cores.add(str(processor))
    return max(1, len(cores))


class Team:
    """`threads` threads: the caller and its helpers.

    work: called as work(member, stream) by each of them, member 0 being the caller; it must enter, claim, finish, leave
    and close as described above (`phases`).
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.control = aligned(CONTROL_LONGS * 8).view("int64")
        self.address: int = self.control.ctypes.data  # of the control block
        self._stream = 0
        self._work: list[Callable[[int, int], None]] = []
        self._bells = [allocate_lock() for _ in range(threads - 1)]
        for member, bell in enumerate(self._bells, start=1):
            bell.acquire()
            arguments = (weakref.ref(self), bell, member)
            threading.Thread(target=_help, args=arguments, name=f"ridgeway-{member}", daemon=True).start()
        self._stop = weakref.finalize(self, _dismiss, self._bells)

    @property
    def phase(self) -> int:
        """The phase that the next stream begins with."""
        return int(self.control[TICKET]) >> CLAIM_BITS

    def run(self, work: Callable[[int, int], None]) -> None:
        """Does `work` with all members; returns when it is done."""
        self._stream += 1
        self._work = [work]
        self.control[OPEN] = self._stream
        for bell in self._bells:
            if bell.locked():
                bell.release()
        work(0, self._stream)

    def assist(self, member: int) -> None:
        """What a helper does when its bell rings."""
        stream = self._stream
        for work in self._work:
            work(member, stream)


def _help(team_of: "weakref.ref[Team]", bell: LockType, member: int) -> None:
    while True:
        bell.acquire()
        team = team_of()
        if team is None:
            return
        team.assist(member)
        del team


def _dismiss(bells: list[LockType]) -> None:
    for bell in bells:
        if bell.locked():
            bell.release()
