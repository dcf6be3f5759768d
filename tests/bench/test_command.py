"""`ridgeway bench` as a person meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def ridgeway(*arguments):
    command = [sys.executable, "-c", "from ridgeway.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)


def test_it_teaches_itself():
    done = ridgeway("bench", "--help")
    assert done.returncode == 0
    assert "--against" in done.stdout


def test_a_bench_shows_a_card_and_a_table_and_ends_with_one_line_of_json(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    lines = [{"prompt": "Say hello.", "category": "chat"}, {"prompt": "Count.", "category": "list"}]
    prompts.write_text("\n".join(map(json.dumps, [*lines, *lines])))
    picture = tmp_path / "runs.svg"
    asked = ["--methods", "ar", "--batch", "1,2", "--max-tokens", "3", "--repeats", "2", "--limit", "1"]
    done = ridgeway("bench", *asked, "--prompts", str(prompts), "--plot", str(picture), "--json", "-")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [(row["name"], row["batch"]) for row in found["results"]] == [("ar", 1), ("ar", 2)]
    assert found["prompts"]["count"] == 2
    for row in found["results"]:
        assert row["fault"] is None
        assert len(row["decode_tokens_per_second"]["repeats"]) == 2
        assert set(row["categories"]) == {"chat", "list"}
        assert 0 < row["roof_fraction"] <= 1
    for words in ("SmolLM2", "2 prompts of 2 kinds", "prefix cache off", "tok/s of a sequence"):
        assert words in done.stderr, words
    assert picture.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--methods", "arr"], "did you mean ar"),
        (["--batch", "0"], "--batch 0"),
        (["--batch", "one"], "--batch one"),
        (["--against", "llama"], "did you mean llama"),
        (["--prompts", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--prompts", "README.md"], "README.md, line 1"),
        (["--plot", "/nowhere/at/all.svg"], "cannot be written"),
        (["--json", "/nowhere/at/all.json"], "cannot be written"),
        (["-m", "tests/golden/qwen2"], "no tokenizer"),
        (["--max-tokens", "100000"], "exceed the"),
    ],
)
def test_a_wrong_input_is_one_line_and_exit_code_2(arguments, says):
    done = ridgeway("bench", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert says in done.stderr.splitlines()[-1]
