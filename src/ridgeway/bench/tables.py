"""What a person sees: a card of what will be run, the table, and the same by category."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table

from ridgeway.bench.contenders import Contender
from ridgeway.bench.report import BASELINE, BenchReport, Refused, Spread
from ridgeway.bench.runs import Plan
from ridgeway.llm import LLM

_DASH = "-"


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


def main_table(report: BenchReport) -> Table:
    """Contenders by batch sizes."""
    peers = [name for name in report.names if name not in report.methods]
    table = Table(box=None, header_style="bold", pad_edge=False)
    headings = ["batch", "", "decode tok/s", "range", "tok/forward", "roof", f"vs {BASELINE}"]
    for heading in [*headings, *(f"vs {peer}" for peer in peers), "prefill tok/s", "first token"]:
        table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=heading == "")
    for batch in report.plan.batches:
        for place, name in enumerate(report.names):
            row = report.rows[name, batch]
            against = [BASELINE, *peers] if name in report.methods else [BASELINE, *([""] * len(peers))]
            roof = report.roof_fraction(name, batch)
            cells = [
                *_rates(row.decode),
                _DASH if row.tokens_per_forward is None else f"{row.tokens_per_forward:.2f}",
                _DASH if roof is None else f"{100 * roof:.0f} %",
                *(_ratio_text(report, name, other, batch) for other in against),
                rate_text(Spread.of(row.prefill).median) if row.prefill else _DASH,
                _milliseconds(Spread.of(row.first_token).median) if row.first_token else _DASH,
            ]
            last = place == len(report.names) - 1
            table.add_row(str(batch) if place == 0 else "", name, *cells, end_section=last)
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


def _rates(values: Sequence[float]) -> tuple[str, str]:
    if not values:
        return _DASH, ""
    spread = Spread.of(values)
    return rate_text(spread.median), f"{rate_text(spread.low)}-{rate_text(spread.high)}"


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
