"""From timelines to figures: each figure once per repeat, then the median of the repeats and their range.

Ratios are taken inside a repeat, where both sides met the same weather, and then their median. A ratio is refused,
with the reason, when one side failed or did not produce the same number of tokens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median
from typing import Any, NamedTuple

from ridgeway.bench.roof import PlainToken
from ridgeway.bench.runs import Cell, Cells, Plan
from ridgeway.bench.timeline import Timeline
from ridgeway.roofline.report import Phase, StepReport

BASELINE = "ar"


class Spread(NamedTuple):
    """Median, least and greatest of the repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(median(values), min(values), max(values))


class Refused(NamedTuple):
    """Why there is no ratio."""

    reason: str


@dataclass(frozen=True)
class Row:
    """Figures of one contender at one batch size: a value of each repeat.

    decode, prefill: tokens/s of all sequences together. first_token: seconds, median over requests. The others are
    None for peers: tokens_per_forward: of the decode phase; roof_fraction: likewise; host: share of the decode time
    that was spent outside weight streams. phase: decode steps of all repeats.
    """

    name: str
    batch: int
    fault: str | None
    decode: tuple[float, ...] = ()
    prefill: tuple[float, ...] = ()
    first_token: tuple[float, ...] = ()
    tokens_per_forward: float | None = None
    roof_fraction: float | None = None
    host: float | None = None
    decode_phase: Phase | None = None
    prefill_phase: Phase | None = None

    @classmethod
    def of(cls, name: str, batch: int, cell: Cell) -> "Row":
        repeats = cell.repeats
        if not repeats:
            return cls(name, batch, cell.fault or "was not measured")
        row = cls(
            name,
            batch,
            cell.fault,
            decode=tuple(decode_rate(timelines) for timelines in repeats),
            prefill=tuple(_prefill_rate(timelines) for timelines in repeats),
            first_token=tuple(
                median(seconds for timeline in timelines for seconds in timeline.first_token_seconds)
                for timelines in repeats
            ),
        )
        flat = [timeline for timelines in repeats for timeline in timelines]
        decode, prefill = _joined(t.decode for t in flat), _joined(t.prefill for t in flat)
        if decode is None or prefill is None or not decode.steps:
            return row
        seconds = sum(timeline.decode_seconds for timeline in flat)
        return replace(
            row,
            tokens_per_forward=decode.tokens / decode.streams,
            roof_fraction=decode.roof_fraction,
            host=max(0.0, 1 - decode.seconds / seconds) if seconds > 0 else 0.0,
            decode_phase=decode,
            prefill_phase=prefill,
        )


