"""Threads that share the work of a weight stream.

A stream is a sequence of phases, each a number of tasks that do not depend on each other; a phase begins when the one
before it is finished. Whoever takes part walks through all phases and claims tasks as long as there are some. So a
thread that comes late, or that the system takes away, costs time and nothing else: one alone finishes every phase. That
is what makes it safe to spin while the others finish (a microsecond, where a lock takes tens), on any number of cores.

Between streams nobody spins: helpers sleep on a lock of the interpreter.
"""

import os
import threading
import weakref
from _thread import LockType, allocate_lock
from collections.abc import Callable
from pathlib import Path

from numba import njit

from ridgeway.kernels.cpu.atomics import atomic_add, atomic_read, atomic_replace, atomic_write, give_way, relax
from ridgeway.kernels.cpu.residence import aligned

# Places in the control block; each has a cache line (8 longs) of its own.
TICKET = 0  # phase << 24 | tasks claimed
DONE = 8  # tasks finished in this phase
INSIDE = 16  # helpers that take part
OPEN = 24  # the number of the stream in which helpers may take part, 0: none
CONTROL_LONGS = 32

CLAIM_BITS = 24
_CLAIMED = (1 << CLAIM_BITS) - 1
_PATIENCE = 400  # spins before giving way


@njit(error_model="numpy")
def claim(control, phase, total, least, threads):
    """The first of the tasks that the caller shall do, or -1 when the phase is finished, and how many.

    Claims shrink as the end of the phase comes near, but not below `least`, so that all threads finish together.
    """
    spins = 0
    while True:
        ticket = atomic_read(control, TICKET)
        if ticket >> CLAIM_BITS != phase:
            return -1, 0
        claimed = ticket & _CLAIMED
        if claimed < total:
            count = max((total - claimed) // threads, least)
            count = min(count, total - claimed)
            if atomic_replace(control, TICKET, ticket, ticket + count):
                return claimed, count
        else:
            spins += 1
            if spins >= _PATIENCE:
                spins = 0
                give_way()
            relax()


@njit(error_model="numpy")
def no_more(control, phase, total):
    """Whether no task of the phase is left to be claimed, though others may not be finished yet."""
    ticket = atomic_read(control, TICKET)
    return ticket >> CLAIM_BITS != phase or (ticket & _CLAIMED) >= total


@njit(error_model="numpy")
def finish(control, phase, total, count):
    """Reports `count` claimed tasks as done; the last report opens the next phase."""
    if atomic_add(control, DONE, count) + count == total:
        atomic_write(control, DONE, 0)
        atomic_write(control, TICKET, (phase + 1) << CLAIM_BITS)


@njit(error_model="numpy")
def enter(control, stream):
    """Whether a helper may take part in the stream number `stream`; if so, it must leave."""
    atomic_add(control, INSIDE, 1)
    if atomic_read(control, OPEN) == stream:
        return True
    atomic_add(control, INSIDE, -1)
    return False


@njit(error_model="numpy")
def leave(control):
    atomic_add(control, INSIDE, -1)


@njit(error_model="numpy")
def close(control):
    """Ends a stream: no helper may enter any more, and those inside have nothing to do but to leave."""
    atomic_write(control, OPEN, 0)
    spins = 0
    while atomic_read(control, INSIDE) > 0:
        spins += 1
        if spins >= _PATIENCE:
            spins = 0
            give_way()
        relax()


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
    and close as described above.
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
