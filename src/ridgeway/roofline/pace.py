"""How the machine is just now, beside what price lists say of it: two factors, followed by an extended Kalman filter.

A step takes `slower * (plain + dearer * rows)` seconds, where a list says `plain` of its batch and `rows` of what
drafts add. Neighbours slow everything, and arithmetic, which rows take, may suffer more than reading, which a plain
step takes. A drafted step tells one number of two; how much of what was not expected is due to either, their
uncertainties decide. Whoever put all of it down to the rows, which are the smaller part, would take them for dear
whenever a neighbour wakes.

After Kalman, "A New Approach to Linear Filtering and Prediction Problems" (1960), linearized at each step.
"""

from math import sqrt

_NOISE = 0.1  # standard deviation of a step's time, as a share of it
_DRIFT = 0.0005  # variance that the pace gains with every step
_DOUBT = 0.02, 0.3  # variances at first; that of `dearer` is never more
_FADING = 0.03  # of what is known of `dearer`, with every plain step: what makes rows dear passes, and is not seen
_SURPRISE = 1.5  # standard deviations: more is a disturbance, and counts as no more
_LEAST, _MOST = 0.25, 4.0  # what is believed
_NEXT_TO_NOTHING = 0.01  # of a plain step's time


class Pace:
    """slower, dearer: as above; both 1 as long as nothing was seen."""

    def __init__(self) -> None:
        self.slower = self.dearer = 1.0
        self._of_slower, self._of_dearer = _DOUBT  # variances
        self._of_both = 0.0  # covariance

    def seconds(self, plain: float, rows: float) -> float:
        """What a step takes just now. plain, rows: listed seconds of its batch, and of what drafts add."""
        return self.slower * (plain + self.dearer * rows)

    def relate(self, plain: float, old: float, new: float) -> None:
        """Go over to other lists. plain: what the old ones say of a plain step over what the new ones say. old, new:
        what they say of typical rows, as shares of a plain step; where either says next to nothing, `dearer` stays.
        """
        rows = old / new if min(old, new) > _NEXT_TO_NOTHING else 1.0
        self.slower, self.dearer = _believed(self.slower * plain), _believed(self.dearer * rows)
        self._of_slower *= plain * plain
        self._of_both *= plain * rows
        self._of_dearer *= rows * rows

    def observe(self, plain: float, rows: float, seconds: float) -> None:
        """Learn from a step that took `seconds`."""
        self._of_slower += _DRIFT
        if not rows:
            self._of_dearer += _FADING * (_DOUBT[1] - self._of_dearer)
            self._of_both *= 1 - _FADING
            self.dearer += _FADING * (1 - self.dearer)
        # All as shares of the plain step's time.
        share = rows / plain
        by_slower, by_dearer = 1 + self.dearer * share, self.slower * share
        expected = self.slower * by_slower
        first = by_slower * self._of_slower + by_dearer * self._of_both
        second = by_slower * self._of_both + by_dearer * self._of_dearer
        variance = by_slower * first + by_dearer * second + (_NOISE * expected) ** 2
        limit = _SURPRISE * sqrt(variance)
        surprise = max(-limit, min(limit, seconds / plain - expected))
        self.slower = _believed(self.slower + first / variance * surprise)
        self.dearer = _believed(self.dearer + second / variance * surprise)
        self._of_slower -= first * first / variance
        self._of_both -= first * second / variance
        self._of_dearer -= second * second / variance


def _believed(factor: float) -> float:
    return max(_LEAST, min(_MOST, factor))
