"""Imports go one way, and a newcomer who knows this table knows where any line lives."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ridgeway

ROOT = Path(ridgeway.__file__).parent
BELOW = {
    "core": set(),
    "quant": {"core"},
    "models": {"core", "quant"},
    "roofline": {"core", "quant", "models"},
    "cache": {"core"},
    "kernels": {"core", "quant"},
    "executors": {"core", "quant", "models", "kernels", "cache"},
    "methods": {"core", "quant", "models", "roofline"},
    "engine": {"core", "cache", "quant", "models", "roofline"},
}
BELOW["llm"] = set(BELOW)
BELOW["testing"] = BELOW["bench"] = BELOW["lab"] = BELOW["serving"] = BELOW["training"] = {
    *BELOW["llm"],
    "llm",
}
BELOW["cli"] = set(BELOW)


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def modules():
    return sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem == "llm")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_below(path):
    layer = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert layer in BELOW, f"{layer} has no place in the table of imports"
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "ridgeway" and len(parts) > 1:
            allowed = {layer, *BELOW[layer]}
            assert parts[1] in allowed, f"{path.relative_to(ROOT)} imports {name}; {layer} may import {sorted(allowed)}"


def test_no_module_imports_torch():
    named = {path: set(imports_of(path)) for path in modules() if path.relative_to(ROOT).parts[0] != "training"}
    assert not [path for path, names in named.items() if any(name.split(".")[0] == "torch" for name in names)]


def test_help_loads_nothing_heavy():
    """What makes `ridgeway --help` slow is importing; a list of modules is a steadier check than a clock."""
    code = "import sys, ridgeway.cli; print(*sorted(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {
        "numpy",
        "numba",
        "tokenizers",
        "huggingface_hub",
        "jinja2",
        "rich.progress",
        "torch",
    }


def test_no_two_test_files_share_a_name():
    """pytest takes a test file outside a package by its bare name: a second one of that name cannot be collected."""
    names = [path.name for path in Path(__file__).parent.rglob("*.py")]
    assert sorted(set(names)) == sorted(names)
