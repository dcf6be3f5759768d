"""`ridgeway bench`: methods, batch sizes and other engines side by side."""

from typing import TYPE_CHECKING, Annotated

import typer

from ridgeway.cli import options

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_MAX_TOKENS = 64


def bench(
    model: options.Model = options.DEFAULT_MODEL,
    methods: Annotated[
        str, typer.Option("--methods", help="Methods to compare, such as a,b:key=value; plain `ar` always takes part.")
    ] = "ar",
    batch: Annotated[str, typer.Option("--batch", help="How many sequences are decoded at once, such as 1,8.")] = "1",
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            help="JSON lines: each has prompt, messages or turns, maybe category. By default a dozen of our own.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Take only N prompts of each category.")] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=2, help="New tokens of every answer, exactly.")
    ] = DEFAULT_MAX_TOKENS,
    against: Annotated[
        str, typer.Option("--against", help="Other engines: llama.cpp, openvino, transformers (extra `peers`).")
    ] = "",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Rounds; figures are their medians.")] = 5,
    raw: options.Raw = False,
    executor: options.Executor = "auto",
    threads: options.Threads = None,
    quant: options.Quant = None,
    kv_cache: options.KvCache = None,
    json: Annotated[
        str | None,
        typer.Option("--json", help="Write everything as one line of JSON to this file; `-`: last on standard output."),
    ] = None,
    plot: Annotated[
        str | None, typer.Option("--plot", help="Draw the runs under the roof into this .svg file.")
    ] = None,
) -> None:
    """Measure decoding methods, batch sizes and other engines in turn, on the same prompts, and compare them."""
    from json import dumps
    from pathlib import Path

    from rich.console import Console

    from ridgeway.bench import tables
    from ridgeway.bench.contenders import split_specs
    from ridgeway.bench.peers import Peer
    from ridgeway.bench.picture import bench_svg
    from ridgeway.bench.progress import share_bar
    from ridgeway.bench.report import BASELINE, BenchReport
    from ridgeway.bench.roof import plain_token
    from ridgeway.bench.runs import Plan, expected_seconds, measure, prepare
    from ridgeway.bench.setup import bench_llm, contenders_of, load_workload
    from ridgeway.bench.workload import DEFAULT_NAME, limited, read_prompts
    from ridgeway.cli.generation import json_target, say
    from ridgeway.methods.registry import make_method
    from ridgeway.roofline.measure import MemoryBus

    # What is wrong is told before anything is loaded.
    specs = list(dict.fromkeys([BASELINE, *split_specs(methods)]))
    for spec in specs:
        make_method(spec)
    peers = check_peers(against)
    batches = batch_sizes(batch)
    lines = limited(read_prompts(Path(prompts) if prompts else None), limit)
    picture = _writable(plot)
    target = json_target(json)

    loaded, workload = load_workload(model, prompts or DEFAULT_NAME, lines, max_tokens, raw)
    plan = Plan(workload, batches, max_tokens, repeats)
    llm = bench_llm(loaded, plan, executor=executor, threads=threads, quant=quant, kv_cache=kv_cache)
    contenders = contenders_of(llm, plan, specs, peers, threads)
    screen = Console(stderr=True, highlight=False)
    try:
        with share_bar(screen) as progress:
            cells = prepare(plan, contenders, progress)
        for contender in contenders:
            faults = {cells[contender.name, size].fault for size in batches}
            for fault in sorted(filter(None, faults)):
                say(f"{contender.name} {fault}")
        ready = [c for c in contenders if any(cells[c.name, size].fault is None for size in batches)]
        for line in tables.opening(plan, llm, ready, expected_seconds(plan, cells)):
            screen.print(line, soft_wrap=True)
        with share_bar(screen) as progress:
            rates = measure(plan, contenders, cells, progress, MemoryBus(llm.executor.threads).rate)
    finally:
        for contender in contenders:
            contender.close()

    report = BenchReport(
        plan,
        cells,
        names=tuple(contender.name for contender in contenders),
        methods=tuple(specs),
        lossless=tuple(c.name for c in contenders if c.lossless and c.name != BASELINE),
        plain=plain_token(llm, plan),
        bus=rates,
    )
    shown = screen if json == "-" else Console(highlight=False)
    for table in tables.main_tables(report, shown.width):
        shown.print()
        shown.print(table)
    for part in tables.category_tables(report):
        shown.print(part)
    for note in tables.notes(report):
        shown.print(note, soft_wrap=True, markup=False)
    if picture is not None:
        picture.write_text(bench_svg(report, llm), encoding="utf-8")
    if target is not None:
        head = {
            "model": llm.title,
            "machine": llm.machine.as_json(),
            "executor": llm.executor.name,
            "threads": llm.executor.threads,
            "details": {contender.name: contender.detail for contender in contenders},
            "tried": {contender.name: contender.tried for contender in contenders if isinstance(contender, Peer)},
        }
        print(dumps(head | report.as_json()), file=target, flush=True)


def batch_sizes(text: str) -> tuple[int, ...]:
    """Whole numbers, separated by commas. Raises RidgewayError."""
    from ridgeway.core.errors import RidgewayError

    sizes = [part.strip() for part in text.split(",") if part.strip()]
    if not sizes or not all(size.isdecimal() and int(size) >= 1 for size in sizes):
        raise RidgewayError(f"--batch {text}: expected whole numbers of at least 1, such as 1,8")
    return tuple(dict.fromkeys(map(int, sizes)))


def check_peers(text: str) -> list[str]:
    """Names of peers, separated by commas. Raises RidgewayError."""
    from ridgeway.bench.peers import PEERS
    from ridgeway.core.errors import RidgewayError, did_you_mean

    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in PEERS:
            raise RidgewayError(f"there is no peer {name!r}: {did_you_mean(name, PEERS)}")
    return names


def _writable(path: str | None) -> "Path | None":
    """The file of the picture, opened once before any work."""
    from pathlib import Path

    from ridgeway.core.errors import RidgewayError

    if path is None:
        return None
    try:
        Path(path).open("a").close()
    except OSError as error:
        raise RidgewayError(f"--plot {path}: cannot be written: {error.strerror}") from error
    return Path(path)
