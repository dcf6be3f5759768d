"""`ridgeway machine`: the ceilings, and where each comes from."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ridgeway.roofline.machine import Machine


def machine(
    name: Annotated[
        str | None, typer.Argument(help="A machine from the data sheets, such as h100; by default this one.")
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure this machine anew.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the ceilings as JSON.")] = False,
) -> None:
    """Show what a machine allows: how fast it reads memory, how fast it multiplies, and where that is known from."""
    from json import dumps

    from rich.console import Console

    from ridgeway.core.errors import MachineError
    from ridgeway.roofline.hardware import machine as machine_named
    from ridgeway.roofline.this_machine import this_machine

    if name is not None and measure:
        raise MachineError(f"only this machine can be measured, not {name}: leave one of the two out")
    ceilings = machine_named(name) if name is not None else this_machine(measure=measure)
    if json:
        typer.echo(dumps(ceilings.as_json()))
        return
    console = Console(highlight=False)
    for part in _tables(ceilings):
        console.print(part)


def _tables(ceilings: "Machine") -> "Iterator[RenderableType]":
    """What to print, top to bottom."""
    from rich.table import Table

    yield f"[bold]{ceilings.name}[/]: {ceilings.source}" + (
        f" on {ceilings.measured_on}" if ceilings.measured_on else ""
    )
    if ceilings.note:
        yield ceilings.note
    memory = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("reading", "threads", "best GB/s", "median GB/s"):
        memory.add_column(heading, justify="left" if heading == "reading" else "right")
    for point in ceilings.bandwidths:
        memory.add_row(
            _size(point.working_set),
            str(point.threads or ""),
            f"{point.best / 1e9:.1f}",
            f"{point.median / 1e9:.1f}",
        )
    yield ""
    yield memory
    if not ceilings.peaks:
        yield ""
        yield "no source for a rate of dense products was read: what needs one is refused"
        return
    rates = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("multiplying", "best GFLOP/s", "ridge FLOP/B", "where from"):
        rates.add_column(heading, justify="left" if heading in ("multiplying", "where from") else "right")
    for arithmetic, peak in ceilings.peaks.items():
        accumulated = f" (sums in {peak.accumulate})" if peak.accumulate else ""
        rates.add_row(
            arithmetic + accumulated,
            f"{peak.best / 1e9:,.0f}",
            f"{ceilings.ridge(arithmetic):.1f}",
            peak.source,
        )
    yield ""
    yield rates
    yield ""
    memory_size = _size(ceilings.memory_bytes) if ceilings.memory_bytes else "of unknown size"
    cache = f"; largest cache {ceilings.cache_bytes / 1e6:g} MB" if ceilings.cache_bytes else ""
    year = f"; sold since {ceilings.year}" if ceilings.year else ""
    yield f"a step costs {ceilings.step_overhead * 1e6:.1f} us before any work; memory {memory_size}{cache}{year}"


def _size(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:g} {unit}" if count % size == 0 else f"{count / size:.1f} {unit}"
    return f"{count} B"
