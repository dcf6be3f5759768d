"""How much room K/V may take on the host."""

import os

from ridgeway.core.errors import RidgewayError

_SHARE = 0.4  # of the memory that is free when the pool is made; the rest is left to everyone else


def free_memory() -> int:
    """Bytes that can be had without pushing anything out of memory."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError, AttributeError):
        return 4 * 1024**3


def check_room(slots: int, slot_bytes: int) -> None:
    """Raise RidgewayError if the K/V of that many tokens are more than the memory that is free."""
    free = free_memory()
    if slots * slot_bytes > free:
        raise RidgewayError(
            f"slots={slots}: their K/V take {slots * slot_bytes / 1e9:,.1f} GB, but {free / 1e9:,.1f} GB are free; "
            f"at most {free // slot_bytes} would fit"
        )


def slots_that_fit(slot_bytes: int, at_most: int) -> int:
    """Tokens whose K/V fit into a share of the free memory, `at_most` as many as could ever be used."""
    return max(1, min(at_most, int(free_memory() * _SHARE) // max(1, slot_bytes)))
