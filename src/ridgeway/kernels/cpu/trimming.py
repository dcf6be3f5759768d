"""What the last layer leaves out: rows that nobody reads, of which it computes K/V and nothing else."""

from numba import njit

from ridgeway.kernels.cpu.lanes import floats, load, longs, store
from ridgeway.kernels.cpu.layout import LANES, B, S
from ridgeway.kernels.cpu.phases import claim, finish


@njit(error_model="numpy")
def any_read(step, block):
    """Whether a row of the block is read."""
    read, first = longs(step[S.read_rows]), block[B.first_row]
    found = False
    for number in range(step[S.reads]):
        found = found or first <= read[number] < first + block[B.rows]
    return found


@njit(error_model="numpy")
def move_read(control, phase, step):
    """Of the residual stream and of what attention returned, rows that are read to the front. They keep their order, so
    that none is written over before it is moved.
    """
    while True:
        first, count = claim(control, phase, 1, 1, step[S.threads])
        if first < 0:
            return phase + 1
        read = longs(step[S.read_rows])
        for number in range(step[S.reads]):
            if read[number] != number:
                _move_row(step[S.x], 4 * step[S.x_stride], read[number], number)
                _move_row(step[S.mixed], 4 * step[S.mixed_stride], read[number], number)
                _move_row(step[S.packed], step[S.packed_bytes], read[number], number)
        finish(control, phase, 1, count)


@njit(error_model="numpy")
def _move_row(rows, row_bytes, source, target):
    here, there = floats(rows + source * row_bytes), floats(rows + target * row_bytes)
    for i in range(0, row_bytes // 4, LANES):
        store(there, i, load(here, i))


@njit(error_model="numpy")
def read_rows(step):
    """Where it is listed which rows of the residual stream are read; 0: they are the first ones."""
    return 0 if step[S.trims] else step[S.read_rows]
