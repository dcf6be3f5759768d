"""Corrects the estimate by the steps that were observed.

An executor reaches some share of the ceilings, another one when memory is the limit than when arithmetic is,
and another for one row than for thirty (its kernels work in tiles). So ratios of measured to estimated time
are kept by what bounds a step and by its number of rows, and a step is corrected by the median of its like: a
few outliers (a busy machine, a first call) move a median little. The spread of the ratios is the interval.
"""

from collections import deque
from math import exp, log, log2

_WINDOW = 32  # ratios kept of each kind: a machine's speed drifts
_ENOUGH = 8  # ratios from which on a kind speaks for itself
_NARROWEST = 0.02
_LOW, _HIGH = 0.05, 0.95


class Calibration:
    """Ratios of measured to estimated seconds, by kind of step.

    low, high: between which times the estimate nine of ten steps are taken to lie before any was observed.
    """

    def __init__(self, low: float = 0.78, high: float = 1.65) -> None:
        self._prior_low, self._prior_high = log(low), log(high)
        self._ratios: dict[tuple[str, int], deque[float]] = {}
        self._known: dict[tuple[str, int], tuple[float, float, float]] = {}  # corrections since the last observation

    def observe(self, bound: str, rows: int, ratio: float) -> None:
        """Keep the ratio of a step; rows: of its batch."""
        self._ratios.setdefault((bound, _size_class(rows)), deque(maxlen=_WINDOW)).append(log(ratio))
        self._known.clear()

    def correction(self, bound: str, rows: int) -> tuple[float, float, float]:
        """Factors on an estimate: low, middle, high; without observations 1 in the middle, far apart."""
        kind = (bound, _size_class(rows))
        if kind not in self._known:
            self._known[kind] = self._correction(bound, rows)
        return self._known[kind]

    def _correction(self, bound: str, rows: int) -> tuple[float, float, float]:
        logs = sorted(self._alike(bound, _size_class(rows)))
        if not logs:
            return exp(self._prior_low), 1.0, exp(self._prior_high)
        # What other kinds of steps lend moves the middle but does not narrow the interval.
        trust = min(1.0, self.observations(bound, rows) / _ENOUGH)
        middle = _quantile(logs, 0.5)
        low = min(-_NARROWEST, _quantile(logs, _LOW) - middle)
        high = max(_NARROWEST, _quantile(logs, _HIGH) - middle)
        low = trust * low + (1 - trust) * self._prior_low
        high = trust * high + (1 - trust) * self._prior_high
        return exp(middle + low), exp(middle), exp(middle + high)

    def own(self, bound: str, rows: int) -> float | None:
        """The median ratio of steps of that very kind, nothing lent by others; None if fewer than two were seen."""
        logs = self._ratios.get((bound, _size_class(rows)), ())
        return exp(_quantile(sorted(logs), 0.5)) if len(logs) > 1 else None

    def observations(self, bound: str, rows: int) -> int:
        """How many steps of that very kind were observed, of those that are kept."""
        return len(self._ratios.get((bound, _size_class(rows)), ()))

    def _alike(self, bound: str, size: int) -> list[float]:
        """Log ratios of the kind; while they are few, of the nearest sizes too, then of other bounds."""
        found: list[float] = []
        kinds = sorted(self._ratios, key=lambda kind: (kind[0] != bound, abs(kind[1] - size), kind))
        for kind in kinds:
            if found and (kind != (bound, size) and len(found) >= _ENOUGH // 2):
                break
            found += self._ratios[kind]
        return found


def _quantile(ordered: list[float], share: float) -> float:
    """Linear between neighbours, as NumPy's, which takes fifty times longer over so few."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _size_class(rows: int) -> int:
    """Up to eight rows, each number is a class of its own: there kernels' tiles show. Then four classes an octave."""
    return rows if rows <= 8 else 8 + round(4 * log2(rows / 8))
