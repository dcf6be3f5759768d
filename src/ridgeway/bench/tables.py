"""What a person sees: a card of what will be run, the table, and the same by category."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table

from ridgeway.bench.contenders import Contender
from ridgeway.bench.report import BASELINE, BenchReport, Refused, Spread
from ridgeway.bench.runs import Plan
from ridgeway.llm import LLM

_DASH = "-"
_GAP = 2  # columns between columns


def opening(plan: Plan, llm: LLM, contenders: Sequence[Contender], seconds: float) -> Iterator[str]:
    """The card before measuring; `seconds`: how long it will take, about."""
    workload = plan.workload
    kinds = len(set(filter(None, workload.categories)))
    of_kinds = f" of {kinds} kinds" if kinds > 1 else ""
    batches = ", ".join(map(str, plan.batches))
    source = "measured" if llm.machine.source == "measured" else "from its data sheet"
    threads = llm.executor.threads
    yield (
        f"[bold]{llm.title}[/] | {llm.machine.name}, peaks {source} | executor {llm.executor.name}, "
        f"{threads} thread{'s' if threads > 1 else ''}"
    )
    yield (
        f"  {len(workload.prompts)} prompts{of_kinds}, {workload.shortest} to {workload.longest} tokens "
        f"({workload.name}) | {plan.max_tokens} new tokens each, greedy, end tokens ignored | prefix cache off"
    )
    yield f"  batch {batches} | {plan.repeats} repeats, everyone in turn in each | about {_duration(seconds)}"
    for contender in contenders:
        detail = contender.detail
        yield f"  {contender.name}" + (f": {detail}" if detail else "")


@dataclass(frozen=True)
class Column:
    """heading: above it. cells: one for each contender at each batch size."""

    heading: str
    cells: tuple[str, ...]

    @property
    def width(self) -> int:
        return max(map(len, (*self.heading.split("\n"), *self.cells)))


def main_tables(report: BenchReport, width: int) -> list[Table]:
    """Contenders by batch sizes: one table, or as many as it takes where `width` characters do not hold it."""
    keys = [(batch, name) for batch in report.plan.batches for name in report.names]
    batches = Column("batch", tuple(str(batch) if name == report.names[0] else "" for batch, name in keys))
    names = Column("", tuple(name for _, name in keys))
    used = batches.width + names.width + _GAP
    parts: list[list[Column]] = [[]]
    room = width - used
    for column in columns(report, keys):
        if parts[-1] and room < _GAP + column.width:
            parts.append([])
            room = width - used
        parts[-1].append(column)
        room -= _GAP + column.width
    return [_table(report, batches, names, part) for part in parts]


def columns(report: BenchReport, keys: Sequence[tuple[int, str]]) -> list[Column]:
    """The figures, beside the two columns that say whose they are."""
    rows = [report.rows[name, batch] for batch, name in keys]
    peers = [name for name in report.names if name not in report.methods]
    roofs = [report.roof_fraction(name, batch) for batch, name in keys]
    buses = [report.bus_fraction(name, batch) for batch, name in keys]
    found = {
        "decode\ntok/s": [_median(row.decode) for row in rows],
        "range": [_range(row.decode) for row in rows],
        "tokens/\nforward": [
            _DASH if row.tokens_per_forward is None else f"{row.tokens_per_forward:.2f}" for row in rows
        ],
        "of the\nroof": [_DASH if roof is None else f"{100 * roof:.0f} %" for roof in roofs],
    }
    if any(buses):
        found["of the\nbus now"] = [_DASH if bus is None else f"{100 * bus.median:.0f} %" for bus in buses]
    for other in [BASELINE, *peers]:
        shown = report.names if other == BASELINE else report.methods
        found[f"vs\n{other}"] = [
            _ratio_text(report, name, other, batch) if name in shown else "" for batch, name in keys
        ]
    found["prefill\ntok/s"] = [_median(row.prefill) for row in rows]
    found["first\ntoken"] = [
        _milliseconds(Spread.of(row.first_token).median) if row.first_token else _DASH for row in rows
    ]
    return [Column(heading, tuple(cells)) for heading, cells in found.items()]


def _table(report: BenchReport, batches: Column, names: Column, part: Sequence[Column]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))
    for column in (batches, names, *part):
        table.add_column(
            column.heading, justify="left" if column is names else "right", no_wrap=True, min_width=column.width
        )
    for place in range(len(names.cells)):
        last = (place + 1) % len(report.names) == 0
        table.add_row(*(column.cells[place] for column in (batches, names, *part)), end_section=last)
        if last and place + 1 < len(names.cells):
            table.add_row()
    return table


def category_tables(report: BenchReport) -> Iterator[RenderableType]:
    """For each batch size: tokens/s of one sequence, by category and contender, with the ratio to plain decoding."""
    for batch in report.plan.batches if report.categories else ():
        yield ""
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column(f"batch {batch}: tok/s of a sequence")
        names = [name for name in report.names if report.rows[name, batch].decode]
        for name in names:
            table.add_column(name, justify="right")
        for category in report.categories:
            table.add_row(category or "(none)", *(_category_text(report, name, batch, category) for name in names))
        yield table


def notes(report: BenchReport) -> Iterator[str]:
    """Lines below the table."""
    for note in report.notes:
        yield f"  {note}"


def _median(values: Sequence[float]) -> str:
    return rate_text(Spread.of(values).median) if values else _DASH


def _range(values: Sequence[float]) -> str:
    if not values:
        return ""
    _, low, high = Spread.of(values)
    return f"{rate_text(low)}-{rate_text(high)}"


def _ratio_text(report: BenchReport, name: str, other: str, batch: int) -> str:
    if not other or name == other:
        return ""
    ratio = report.ratio(name, other, batch)
    return _DASH if isinstance(ratio, Refused) else f"{ratio.median:.2f}x"


def _category_text(report: BenchReport, name: str, batch: int, category: str) -> str:
    said = rate_text(Spread.of(report.category_rates(name, batch, category)).median)
    if name == BASELINE:
        return said
    ratio = report.category_ratio(name, BASELINE, batch, category)
    said += f" {_DASH}" if isinstance(ratio, Refused) else f" {ratio.median:.2f}x"
    per_forward = report.category_tokens_per_forward(name, batch, category)
    return said if per_forward is None else f"{said}, {per_forward:.2f} tok/forward"


def rate_text(rate: float) -> str:
    return f"{rate:.1f}" if rate < 100 else f"{rate:,.0f}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.0f} ms"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
