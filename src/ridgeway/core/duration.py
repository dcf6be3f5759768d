"""How long something takes that is done again and again, on a machine that now and then does something else."""

_NEWEST = 0.1  # weight of the newest measurement
_HICCUP = 2.0  # times what is usual: more is a disturbance, and counts as no more
_FIRST = 3  # measurements of which the least counts: the very first may be a hiccup


class Duration:
    """seconds: a running mean in which a hiccup counts little; 0 as long as nothing was measured.

    Whoever decides by a plain mean, and measures only what was decided for, is stuck after one pause of the machine.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._measured = 0

    def observe(self, seconds: float) -> None:
        self._measured += 1
        if self._measured <= _FIRST or not self.seconds:
            self.seconds = min(seconds, self.seconds or seconds)
        else:
            self.seconds += _NEWEST * (min(seconds, _HICCUP * self.seconds) - self.seconds)
