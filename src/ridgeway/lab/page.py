"""The page as HTML: served, it names its parts; exported, it holds them, with tables, in one file.

The same modules run in both. A browser loads no module from a file's neighbours, so in the exported page an import map
gives each of them as a data address.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from html import escape
from importlib.resources import files
from multiprocessing import get_context
from typing import Any

from ridgeway.core.errors import RequestError
from ridgeway.lab.catalog import Catalog, Subject
from ridgeway.lab.figures import FIGURES
from ridgeway.lab.packing import pack
from ridgeway.roofline.predict import Predictor

LARGEST = 1_000_000  # bytes of an exported page
_STATIC = files("ridgeway.lab") / "static"
STYLE = "style.css"
ICON = "icon.svg"


def modules() -> list[str]:
    """File names of the page's JavaScript."""
    return sorted(item.name for item in _STATIC.iterdir() if item.name.endswith(".js"))


def static(name: str) -> str:
    return (_STATIC / name).read_text()


def boot(catalog: Catalog, start: Subject, subjects: Sequence[Subject] | None = None) -> dict[str, Any]:
    """What the page must know before it can draw: what may be chosen, the sliders' stops, where to begin.

    subjects: None: all there are.
    """
    chosen = None if subjects is None else list(subjects)
    precisions = catalog.precisions()
    if chosen is not None:
        kept = {subject.precision for subject in chosen}
        precisions = [row for row in precisions if row["name"] in kept]
    return {
        "start": asdict(start),
        "models": catalog.described_models(None if chosen is None else (subject.model for subject in chosen)),
        "machines": catalog.described_machines(None if chosen is None else (subject.machine for subject in chosen)),
        "precisions": precisions,
        "figures": {
            figure.name: {"chosen": _listed(figure.chosen), "within": _listed(figure.within)}
            for figure in FIGURES.values()
        },
        "runs": [],
        "runnable": [],
    }


def served_page(told: Mapping[str, Any]) -> str:
    """told: of `boot`."""
    imports = {f"lab/{name.removesuffix('.js')}": f"/static/{name}" for name in modules()}
    style = f'<link rel="stylesheet" href="/static/{STYLE}">'
    icon = f"/static/{ICON}"
    return _filled(style, icon, imports, {**told, "served": True})


def exported_page(
    catalog: Catalog,
    subjects: Sequence[Subject],
    runs: Iterable[Mapping[str, Any]] = (),
    progress: Callable[[int, int], None] = lambda done, of: None,
    processes: int = 1,
) -> str:
    """One file with all tables of these subjects, the first of which it begins with.

    progress: called with the number of subjects done, and of all. processes: that ask the cost model. Raises
    RequestError if the page would be larger than `LARGEST`, and RidgewayError for a subject without prediction.
    """
    predictors = [catalog.predictor(subject) for subject in subjects]
    told = {**boot(catalog, subjects[0], subjects), "served": False, "runs": list(runs), "tables": []}
    bare = len(_offline(told))
    with _mapping(min(processes, len(subjects))) as mapping:
        for number, packed in enumerate(mapping(_packed, predictors)):
            progress(number + 1, len(subjects))
            told["tables"].append({**asdict(subjects[number]), "figures": packed})
            _check_size(bare, len(_plain(told["tables"])), number + 1, len(subjects))
    return _offline(told)


def _packed(predictor: Predictor) -> dict[str, Any]:
    """All tables of all figures."""
    return {
        name: pack([figure.table(predictor, position) for position in figure.positions()])
        for name, figure in FIGURES.items()
    }


@contextmanager
def _mapping(processes: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map`, over so many processes; they are begun anew, as threads of kernels do not survive a fork."""
    if processes == 1:
        yield map
        return
    pool = ProcessPoolExecutor(processes, get_context("spawn"))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _check_size(bare: int, tables: int, done: int, of: int) -> None:
    if bare + tables > LARGEST:
        room = max(0, int((LARGEST - bare) / (tables / done)))
        those = f"{room} combination" + ("" if room == 1 else "s")
        raise RequestError(
            f"a page of at most {LARGEST / 1e6:g} MB holds about {those} of model, machine and precision, not {of}: "
            "name fewer"
        )


def _offline(told: Mapping[str, Any]) -> str:
    imports = {f"lab/{name.removesuffix('.js')}": _address("text/javascript", static(name)) for name in modules()}
    return _filled(f"<style>\n{static(STYLE)}</style>", _address("image/svg+xml", static(ICON)), imports, told)


def _filled(style: str, icon: str, imports: Mapping[str, str], told: Mapping[str, Any]) -> str:
    page = static("index.html")
    for mark, text in {
        "<!-- style -->": style,
        "<!-- icon -->": f'<link rel="icon" href="{escape(icon)}">',
        "<!-- imports -->": f'<script type="importmap">{_plain({"imports": imports})}</script>',
        "<!-- boot -->": f'<script type="application/json" id="boot">{_plain(told)}</script>',
    }.items():
        assert page.count(mark) == 1, mark
        page = page.replace(mark, text)
    return page


def _plain(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _address(kind: str, text: str) -> str:
    return f"data:{kind};base64,{b64encode(text.encode()).decode()}"


def _listed(stops: Mapping[str, tuple[float, ...]]) -> dict[str, list[float]]:
    return {name: list(values) for name, values in stops.items()}
