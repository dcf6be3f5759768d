"""How long something takes that is done again and again, on a machine that now and then does something else."""

_NEWEST = 0.1  # weight of the newest measurement
_HICCUP = 2.0  # times what is usual: more is a disturbance, and counts as no more
_FIRST = 3  # measurements of which the median counts: the very first may be a hiccup


class Duration:
    """seconds: a running mean in which a hiccup counts little; 0 as long as nothing was measured. Where long ones are
    frequent it lies below the mean.

    Whoever decides by a plain mean, and measures only what was decided for, is stuck after one pause of the machine.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._first: list[float] = []

    def observe(self, seconds: float) -> None:
        """Learn from one measurement. One of no time, by a coarse clock, is none."""
        if seconds <= 0:
            return
        if len(self._first) < _FIRST:
            self._first.append(seconds)
            self.seconds = sorted(self._first)[(len(self._first) - 1) // 2]
        else:
            self.seconds += _NEWEST * (min(seconds, _HICCUP * self.seconds) - self.seconds)
