"""Keys and values that attention asks for before it reads them.

They lie in memory, not in the caches, and in pieces too short for the processor to guess what comes next. So while
scores are computed the values of the same chunk are asked for, and while values are mixed the keys that come next; a
few lines at a time, as a processor drops what it is asked for all at once.
"""

from typing import NamedTuple

from numba import njit

from ridgeway.kernels.cpu.lanes import longs, prefetch
from ridgeway.kernels.cpu.layout import CHUNK, LANES

FOUR_VECTORS = 4 * LANES
_LINE = 64  # bytes


class Ahead(NamedTuple):
    """Keys or values that are read soon. storage, size: address of their head's, and the bytes of each; slots: address
    of a list of where those of `keys` keys are.
    """

    storage: int
    size: int
    slots: int
    keys: int


NOTHING_AHEAD = Ahead(0, 0, 0, 0)


@njit(error_model="numpy")
def share(ahead, start, stop, whole):
    """The part of `ahead` that is asked for while `start` to `stop` of `whole` are worked on."""
    first, last = ahead.keys * start // whole, ahead.keys * stop // whole
    return Ahead(ahead.storage, ahead.size, ahead.slots + first * 8, last - first)


@njit(error_model="numpy")
def ask(ahead, j, first, last):
    """Asks for two lines of the `j`-th of `ahead`, or of the last: those at bytes `first` and `last`.

    It has no loop, and no branch that depends on `j`: both would cost the loops around it their registers.
    """
    if ahead.keys > 0:
        place = ahead.storage + longs(ahead.slots)[min(j, ahead.keys - 1)] * ahead.size
        prefetch(place + first)
        prefetch(place + last)


@njit(error_model="numpy")
def ask_four(ahead, j):
    """Asks for what is due with the keys from the `j`-th to the third after it; few are spread over all."""
    _ask_lines(ahead, j, 0, min(2 * _LINE, ahead.size) - _LINE)
    if ahead.size > 2 * _LINE:
        _ask_lines(ahead, j, 2 * _LINE, ahead.size - _LINE)


@njit(error_model="numpy")
def _ask_lines(ahead, j, first, last):
    if ahead.keys <= CHUNK // 4:
        ask(ahead, j // 4, first, last)
        return
    ask(ahead, j, first, last)
    ask(ahead, j + 1, first, last)
    ask(ahead, j + 2, first, last)
    ask(ahead, j + 3, first, last)


@njit(error_model="numpy")
def lines_of(ahead, i, width):
    """The first and the last line of the numbers `i` to `i + 63` of each key in `ahead`."""
    first = ahead.size * i // width
    return first, first + ahead.size * FOUR_VECTORS // width - _LINE
