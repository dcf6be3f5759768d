"""What a step will take by how many rows are added to it: the price list of whoever decides how deep to draft.

It is asked at every step, so it has to be quick: the estimates come from the cost model, are listed once for a batch of
a kind, and renewed now and then, as the cost model learns from every step and sequences grow.

How many rows are nearly free is what decides, and that no ceiling tells: it depends on the tiles of a kernel. So what
was observed of steps with some number of rows counts for those between as well. Where nothing was observed yet, each
row is taken to add what its products take at least, even if they might hide behind the reading of weights: who knows
nothing begins with short drafts. What only earlier processes observed makes rows cheaper than that, but not much
dearer: others may have used the machine then, and rows that are taken for too dear are hardly ever tried.
"""

from collections.abc import Sequence
from dataclasses import replace

from ridgeway.core.duration import Duration
from ridgeway.roofline.cost import Cost, CostModel
from ridgeway.roofline.pace import Pace
from ridgeway.roofline.shape import QueryShape

_RENEW = 48  # steps at most that lists are used for; while little was observed, fewer
_TYPICAL = 4  # rows of drafts by which old lists and new ones are compared
_AHEAD = 8  # rows: how far a number of rows that was observed is looked for
_RECALLED = 1.5  # times what a row's products take at least: dearer than that earlier processes make no row
_CONTEXT = 64  # cached tokens by which a batch's mean context may grow before its list is another one
_LISTS = 64


class PriceList:
    """Estimated seconds of a step with 0, 1, 2, ... rows more than a given batch; never falling."""

    def __init__(self, cost_model: CostModel, shapes: Sequence[QueryShape]) -> None:
        self._shapes = shapes
        self.rows = sum(shape.rows for shape in shapes)
        self._cost_model = cost_model
        self._base = cost_model.count(shapes)
        typical = sorted(shapes, key=lambda shape: shape.cached)[len(shapes) // 2]
        wider = cost_model.count([replace(typical, rows=typical.rows + 1, reads=typical.reads + 1)])
        narrow = cost_model.count([typical])
        # One row more: what it adds to traffic and products, but no weights, and no stream.
        self._row = [more - less for more, less in zip(_numbers(wider), _numbers(narrow), strict=True)]
        self._products = cost_model.compute_seconds(Cost(*self._row))
        self._seconds = [cost_model.estimate(self._base).seconds]

    def __getitem__(self, rows: int) -> float:
        while len(self._seconds) <= rows:
            self._extend()
        return self._seconds[rows]

    @property
    def known(self) -> int:
        """How many rows more are listed so far."""
        return len(self._seconds) - 1

    def renewed(self) -> "PriceList":
        """The same by what the cost model knows now."""
        return PriceList(self._cost_model, self._shapes)

    def _extend(self) -> None:
        """Price some rows more: linear up to the next number of rows that was observed, else up to the estimate."""
        known, last = len(self._seconds), self._seconds[-1]
        for more in range(1, _AHEAD + 1):
            observed = self._cost_model.observed(self._cost(known - 1 + more))
            if observed is not None:
                seconds, here = observed
                slope = max(0.0, seconds - last) / more
                if not here:
                    slope = min(slope, _RECALLED * self._products)
                self._seconds += [last + row * slope for row in range(1, more + 1)]
                return
        # One estimate for all of them: what it knows of single rows here is borrowed from others anyway.
        far = max(self._cost_model.estimate(self._cost(known - 1 + _AHEAD)).seconds, last + _AHEAD * self._products)
        self._seconds += [last + row * (far - last) / _AHEAD for row in range(1, _AHEAD + 1)]

    def _cost(self, added: int) -> Cost:
        return Cost(*(base + added * row for base, row in zip(_numbers(self._base), self._row, strict=True)))


class Prices:
    """Price lists of the batches that come up, and what corrects them in general: what a step takes outside its weight
    streams, more with drafts; and how the machine is just now (`pace`), of which all steps together tell more than the
    few that a list rests on. As long as nothing was drafted, drafts are taken to need no more of the host.
    """

    def __init__(self, cost_model: CostModel) -> None:
        self.cost_model = cost_model
        self._host = {False: Duration(), True: Duration()}  # by whether anything was drafted
        self._lists: dict[tuple[int, int, int], PriceList] = {}
        self._uses = 0  # of these lists
        self._newest: PriceList | None = None  # that was used
        self._pace = Pace()

    def of(self, shapes: Sequence[QueryShape]) -> PriceList:
        """The list for steps like this one."""
        mean = sum(shape.cached for shape in shapes) // len(shapes)
        key = (len(shapes), sum(shape.rows for shape in shapes), mean // _CONTEXT)
        self._uses += 1
        if self._uses > min(_RENEW, 1 + self.cost_model.calibration.observations // 8):
            self._renew()
        found = self._lists.get(key)
        if found is None:
            if len(self._lists) >= _LISTS:
                self._lists.clear()
            found = self._lists[key] = PriceList(self.cost_model, shapes)
        self._newest = found
        return found

    def _renew(self) -> None:
        """All lists are made anew as they are wanted. The pace was learned beside the old ones and goes over to the new
        ones, or what these have learned meanwhile would count twice: what a step takes just now stays the same.
        """
        self._lists.clear()
        self._uses = 1
        if self._newest is None:
            return
        old, new = self._newest, self._newest.renewed()
        typical = min(_TYPICAL, old.known)
        self._pace.relate(old[0] / new[0], old[typical] / old[0] - 1, new[typical] / new[0] - 1)

    def step(self, listed: PriceList, drafted: int) -> float:
        """Seconds of a step with so many rows more than those of the list's batch, host included."""
        return self._pace.seconds(listed[0], listed[drafted] - listed[0]) + self.host(drafted > 0)

    def observe(self, listed: PriceList, drafted: int, seconds: float) -> None:
        """Learn from a stream that took `seconds` with so many rows more than those of the list's batch."""
        self._pace.observe(listed[0], listed[drafted] - listed[0], seconds)

    def host(self, drafting: bool) -> float:
        """Usual seconds of a step outside its weight streams; as long as one kind was not seen, of the other."""
        return self._host[drafting].seconds or self._host[not drafting].seconds

    def observe_host(self, seconds: float, drafting: bool, reading: bool = False) -> None:
        """Learn from a step that spent `seconds` outside its weight streams, and in which somebody might have drafted:
        others take the host less. reading: whether prompts were read; such a step takes it longer, and counts only as
        long as no other was seen.
        """
        if not (reading and self._host[drafting].seconds):
            self._host[drafting].observe(seconds)


def _numbers(cost: Cost) -> tuple[int, ...]:
    return tuple(vars(cost).values())
