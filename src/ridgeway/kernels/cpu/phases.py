"""How a member of a team goes through the phases of a stream (see `team`): part of every kernel that shares work."""

from numba import njit

from ridgeway.kernels.cpu.atomics import atomic_add, atomic_read, atomic_replace, atomic_write, give_way, relax
from ridgeway.kernels.cpu.team import CLAIM_BITS, DONE, INSIDE, OPEN, TICKET

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