@dataclass(frozen=True)
class BenchReport:
    """All rows. names: of the contenders, in the table's order; methods: those of them that are Ridgeway's own.

    lossless: those that must write the baseline's tokens. plain: by batch size, what a plainly decoded token costs.
    bus: by batch size, the rate at which memory was read between the turns of each repeat, bytes/s.
    """

    plan: Plan
    cells: Cells
    names: tuple[str, ...]
    methods: tuple[str, ...]
    lossless: tuple[str, ...] = ()
    plain: Mapping[int, PlainToken] = field(default_factory=dict)
    bus: Mapping[int, tuple[float, ...]] = field(default_factory=dict)

    @cached_property
    def rows(self) -> Mapping[tuple[str, int], Row]:
        return {(name, batch): Row.of(name, batch, self.cells[name, batch]) for name, batch in self.cells}

    def ratio(self, name: str, against: str, batch: int) -> Spread | Refused:
        """Decode rate of `name` / that of `against`, same batch size."""
        one, other = self.rows[name, batch], self.rows[against, batch]
        for row in (one, other):
            if row.fault is not None:
                return Refused(f"{row.name}, batch {batch}: {row.fault}")
        return _ratio(one.decode, other.decode)

    def roof_fraction(self, name: str, batch: int) -> float | None:
        """Of a method: as counted. Of a peer: share of the rate that memory allows plain decoding of the file."""
        row = self.rows[name, batch]
        if name in self.methods:
            return row.roof_fraction
        if not row.decode or batch not in self.plain:
            return None
        return median(row.decode) * self.plain[batch].seconds

    def bus_fraction(self, name: str, batch: int) -> Spread | None:
        """Bytes/s of decoding / bytes/s read between the turns of the same repeat: host time counts as idle.

        Of a peer: the bytes that plain decoding of the file must read. None where one of them is not known.
        """
        rates, repeats = self.bus.get(batch, ()), self.cells[name, batch].repeats
        if not repeats or len(rates) != len(repeats):
            return None
        moved = [self._bytes_per_second(name, batch, timelines) for timelines in repeats]
        known = [own / rate for own, rate in zip(moved, rates, strict=True) if own is not None]
        return Spread.of(known) if known else None

    def _bytes_per_second(self, name: str, batch: int, timelines: Sequence[Timeline]) -> float | None:
        if name not in self.methods:
            return decode_rate(timelines) * self.plain[batch].bytes if batch in self.plain else None
        decode = _joined(t.decode for t in timelines)
        seconds = sum(timeline.decode_seconds for timeline in timelines)
        return decode.cost.bytes / seconds if decode is not None and seconds > 0 else None

    def agreement(self, name: str, batch: int) -> float | None:
        """Median over requests of the share of tokens before the first that is not plain decoding's; None: unknown."""
        mine, plain = self._token_ids(name, batch), self._token_ids(BASELINE, batch)
        if mine is None or plain is None:
            return None
        return median(_common(one, other) / len(other) for one, other in zip(mine, plain, strict=True))

    @property
    def notes(self) -> list[str]:
        """What the table must not be read without, each said once."""
        faults = [note for name in self.names for note in self._faults(name)]
        broken = [
            f"{name} at batch {batch} is said to be lossless, but its tokens are not {BASELINE}'s"
            for name in self.lossless
            for batch in self.plan.batches
            if self._differs(name, batch)
        ]
        return faults + broken + [note for name in self.names for note in self._same_model(name)]

    def _differs(self, name: str, batch: int) -> bool:
        """Whether a request has other tokens than plain decoding gave it."""
        mine, plain = self._token_ids(name, batch), self._token_ids(BASELINE, batch)
        return mine is not None and plain is not None and mine != plain

    def _faults(self, name: str) -> Iterator[str]:
        """A sentence for each thing that went wrong, with the batch sizes that it concerns."""
        where: dict[str, list[int]] = {}
        for batch in self.plan.batches:
            fault = self.rows[name, batch].fault
            if fault is not None:
                where.setdefault(fault, []).append(batch)
        for fault, batches in where.items():
            some = "" if len(batches) == len(self.plan.batches) else f" at batch {', '.join(map(str, batches))}"
            yield f"{name}{some} {fault}"

    def _same_model(self, name: str) -> Iterator[str]:
        """How far a peer writes what we write: far apart would mean that it runs something else."""
        shares = [self.agreement(name, batch) for batch in self.plan.batches]
        known = [share for share in shares if share is not None]
        if known and name not in self.methods:
            share = 100 * min(known)
            yield f"{name} writes the same tokens as {BASELINE} for the first {share:.0f} % of an answer (median)"

    @property
    def categories(self) -> list[str]:
        """Names of the categories, in the workload's order; empty if there are not at least two."""
        names = list(dict.fromkeys(self.plan.workload.categories))
        return names if len(names) > 1 else []

    def category_rates(self, name: str, batch: int, category: str) -> tuple[float, ...]:
        """Of each repeat: tokens/s of one sequence of that category while it decodes."""
        groups = self.plan.workload.groups(batch)
        rates = []
        for timelines in self.cells[name, batch].repeats:
            tokens, seconds = 0, 0.0
            for group, timeline in zip(groups, timelines, strict=True):
                for place, number in enumerate(group):
                    if self.plan.workload.categories[number] == category:
                        own_tokens, own_seconds = timeline.own_decode(place)
                        tokens, seconds = tokens + own_tokens, seconds + own_seconds
            rates.append(tokens / seconds if seconds > 0 else 0.0)
        return tuple(rates)

    def category_ratio(self, name: str, against: str, batch: int, category: str) -> Spread | Refused:
        """As `ratio`, of one category's sequences."""
        refused = self.ratio(name, against, batch)
        if isinstance(refused, Refused):
            return refused
        mine, other = (self.category_rates(one, batch, category) for one in (name, against))
        return _ratio(mine, other)

    def category_tokens_per_forward(self, name: str, batch: int, category: str) -> float | None:
        """Of the decode streams of groups that hold nothing else; None if there are none."""
        groups = self.plan.workload.groups(batch)
        pure = [
            timeline.decode
            for timelines in self.cells[name, batch].repeats
            for group, timeline in zip(groups, timelines, strict=True)
            if all(self.plan.workload.categories[number] == category for number in group)
        ]
        phase = _joined(iter(pure)) if pure else None
        return phase.tokens / phase.streams if phase is not None and phase.steps else None

    def as_json(self) -> dict[str, Any]:
        """Plain data: every row, with its ratios and categories."""
        return {
            "prompts": {
                "source": self.plan.workload.name,
                "count": len(self.plan.workload.prompts),
                "tokens": list(map(len, self.plan.workload.prompts)),
            },
            "max_tokens": self.plan.max_tokens,
            "repeats": self.plan.repeats,
            "bus_bytes_per_second": {batch: list(rates) for batch, rates in self.bus.items()},
            "results": [self._row_json(name, batch) for batch in self.plan.batches for name in self.names],
            "notes": self.notes,
        }

    def _row_json(self, name: str, batch: int) -> dict[str, Any]:
        row = self.rows[name, batch]
        others = [other for other in self.names if other != name and (other == BASELINE or other not in self.methods)]
        return {
            "name": name,
            "kind": "method" if name in self.methods else "peer",
            "batch": batch,
            "fault": row.fault,
            "decode_tokens_per_second": _spread_json(row.decode),
            "prefill_tokens_per_second": _spread_json(row.prefill),
            "first_token_seconds": _spread_json(row.first_token),
            "tokens_per_forward": row.tokens_per_forward,
            "roof_fraction": self.roof_fraction(name, batch),
            "bus_fraction": fraction._asdict() if (fraction := self.bus_fraction(name, batch)) is not None else None,
            "host_fraction": row.host,
            "agreement": self.agreement(name, batch) if name != BASELINE else None,
            "ratios": {other: _ratio_json(self.ratio(name, other, batch)) for other in others},
            "categories": {
                category: {
                    "tokens_per_second_of_a_sequence": _spread_json(self.category_rates(name, batch, category)),
                    "tokens_per_forward": self.category_tokens_per_forward(name, batch, category),
                    "ratios": {
                        other: _ratio_json(self.category_ratio(name, other, batch, category)) for other in others
                    },
                }
                for category in self.categories
            },
        }

    def _token_ids(self, name: str, batch: int) -> list[tuple[int, ...]] | None:
        """Of every request of the first repeat."""
        cell = self.cells[name, batch]
        if cell.fault is not None or not cell.repeats:
            return None
        found: list[tuple[int, ...]] = []
        for timeline in cell.repeats[0]:
            if timeline.token_ids is None:
                return None
            found += timeline.token_ids
        return found


