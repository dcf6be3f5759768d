"""A progress bar of bytes, on standard error so that standard output stays the program's own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def download_bar(what: str, total_bytes: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how many bytes have arrived so far."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(f"fetching {what}", total=total_bytes)
        yield lambda arrived: bar.update(task, completed=min(arrived, total_bytes))
        bar.update(task, completed=total_bytes)
