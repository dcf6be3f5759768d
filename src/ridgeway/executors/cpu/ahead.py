"""Tables of what helpers read between kernels (`kernels.cpu.ahead`)."""

from collections.abc import Sequence
from typing import NamedTuple, Self

from ridgeway.core.arrays import AnyArray, IntArray, ints


class AheadTable(NamedTuple):
    """Places in memory that are read soon.

    table: how many places, then address and bytes of each. address: of the table; 0: nothing is read. held: arrays
    that must outlive the reading.
    """

    table: IntArray
    address: int
    held: tuple[AnyArray, ...]

    @classmethod
    def of(cls, weights: list[tuple[int, int]], head: Sequence[AnyArray] = ()) -> Self:
        """The matrices of a head, then weights of the executor's own."""
        places = [*((matrix.ctypes.data, matrix.nbytes) for matrix in head), *weights]
        table = ints([len(places), *(number for place in places for number in place)])
        return cls(table, table.ctypes.data, tuple(head))


NOTHING_AHEAD = AheadTable(ints([0]), 0, ())