def decode_rate(timelines: Sequence[Timeline]) -> float:
    """Tokens after the prefill / seconds after it, of groups that were run one after another."""
    return _rate(timelines, lambda t: t.decode_tokens, lambda t: t.decode_seconds)


def _prefill_rate(timelines: Sequence[Timeline]) -> float:
    return _rate(timelines, lambda t: sum(t.prompt_tokens), lambda t: t.prefill_seconds)


def _rate(
    timelines: Sequence[Timeline], count: Callable[[Timeline], int], seconds: Callable[[Timeline], float]
) -> float:
    taken = sum(map(seconds, timelines))
    return sum(map(count, timelines)) / taken if taken > 0 else 0.0


def _ratio(one: Sequence[float], other: Sequence[float]) -> Spread | Refused:
    if len(one) != len(other) or not one:
        return Refused(f"{len(one)} and {len(other)} repeats cannot be compared")
    if min(other) <= 0:
        return Refused("a rate is 0")
    return Spread.of([mine / its for mine, its in zip(one, other, strict=True)])


def _joined(phases: Iterator[Phase | None]) -> Phase | None:
    """All steps of the phases; None if one is not known."""
    steps: list[StepReport] = []
    for phase in phases:
        if phase is None:
            return None
        steps += phase.steps
    return Phase(tuple(steps))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens are the same before the first difference."""
    return next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


def _spread_json(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    return {**Spread.of(values)._asdict(), "repeats": list(values)}


def _ratio_json(ratio: Spread | Refused) -> dict[str, Any]:
    return {"refused": ratio.reason} if isinstance(ratio, Refused) else ratio._asdict()
