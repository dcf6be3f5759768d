"""`ridgeway lab`: what it refuses before any work."""

import re
import socket
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ridgeway.cli import app
from ridgeway.cli.lab import subjects_of
from ridgeway.core.errors import RidgewayError
from ridgeway.lab.catalog import Catalog, Subject
from ridgeway.lab.server import make_app

DOCS = Path(__file__).parent.parent.parent / "docs"


def refusal(line):
    done = CliRunner().invoke(app, ["lab", *line.split()])
    assert isinstance(done.exception, RidgewayError), done.output
    return str(done.exception)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("-m lama-3.1-8b", "llama-3.1-8b"),
        ("--on h10", "did you mean h100"),
        ("--precision bf61", "did you mean bf16"),
        ("--export page.html --machines h100,h20O", "h200"),
        ("--export page.html --models 8b,qwen3-8", "qwen3-8b"),
        ("--export nowhere/page.html", "there is no folder nowhere"),
        ("--runs nowhere.jsonl", "--runs nowhere.jsonl: cannot be read"),
    ],
)
def test_what_is_wrong_is_said_with_what_would_do(line, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refusal(line)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("start", "lists", "count"),
    [
        (("8b", "h100", "bf16"), (None, None, None), 18),
        (("smollm2-135m", "this", "bf16"), (None, None, None), 2),
        (("8b", "l4", "int8"), (None, None, None), 3),
        (("8b", "h100", "bf16"), ("8b,1b", "h100,l4", "bf16"), 4),
        (("8b", "h100", "bf16"), ("", "", ""), 1),
    ],
)
def test_a_file_holds_what_it_begins_with_and_what_is_listed(start, lists, count):
    found = subjects_of(Catalog(), Subject(*start), *lists)
    assert len(found) == count
    assert found[0] == Subject(*start)


def test_a_port_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--port {port}: cannot be listened on" in refusal(f"--port {port}")


def test_without_the_extra_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "pip install 'ridgeway[serve]'" in refusal("")


def test_the_docs_name_options_and_endpoints_that_exist_and_pictures_that_are_small():
    text = (DOCS / "lab.md").read_text()
    pictures = re.findall(r"\]\((images/[^)]+)\)", text)
    assert len(pictures) == 9
    assert all((DOCS / name).stat().st_size < 150_000 for name in pictures)
    asked = CliRunner().invoke(app, ["lab", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    lines = [line.partition("#")[0] for line in text.splitlines() if line.startswith("ridgeway lab")]
    assert len(lines) == 4
    for option in re.findall(r"(?<= )--?[a-z]+", " ".join(lines) + " `--models`, `--machines`, `--precisions`"):
        assert option in asked, option
    routes = {route.path for route in make_app(Catalog(), Subject("8b", "h100", "bf16")).routes}
    for path in re.findall(r"(?:GET|POST) (/api/[a-z]+)", text):
        assert any(route.startswith(path) for route in routes), path
