"""What the README shows works: its Python runs, its commands exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
MODEL_OF_ONES_OWN = "~/models/"


@pytest.mark.parametrize("code", PYTHON)
def test_python_in_the_readme_runs(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("make") and MODEL_OF_ONES_OWN not in c])
def test_commands_in_the_readme_run(command):
    program, *arguments = shlex.split(command)
    if program.endswith("ridgeway"):
        run = [sys.executable, "-c", "from ridgeway.cli import main; main()", *arguments]
        if arguments[0] == "run":
            run += ["--max-tokens", "8"]
    else:
        run = [sys.executable, *arguments]
    done = subprocess.run(run, capture_output=True, text=True, input="", check=False, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_make_targets_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_layout_in_the_readme_is_the_layout():
    tree = re.search(r"```text\nsrc/ridgeway/\n(.*?)```", README, re.DOTALL).group(1)
    named = set(re.findall(r"^  (\w+)(?:/|\.py) ", tree, re.MULTILINE))
    here = {path.stem for path in (ROOT / "src/ridgeway").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert named == {name for name in here if not name.startswith("__") and name != "py"}


def test_every_document_is_in_the_index():
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f"(docs/{path.name})" not in README] == []


def test_what_one_sees_was_captured():
    assert "CAPTURE" not in README
    assert "<- the wall" in README
