"""`ridgeway lab`: the memory wall as a page, served on this machine or written to one file."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ridgeway.lab.catalog import Catalog, Subject
    from ridgeway.lab.runs import Runner

_MODELS = "8b,llama-3.1-70b,qwen3-30b-a3b"
_MACHINES = "h100,b200,rtx-4090"
_PRECISIONS = "bf16,4-bit"


def lab(
    model: Annotated[
        str,
        typer.Option("-m", "--model", help="What to begin with: a well-known name, 8b, a config.json, a .gguf file."),
    ] = "8b",
    on: Annotated[
        str, typer.Option("--on", help="A machine to begin with: h100, a .toml file, or `this` one.")
    ] = "h100",
    precision: Annotated[
        str | None, typer.Option("--precision", "--dtype", help="bf16, 4-bit ...; `as run`: as this machine runs it.")
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Where to serve, on this machine only.")] = 8321,
    browser: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    export: Annotated[
        str | None, typer.Option("--export", help="Instead of serving: write one file that works offline.")
    ] = None,
    models: Annotated[
        str | None, typer.Option("--models", help=f"What the file holds besides: names or files, such as {_MODELS}.")
    ] = None,
    machines: Annotated[str | None, typer.Option("--machines", help=f"Likewise, such as {_MACHINES}.")] = None,
    precisions: Annotated[str | None, typer.Option("--precisions", help=f"Likewise, such as {_PRECISIONS}.")] = None,
    runs: Annotated[
        str | None, typer.Option("--runs", help="Reports of `ridgeway run --json FILE`, one a line, shown as dots.")
    ] = None,
) -> None:
    """See the memory wall and move it: six figures for any model and machine, all of them out of the cost model."""
    from pathlib import Path

    from ridgeway.core.errors import RequestError
    from ridgeway.lab.catalog import AS_RUN, THIS, Catalog, Subject
    from ridgeway.lab.runs import Runner, points_of_reports

    runner = Runner()
    catalog = Catalog(as_run=runner.predictor)
    name, where = catalog.enter_model(model), catalog.enter_machine(on)
    if precision is None:
        precision = AS_RUN if where == THIS and name in runner.models else "bf16"
    start = Subject(name, where, catalog.enter_precision(precision))
    catalog.predictor(start)
    if runs is not None:
        try:
            runner.points += points_of_reports(Path(runs).read_text(), runs)
        except OSError as error:
            raise RequestError(f"--runs {runs}: cannot be read: {error.strerror}") from error
    if export is not None:
        _export(export, catalog, subjects_of(catalog, start, models, machines, precisions), runner.points)
        return
    _serve(catalog, start, runner, port, browser)


def subjects_of(
    catalog: "Catalog", start: "Subject", models: str | None, machines: str | None, precisions: str | None
) -> "list[Subject]":
    """What an exported page holds: `start`, and all combinations of what is listed. A list that is None is the usual
    one where `start` is of it, else nothing: who asks for something of his own gets that, and a small file.
    """
    from itertools import product

    from ridgeway.lab.catalog import Subject

    def listed(text: str | None, usual: str, own: str) -> list[str]:
        text = (usual if own in usual.split(",") else "") if text is None else text
        return [own, *(name.strip() for name in text.split(",") if name.strip())]

    found = product(
        [catalog.enter_model(name) for name in listed(models, _MODELS, start.model)],
        [catalog.enter_machine(name) for name in listed(machines, _MACHINES, start.machine)],
        [catalog.enter_precision(name) for name in listed(precisions, _PRECISIONS, start.precision)],
    )
    return list(dict.fromkeys(Subject(*names) for names in found))


def _export(path: str, catalog: "Catalog", subjects: "list[Subject]", points: "list[Any]") -> None:
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress

    from ridgeway.core.errors import RequestError
    from ridgeway.lab.page import exported_page
    from ridgeway.roofline.host import allowed_cores

    if not Path(path).absolute().parent.is_dir():
        raise RequestError(f"--export {path}: there is no folder {Path(path).parent}")
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("predicting", total=len(subjects))

        def show(done: int, of: int) -> None:
            bar.update(task, completed=done)

        page = exported_page(catalog, subjects, points, show, allowed_cores())
    try:
        Path(path).write_text(page)
    except OSError as error:
        raise RequestError(f"--export {path}: cannot be written: {error.strerror}") from error
    typer.echo(f"{path}: {len(subjects)} of model, machine and precision in {len(page.encode()) / 1e3:,.0f} kB")


def _serve(catalog: "Catalog", start: "Subject", runner: "Runner", port: int, browser: bool) -> None:
    from contextlib import closing
    from socket import AF_INET, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, socket

    from ridgeway.core.errors import RequestError

    try:
        import uvicorn

        from ridgeway.lab.server import make_app
    except ImportError as error:
        raise RequestError(
            f"serving the page needs {error.name}: pip install 'ridgeway[serve]'; --export FILE does without"
        ) from None

    with closing(socket(AF_INET, SOCK_STREAM)) as probe:
        probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise RequestError(f"--port {port}: cannot be listened on: {error}; name another one") from error
    app = make_app(catalog, start, runner)
    address = f"http://127.0.0.1:{port}/"
    typer.echo(f"{address}  (Ctrl-C ends it)", err=True)
    if browser:
        from threading import Timer
        from webbrowser import open as open_browser

        Timer(1.0, open_browser, [address]).start()
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
