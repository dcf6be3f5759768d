"""Whether to ask a drafter that takes time: what it adds to the guesses that cost nothing, against what it takes.

How much it adds depends on how sure the free guesses are: where the text repeats itself it adds nothing, where it says
something new nearly everything. So what it added is counted by how sure the first free guess was, and what it takes, in
time and in rows, is measured; before anything was seen, it is taken to add what the shipped draft head does.
"""

from ridgeway.core.duration import Duration

# Accepted tokens that a draft head adds where there is no free guess, and where the surest has a chance up to each of
# the borders; as counted on answers of a small model, temperature 0. What is seen corrects it.
_BORDERS = (0.0, 0.3, 0.55, 0.8, 0.92)
_ADDED = (0.95, 0.8, 0.5, 0.25, 0.05, 0.0)
_WEIGHT = 30.0  # of these, in observations
_MEMORY = 1 - 1 / 400
_ROWS = 2.5  # that its guesses add to a step, before that was seen
_NEWEST = 0.05  # weight of the newest number of them
_SHARE = 0.15  # of a step's time that asking takes, before it was measured


class Asking:
    """Learns of every time that the drafter was asked."""

    def __init__(self) -> None:
        self._added = [_WEIGHT * added for added in _ADDED]
        self._counts = [_WEIGHT] * len(_ADDED)
        self._rows = _ROWS
        self._asked: set[int] = set()
        self._taken: dict[int, Duration] = {}  # of one time, by the sequences that it was asked for

    def added(self, surest: float) -> float:
        """Tokens that asking is expected to add for a sequence whose surest first guess has this chance."""
        place = _place(surest)
        return self._added[place] / self._counts[place]

    def seconds(self, sequences: int, step: float) -> float:
        """What asking for so many sequences takes. step: seconds of a plain step."""
        if sequences in self._taken:
            return self._taken[sequences].seconds
        if not self._taken:
            return _SHARE * step
        nearest = min(self._taken, key=lambda known: abs(known - sequences))
        return self._taken[nearest].seconds * max(1.0, sequences / nearest)

    def rows(self, sequences: int) -> int:
        """About how many rows its guesses take."""
        return round(self._rows * sequences)

    def drafted(self, sequences: int, rows: int) -> None:
        """It was asked for so many sequences, and the step has so many rows more than it would have had. (It may have
        fewer, where the head made free guesses look bad.)
        """
        self._rows += _NEWEST * (max(0, rows) / sequences - self._rows)

    def took(self, sequences: int, seconds: float) -> None:
        """It was asked for so many sequences. The first time, when whatever is new is made ready, does not count."""
        if sequences not in self._asked:
            self._asked.add(sequences)
            return
        self._taken.setdefault(sequences, Duration()).observe(seconds)

    def brought(self, surest: float, accepted: int, expected: float) -> None:
        """It was asked, and `accepted` drafts came true, where the free guesses alone were `expected` to bring some."""
        place = _place(surest)
        self._added[place] = _MEMORY * self._added[place] + accepted - expected
        self._counts[place] = _MEMORY * self._counts[place] + 1


def _place(surest: float) -> int:
    return sum(surest > border for border in _BORDERS)
