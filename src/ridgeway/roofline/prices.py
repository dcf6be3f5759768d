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

from ridgeway.roofline.cost import Cost, CostModel
from ridgeway.roofline.shape import QueryShape

_RENEW = 16  # uses of a list at most; while little was observed, fewer
_AHEAD = 8  # rows: how far a number of rows that was observed is looked for
_RECALLED = 1.5  # times what a row's products take at least: dearer than that earlier processes make no row
_CONTEXT = 64  # cached tokens by which a batch's mean context may grow before its list is another one
_LISTS = 64
_WEIGHT = 0.1  # of the newest step in means
_MEMORY = 1 - 1 / 30  # of drafting steps, which tell how dear rows are
_FADING = 1 - 1 / 20  # of that, at a step without drafts
_DOUBT = 0.5  # plain steps' time of drafted rows that are taken to be as listed before any were seen
_DEAREST = 4.0  # times as dear as listed: more is not believed
_OUTLIER = 2.0  # times as long as listed: more is a disturbance


class PriceList:
    """Estimated seconds of a step with 0, 1, 2, ... rows more than a given batch; never falling."""

    def __init__(self, cost_model: CostModel, shapes: Sequence[QueryShape]) -> None:
        self.uses = 0
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

    def _extend(self) -> None:
        """Price some rows more: linear up to the next number of rows that was observed, else as estimated."""
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
        for added in range(known, known + _AHEAD):
            seconds = self._cost_model.estimate(self._cost(added)).seconds
            self._seconds.append(max(seconds, self._seconds[-1] + self._products))

    def _cost(self, added: int) -> Cost:
        return Cost(*(base + added * row for base, row in zip(_numbers(self._base), self._row, strict=True)))


class Prices:
    """Price lists of the batches that come up, and what corrects them in general: what a step takes outside its weight
    streams, more with drafts; how the machine is just now; and how much dearer than listed rows are.

    A list knows steps of a kind, of which there are few. Together they tell of the machine: neighbours slow it, and
    arithmetic, which rows take, more than reading, which a plain step takes.
    """

    def __init__(self, cost_model: CostModel) -> None:
        self.cost_model = cost_model
        self._host = {False: 0.0, True: 0.0}  # mean seconds, by whether anything was drafted
        self._steps = 0
        self._lists: dict[tuple[int, int, int], PriceList] = {}
        self._slower = 1.0  # plain streams of late, over what was listed
        self._expected = self._taken = 0.0  # seconds of drafted rows of late, as listed and as measured

    def of(self, shapes: Sequence[QueryShape]) -> PriceList:
        """The list for steps like this one."""
        mean = sum(shape.cached for shape in shapes) // len(shapes)
        key = (len(shapes), sum(shape.rows for shape in shapes), mean // _CONTEXT)
        found = self._lists.get(key)
        if found is None or found.uses >= min(_RENEW, 1 + self._steps // 8):
            if len(self._lists) >= _LISTS:
                self._lists.clear()
            found = self._lists[key] = PriceList(self.cost_model, shapes)
        found.uses += 1
        return found

    def step(self, listed: PriceList, drafted: int) -> float:
        """Seconds of a step with so many rows more than those of the list's batch, host included."""
        plain = self._slower * listed[0]
        rows = self._dearer(plain) * (listed[drafted] - listed[0]) if drafted else 0.0
        return plain + rows + self.host(drafted > 0)

    def observe(self, listed: PriceList, drafted: int, seconds: float) -> None:
        """Learn from a stream that took `seconds` with so many rows more than those of the list's batch."""
        plain, rows = listed[0], listed[drafted] - listed[0]
        taken = min(seconds, _OUTLIER * self._slower * (plain + rows))
        if not drafted:
            self._slower += _WEIGHT * (taken / plain - self._slower)
            # How dear rows are fades: what makes them so passes, and without drafts it would not show.
            self._expected, self._taken = _FADING * self._expected, _FADING * self._taken
            return
        if taken < self._slower * plain:  # even without the rows: a plain step takes less by now
            self._slower += _WEIGHT * (taken / (plain + rows) - self._slower)
        self._expected = _MEMORY * self._expected + rows
        self._taken = max(0.0, _MEMORY * self._taken + taken - self._slower * plain)

    def _dearer(self, plain: float) -> float:
        """How many times as much as listed drafted rows take. plain: seconds of a stream without them."""
        doubt = _DOUBT * plain
        return min(_DEAREST, max(1 / _DEAREST, (self._taken + doubt) / (self._expected + doubt)))

    def host(self, drafting: bool) -> float:
        """Mean seconds of a step outside its weight streams; as long as one kind was not seen, of the other."""
        return self._host[drafting] or self._host[not drafting]

    def observe_host(self, seconds: float, drafting: bool) -> None:
        """Learn from a step that spent `seconds` outside its weight streams."""
        self._steps += 1
        before = self._host[drafting]
        self._host[drafting] += (_WEIGHT if before else 1.0) * (seconds - before)


def _numbers(cost: Cost) -> tuple[int, ...]:
    return tuple(vars(cost).values())
