"""Corrects the estimate by the steps that were observed, in this process and in earlier ones.

An executor reaches some share of the ceilings, another one when memory is the limit than when arithmetic is,
another for one row than for thirty (its kernels work in tiles), and another in attention than in matrices. So
ratios of measured to estimated time are kept by what bounds a step, by its number of rows and by attention's share
of its work, and a step is corrected by the median of its like: a few outliers (a busy machine, a first call) move a
median little. The spread of the ratios is the interval.

What earlier processes observed (`recall`) speaks until this one has observed as much itself: a machine may be in
another state by now, and is then known anew within some ten steps of a kind.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from math import exp, log, log2
from typing import NamedTuple

_WINDOW = 32  # ratios kept of each kind: a machine's speed drifts
_LATEST = 20  # of those that are kept for later processes, at most so many are of the one that ends
_MOST_KINDS = 300  # kept for later processes
_FARTHEST = 8  # classes of rows over which kinds lend to each other: one row to eight, or two octaves
_SEVERAL = 4  # ratios of this process from which on what earlier ones observed does not count: two may be hiccups
_ENOUGH = 8  # ratios from which on a kind speaks for itself
_NARROWEST = 0.02
_LOW, _HIGH = 0.05, 0.95
_ATTENTION_CLASSES = 16


class Kind(NamedTuple):
    """Steps that are taken to be alike. size: class of their rows; attention: sixteenths of the FLOPs that are its."""

    bound: str
    size: int
    attention: int

    @classmethod
    def of(cls, bound: str, rows: int, attention: float) -> "Kind":
        """rows: of a stream. attention: share of the FLOPs, 0 to 1."""
        return cls(bound, _size_class(rows), round(_ATTENTION_CLASSES * attention))


class Correction(NamedTuple):
    """Factors on an estimate."""

    low: float
    middle: float
    high: float


class Calibration:
    """Ratios of measured to estimated seconds, by kind of step.

    low, high: between which times the estimate nine of ten steps are taken to lie before any was observed.
    recalled: log ratios that earlier processes observed, by kind.
    """

    def __init__(
        self, low: float = 0.78, high: float = 1.65, recalled: Mapping[Kind, Iterable[float]] | None = None
    ) -> None:
        self._prior = Correction(log(low), 0.0, log(high))
        self._recalled = {kind: sorted(logs) for kind, logs in (recalled or {}).items()}
        self.observations = 0  # of this process
        self._logs: dict[Kind, deque[float]] = {}
        self._kinds = set(self._recalled)
        self._known: dict[Kind, tuple[Correction, set[Kind]]] = {}  # corrections, and the kinds that each rests on

    @property
    def recalled(self) -> int:
        """How many observations of earlier processes there are."""
        return sum(map(len, self._recalled.values()))

    def as_recalled(self) -> "Calibration":
        """As it was before this process observed anything."""
        return Calibration(exp(self._prior.low), exp(self._prior.high), self._recalled)

    def recall(self, recalled: Mapping[Kind, Iterable[float]]) -> None:
        """Take these as what earlier processes observed."""
        self._recalled = {kind: sorted(logs) for kind, logs in recalled.items()}
        self._kinds = {*self._recalled, *self._logs}
        self._known.clear()

    def to_keep(self, stored: Mapping[Kind, list[float]]) -> dict[Kind, list[float]]:
        """Log ratios for later processes, of each kind at most `_WINDOW`. Most are of this process, fewer of the one
        before, and so on: they tell of several states of the machine, and of what is long past ever less.

        stored: what is kept by now, maybe by others meanwhile; it stays for kinds that were not observed here. Kinds
        that were not observed for longest give way.
        """
        kept = {}
        for kind, new in self._logs.items():
            latest = _thinned(sorted(new), _LATEST)
            kept[kind] = sorted([*latest, *_thinned(self._recalled.get(kind, []), _WINDOW - len(latest))])
        kept |= {kind: logs for kind, logs in stored.items() if kind not in kept}
        return dict(list(kept.items())[:_MOST_KINDS])

    def observe(self, kind: Kind, ratio: float) -> None:
        """Keep the ratio of a step."""
        self.observations += 1
        self._logs.setdefault(kind, deque(maxlen=_WINDOW)).append(log(ratio))
        if kind not in self._kinds:
            self._kinds.add(kind)
            self._known.clear()
        for other in [other for other, (_, sources) in self._known.items() if kind in sources]:
            del self._known[other]

    def correction(self, kind: Kind) -> Correction:
        """Without observations 1 in the middle, low and high far apart."""
        if kind not in self._known:
            sources = self._alike(kind)
            self._known[kind] = self._correction(kind, sources), {kind, *sources}
        return self._known[kind][0]

    def own(self, kind: Kind) -> tuple[float, bool] | None:
        """The median ratio of steps of that very kind, or with a little more or less attention, nothing lent by other
        numbers of rows, and whether this process saw enough such steps: then nothing else counts. None if fewer than
        two were seen.
        """
        for more in (0, -1, 1, -2, 2):
            near = kind._replace(attention=kind.attention + more)
            new = self._logs.get(near, ())
            here = len(new) >= (_SEVERAL if near in self._recalled else 2)
            logs = new if here else self._of(near)
            if len(logs) > 1:
                return exp(_quantile(sorted(logs), 0.5)), here
        return None

    def _correction(self, kind: Kind, sources: Iterable[Kind]) -> Correction:
        logs = sorted(ratio for source in sources for ratio in self._of(source))
        if not logs:
            return Correction(*map(exp, self._prior))
        # What other kinds of steps lend moves the middle but does not narrow the interval.
        trust = min(1.0, len(self._of(kind)) / _ENOUGH)
        middle = _quantile(logs, 0.5)
        low = min(-_NARROWEST, _quantile(logs, _LOW) - middle)
        high = max(_NARROWEST, _quantile(logs, _HIGH) - middle)
        low = trust * low + (1 - trust) * self._prior.low
        high = trust * high + (1 - trust) * self._prior.high
        return Correction(exp(middle + low), exp(middle), exp(middle + high))

    def _of(self, kind: Kind) -> list[float]:
        """Log ratios of this process and, the fewer they are the more, of earlier ones, spread as all of those are."""
        new, old = self._logs.get(kind, ()), self._recalled.get(kind, [])
        if not new or not old:
            return [*new, *old]
        places = max(0, _ENOUGH - len(new) // 2)
        return [*new, *_thinned(old, places)]

    def _alike(self, kind: Kind) -> list[Kind]:
        """The kind; while it has few observations, the nearest ones too: in rows, then in attention, then of other
        bounds. What a step of one row shows of a kernel says nothing of five hundred, so none that are far off in rows.
        """

        def distance(other: Kind) -> tuple[bool, int, int, Kind]:
            # Near the ridge the same steps are bound by another thing as soon as a ceiling is raised.
            same = other[1:] == kind[1:] or other.bound == kind.bound
            return not same, abs(other.size - kind.size), abs(other.attention - kind.attention), other

        if len(self._of(kind)) >= _ENOUGH // 2:
            return [kind]
        found: list[Kind] = []
        count = 0
        near = (other for other in self._kinds if abs(other.size - kind.size) <= _FARTHEST)
        for other in sorted(near, key=distance):
            if found and count >= _ENOUGH // 2:
                break
            found.append(other)
            count += len(self._of(other))
        return found


def _thinned(ordered: list[float], count: int) -> list[float]:
    """`count` values spread as all of these are, without the extremes; all of them if they are fewer."""
    if len(ordered) <= count:
        return ordered
    return [_quantile(ordered, (place + 0.5) / count) for place in range(count)]


def _quantile(ordered: list[float], share: float) -> float:
    """Linear between neighbours, as NumPy's, which takes fifty times longer over so few."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _size_class(rows: int) -> int:
    """Up to eight rows, each number is a class of its own: there kernels' tiles show. Then four classes an octave."""
    return rows if rows <= 8 else 8 + round(4 * log2(rows / 8))
