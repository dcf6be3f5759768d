"""What `ridgeway roof` prints: predictions as tables for people, as JSON for programs, as a picture for both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from json import dumps
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.table import Table

from ridgeway.core.errors import RidgewayError
from ridgeway.models.outline import Outline
from ridgeway.roofline.advice import Plain
from ridgeway.roofline.cost import CostModel
from ridgeway.roofline.decoding import Autoregressive, Decoding, Speculative
from ridgeway.roofline.experts import DEFAULT_SKEW
from ridgeway.roofline.improvement import improvements
from ridgeway.roofline.machine import Machine
from ridgeway.roofline.plot import Point, roofline_svg
from ridgeway.roofline.precision import COMPARED
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.prediction import Prediction
from ridgeway.roofline.sweep import sweep_points
from ridgeway.roofline.workload import Workload

_BATCHED = 32
_WIDE = 110  # columns from which on a table may have all its columns


@dataclass(frozen=True)
class Asked:
    """The command line, understood. as_run: predict the model as `ridgeway run` would hold it."""

    outline: Outline
    workload: Workload
    machines: list[Machine]
    methods: list[Decoding]
    precisions: list[str]
    engine: str
    kv_itemsize: int
    skew: float | None
    as_run: bool
    draft: Outline | None
    argument: str

    def predictor(self, machine: Machine, precision: str | None = None) -> Predictor:
        chosen = precision or (self.precisions[0] if self.precisions else self.outline.precision)
        own = chosen == self.outline.precision and not self.precisions
        return Predictor(
            self.outline.name,
            self.outline.config,
            machine,
            chosen,
            held_bytes=self.outline.held_bytes if own else None,
            kv_itemsize=self.kv_itemsize,
            expert_skew=DEFAULT_SKEW if self.skew is None else self.skew,
            engine=self.engine,
        )


def show(asked: Asked, *, sweep: str | None, compare: bool, plot: str | None, target: "IO[str] | None") -> None:
    """Print, and write what was asked for. Raises RidgewayError for what does not fit or cannot be written."""
    console = Console(highlight=False, stderr=target is not None and target.name == "<stdout>")
    machine = asked.machines[0]
    predictor = _as_run(asked, machine) if asked.as_run else None
    predictor = predictor or asked.predictor(machine)
    predictor.check_fits(asked.workload)
    methods = [_with_draft(method, asked, predictor) for method in asked.methods]
    told: dict[str, Any] = {}
    if sweep is not None:
        told["sweep"] = _show_sweep(console, predictor, sweep, asked.workload, methods[0])
    elif compare:
        told["compare"] = _show_machines(console, asked, methods[0])
    else:
        told["predictions"] = _show_one(console, asked, predictor, methods)
    if plot is not None:
        points = [predictor.predict(asked.workload, method) for method in methods]
        _write_plot(plot, predictor, points)
        console.print(f"\nroofline drawn to {plot}")
    if target is not None:
        print(dumps(told), file=target, flush=True)


def _as_run(asked: Asked, machine: Machine) -> Predictor | None:
    """The model in the executor that `ridgeway run` would take; None if its weights are not here."""
    from ridgeway.models.default import BUILT_IN
    from ridgeway.models.shipped import SHIPPED

    here = asked.argument in {**BUILT_IN, **SHIPPED} or Path(asked.argument).expanduser().exists()
    if not here or asked.argument.endswith(".json"):
        return None
    from ridgeway.executors.registry import make_executor, measured_by
    from ridgeway.models.loading import load_model
    from ridgeway.roofline.learned import Learned
    from ridgeway.roofline.this_machine import this_machine

    try:
        model = load_model(asked.argument)
        executor = make_executor("auto", model, None)
        if machine.key:  # this machine: it may lack the rate of the executor's own kernels
            machine = this_machine(contributions=measured_by(executor))
        cost_model = CostModel.of(model.config, executor, machine)
        Learned.of(model, executor, cost_model)
    except RidgewayError:  # it may be known by its sizes though no executor runs it, or its arithmetic is not known
        return None
    return Predictor.of(model.name, cost_model, f"{model.precision}, as `ridgeway run` holds it")


def _with_draft(method: Decoding, asked: Asked, predictor: Predictor) -> Decoding:
    """A draft model's cost: the time of one of its streams as a share of one of the model's."""
    if asked.draft is None or not isinstance(method, Speculative):
        return method
    draft = Predictor(asked.draft.name, asked.draft.config, predictor.machine, asked.draft.precision)
    share = draft.predict(asked.workload).estimate.per_token / predictor.predict(asked.workload).estimate.per_token
    return replace(method, draft_cost=round(share, 4))


def _show_one(
    console: Console, asked: Asked, predictor: Predictor, methods: Sequence[Decoding]
) -> list[dict[str, Any]]:
    workload, config = asked.workload, asked.outline.config
    model = predictor.cost_model
    wall = Plain.of(model, 1, 0)
    where = "measured" if predictor.machine.source == "measured" else "by its data sheet"
    console.print(
        f"[bold]{predictor.model}[/] ({config.parameters / 1e9:.3g}B weights) in {predictor.precision} on "
        f"[bold]{predictor.machine.name}[/], {where}"
    )
    console.print(
        f"one request, no context: memory allows {_rate(wall.memory)} tok/s (the wall: "
        f"{wall.cost.weight_bytes / 1e9:.3g} GB per token), arithmetic {_rate(wall.arithmetic)} "
        f"({wall.arithmetic / wall.memory:.0f}x)\n"
    )
    console.print(
        f"prompt {workload.prompt:,}, output {workload.output:,}, {workload.concurrency} at once; floor: what physics "
        f"allows; estimate: what is expected{_taught(model)}"
    )
    found = [predictor.predict(workload, method) for method in methods]
    shown = list(zip(methods, found, strict=True))
    if workload.concurrency == 1 and isinstance(methods[0], Autoregressive) and len(methods) > 1:
        many = replace(workload, concurrency=max(1, min(_BATCHED, found[0].capacity.largest_batch)))
        shown.insert(1, (methods[0], predictor.predict(many, methods[0])))
    console.print(_methods_table(shown, workload.price is not None, console.width >= _WIDE))
    for method, _ in shown:
        assumed = ", ".join(f"{key} {_plain(value)}" for key, value in method.assumptions.items())
        if assumed and not isinstance(method, Autoregressive):
            console.print(f"  [dim]{method.name} assumes {assumed}[/]")
    first = found[0]
    _show_memory(console, first)
    extra: list[Prediction] = []
    if not asked.precisions:
        extra = _precisions(asked, predictor.machine)
        console.print()
        console.print(_precision_table([first, *extra] if asked.as_run else extra))
    console.print(f"\nlimit: {first.limit}")
    if first.experts is not None:
        touched = first.experts
        console.print(
            f"experts: of {touched.count} a stream touches {touched.floor:.0f} at least, {touched.estimate:.1f} at "
            f"skew {touched.skew:g}, {touched.uniform:.1f} if chosen uniformly (not a bound)"
        )
    if not asked.as_run:
        for item in improvements(asked.outline, predictor.machine, predictor.precision, workload, methods[0])[:3]:
            same = "" if item.lossless else "; another text"
            console.print(
                f"would help: {item.text}: {item.gain:.1f}x the tokens per second in all, {item.per_request:.1f}x of a "
                f"request{same}"
            )
    return [item.as_json() for item in [*(prediction for _, prediction in shown), *extra]]


def _taught(model: CostModel) -> str:
    steps = model.calibration.recalled
    return f", corrected by {steps:,} steps of earlier runs here" if steps else ""


def _precisions(asked: Asked, machine: Machine) -> list[Prediction]:
    names = list(dict.fromkeys([asked.outline.precision, *COMPARED]))
    found = []
    for name in names:
        try:
            found.append(asked.predictor(machine, name).predict(asked.workload))
        except RidgewayError:  # a rate that this machine lacks
            continue
    return found


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=number == 0)
    return table


def _methods_table(shown: Sequence[tuple[Decoding, Prediction]], priced: bool, wide: bool) -> Table:
    headings = ["method", "tok/s floor", "estimate", "in all", "FLOP/B", "bound"]
    headings[3:3] = ["low-high"] if wide else []
    headings += ["first token", "tok/pass"] if wide else []
    table = _table(*headings, *(["$/M tok"] if priced else []))
    for method, item in shown:
        batch = f" x {item.workload.concurrency}" if item.workload.concurrency > 1 else ""
        interval = f"{_rate(item.slowest.per_request)}-{_rate(item.fastest.per_request)}"
        table.add_row(
            f"{method.name}{batch}",
            _rate(item.floor.per_request),
            _rate(item.estimate.per_request),
            *([interval] if wide else []),
            _rate(item.estimate.total),
            f"{item.intensity:.1f}",
            item.regime,
            *([_seconds(item.estimate.first_token), f"{item.tokens_per_forward:.2f}"] if wide else []),
            *([f"{item.estimate.dollars:.3g}"] if item.estimate.dollars is not None else []),
        )
    return table


def _precision_table(found: Sequence[Prediction]) -> Table:
    table = _table("plain, in", "weights", "floor", "estimate", "first token", "ridge", "MBU", "MFU", "most", "bound")
    for item in found:
        table.add_row(
            item.precision,
            _size(item.capacity.weights),
            _rate(item.floor.per_request),
            _rate(item.estimate.per_request),
            _seconds(item.estimate.first_token),
            f"{item.ridge:.0f}",
            f"{100 * item.bandwidth_utilization:.0f} %",
            f"{100 * item.compute_utilization:.1f} %",
            _most(item) if item.capacity.fits else "none",
            item.regime,
        )
    return table


def _show_memory(console: Console, item: Prediction) -> None:
    room = item.capacity
    if not room.memory:
        console.print("\nmemory: its size is not known")
        return
    console.print(
        f"\nmemory: weights {room.weights / 1e9:.3g} GB ({100 * room.weight_share:.0f} %), K/V {_size(room.kv)} "
        f"({100 * room.kv_share:.1f} %; {_size(room.kv_per_token)} per token), ridge {item.ridge:.0f} FLOP/B; at most "
        f"{_most(item)} such requests with pages, {room.largest_batch_contiguous:,} if each reserves the longest "
        "context"
    )


def _show_sweep(
    console: Console, predictor: Predictor, text: str, workload: Workload, method: Decoding
) -> list[dict[str, Any]]:
    points = sweep_points(text, workload, method)
    name = text.partition("=")[0]
    console.print(f"[bold]{predictor.model}[/] in {predictor.precision} on {predictor.machine.name}, {method.name}")
    table = _table(name, "tok/s each", "in all", "floor in all", "tok/pass", "FLOP/B", "bound", "K/V of memory", "")
    told = []
    for value, work, how in points:
        item = predictor.predict(work, how)
        told.append({name: value} | item.as_json())
        table.add_row(
            f"{value:g}",
            _rate(item.estimate.per_request),
            _rate(item.estimate.total),
            _rate(item.floor.total),
            f"{item.tokens_per_forward:.2f}",
            f"{item.intensity:.1f}",
            item.regime,
            f"{100 * item.capacity.kv_share:.1f} %",
            "" if item.capacity.fits else "does not fit",
        )
    console.print(table)
    return told


def _show_machines(console: Console, asked: Asked, method: Decoding) -> list[dict[str, Any]]:
    console.print(f"[bold]{asked.outline.name}[/], {method.name}, {asked.workload.concurrency} at once")
    table = _table(
        "machine", "GB/s", "tok/s floor", "estimate", "in all", "first token", "ridge", "bound", "most at once"
    )
    told = []
    for machine in asked.machines:
        item = asked.predictor(machine).predict(asked.workload, method)
        told.append(item.as_json())
        table.add_row(
            machine.name,
            f"{machine.memory_bandwidth / 1e9:,.0f}",
            _rate(item.floor.per_request),
            _rate(item.estimate.per_request),
            _rate(item.estimate.total),
            _seconds(item.estimate.first_token),
            f"{item.ridge:.0f}",
            item.regime,
            _most(item) if item.capacity.fits else "does not fit",
        )
    console.print(table)
    return told


def _write_plot(path: str, predictor: Predictor, found: Sequence[Prediction]) -> None:
    points = [Point(item.method, item.intensity, item.flops_per_second, predicted=True) for item in found]
    first = found[0].prefill
    if first.seconds > 0:
        points.append(Point("prefill", first.cost.intensity, first.cost.flops / first.seconds, predicted=True))
    title = f"{predictor.model} in {predictor.precision} on {predictor.machine.name}"
    picture = roofline_svg(predictor.machine, predictor.cost_model.arithmetic, points, title)
    try:
        Path(path).write_text(picture)
    except OSError as error:
        raise RidgewayError(f"--plot {path}: cannot be written: {error.strerror}") from error


def _most(item: Prediction) -> str:
    most = item.capacity.largest_batch
    return f"{most:,}" if most < 1_000_000 else "any number"


def _rate(rate: float) -> str:
    if rate < 100:
        return f"{rate:.1f}"
    return f"{rate:,.0f}" if rate < 10_000 else f"{round(rate, -2):,.0f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def _size(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "as many as tokens" if value is None else f"{value:g}"
