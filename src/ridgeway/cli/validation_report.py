"""What `ridgeway roof --validate` prints."""

from collections.abc import Sequence
from json import dumps
from typing import IO

from rich.console import Console
from rich.table import Table

from ridgeway.roofline.validation import GATE_COVERAGE, GATE_MEDIAN, GATE_P90, Group, Validation, validate


def report(path: str, target: "IO[str] | None") -> None:
    """Predict the rows of a table and say how good that was. Raises RidgewayError if it cannot be read."""
    result = validate(path)
    console = Console(highlight=False, stderr=target is not None and target.name == "<stdout>")
    _verdict(console, result)
    console.print(_table("apart", result.folds()))
    for what in ("method", "hardware", "precision", "batch", "parallelism", "engine"):
        of = "all rows" if what in ("method", "parallelism") else "single-device dense decode"
        console.print(_table(f"by {what} ({of})", result.by(what)))
    _floors(console, result)
    _spared(console, result)
    _refusals(console, result)
    _worst(console, result)
    if target is not None:
        print(dumps(result.as_json()), file=target, flush=True)


def _verdict(console: Console, result: Validation) -> None:
    gate = result.gate
    console.print(f"{len(result.judged)} rows predicted, {len(result.refused)} refused")
    console.print(
        f"gate, set beforehand: single-device dense decode: median error <= {100 * GATE_MEDIAN:.0f} %, 90th percentile "
        f"<= {100 * GATE_P90:.0f} %, coverage >= {100 * GATE_COVERAGE:.0f} %; coefficients from other devices only"
    )
    if gate is None:
        console.print("no row counts for the gate\n")
        return
    console.print(
        f"[bold]{'passed' if result.passes else 'NOT passed'}[/]: median {100 * gate.median:.1f} %, 90th percentile "
        f"{100 * gate.p90:.1f} %, coverage {100 * result.coverage:.1f} % of {gate.rows} rows and those refused\n"
    )


def _table(title: str, groups: Sequence[Group]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title, min_width=44)
    for heading in ("rows", "median", "p90", "bias"):
        table.add_column(heading, justify="right")
    for group in groups:
        table.add_row(
            group.name,
            str(group.rows),
            f"{100 * group.median:.1f} %",
            f"{100 * group.p90:.1f} %",
            f"{100 * group.bias:+.1f} %",
        )
    table.add_row()
    return table


def _floors(console: Console, result: Validation) -> None:
    console.print("rows that beat the floor (bad data, or not what the row says):")
    for item in result.beat_floor:
        row = item.row
        unit = "times plain decoding" if row.kind == "speedup" else "tok/s"
        console.print(
            f"  {row.id}: {row.outline.name} {row.weights.name} on {row.devices} x {row.device}, {row.kind}: "
            f"{row.rate:,.4g} {unit}, the floor allows {item.floor_rate:,.4g}"
        )
    if not result.beat_floor:
        console.print("  none")


def _spared(console: Console, result: Validation) -> None:
    if not result.spared_prompts:
        return
    console.print(
        "\nrows too fast for all of their prompts to have been computed meanwhile (cached, or queued); they count:"
        f"\n  {', '.join(item.row.id for item in result.spared_prompts)}"
    )
    without = result.gate_without_spared
    if without is not None:
        console.print(
            f"  without them the gate's {without.rows} rows: median {100 * without.median:.1f} %, 90th percentile "
            f"{100 * without.p90:.1f} %"
        )


def _refusals(console: Console, result: Validation) -> None:
    console.print("\nrefused:")
    for reason, count in result.reasons.most_common():
        console.print(f"  {count:4d}  {reason}")


def _worst(console: Console, result: Validation) -> None:
    console.print("\nworst rows of the gate:")
    for item in result.worst():
        row = item.row
        console.print(
            f"  {row.id}: {row.outline.name} {row.weights.name} on {row.device}, {row.engine or 'engine not known'}, "
            f"batch {row.batch}, prompt {row.prompt}: predicted {item.predicted:,.1f}, measured {row.rate:,.1f} tok/s"
        )
