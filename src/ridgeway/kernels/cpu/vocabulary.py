"""What is read out of logits while they are still in the cache: the best of each 512, and masses for probabilities."""

import numpy as np
from numba import njit

from ridgeway.kernels.cpu.activation import ZERO, exponential
from ridgeway.kernels.cpu.lanes import broadcast, first_lanes, fma, load, max_lanes, maximum, sum_lanes
from ridgeway.kernels.cpu.layout import HEAD_UNIT, LANES, UNIT_FLOATS, U
from ridgeway.kernels.cpu.tiles import OUTPUTS

LEAST = np.float32(-np.inf)


@njit(error_model="numpy")
def measure_unit(logits, count, measures, found):
    """Writes the `UnitFields` of `count` logits to `found`; without `measures` only the best and its place.

    Logits beyond `count`, up to a whole vector, may be anything.
    """
    whole = count // LANES * LANES
    highest = broadcast(LEAST)
    for i in range(0, whole, LANES):
        highest = maximum(load(logits, i), highest)
    if whole < count:
        highest = maximum(first_lanes(load(logits, whole), count - whole, LEAST), highest)
    best = max_lanes(highest)
    place = 0
    while place < count - 1 and logits[place] != best:
        place += 1
    found[U.best] = best
    found[U.place] = np.float32(place)
    if not measures:
        return
    second = LEAST
    for i in range(count):
        if i != place:
            second = max(second, logits[i])
    mass, surprise = broadcast(ZERO), broadcast(ZERO)
    for i in range(0, count, LANES):
        gap = first_lanes(load(logits, i), count - i, LEAST) - broadcast(best)
        weight = exponential(gap)
        mass = mass + weight
        gap = maximum(gap, broadcast(np.float32(-100.0)))
        surprise = fma(weight, gap, surprise)
    found[U.second] = second
    found[U.mass] = sum_lanes(mass)
    found[U.surprise] = sum_lanes(surprise)


@njit(error_model="numpy")
def settle_best(units, count, best):
    """Writes the best logit of a row and its token, out of its `count` units, to `best` (2,); ties to the left."""
    found = 0
    for unit in range(1, count):
        if units[unit * UNIT_FLOATS + U.best] > units[found * UNIT_FLOATS + U.best]:
            found = unit
    best[0] = units[found * UNIT_FLOATS + U.best]
    best[1] = found * HEAD_UNIT * OUTPUTS + units[found * UNIT_FLOATS + U.place]
