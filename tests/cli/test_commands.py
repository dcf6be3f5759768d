"""The command line as a person meets it: help, a run, its JSON, and wrong inputs."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ridgeway.cli import app
from ridgeway.cli.generation import COMMANDS as NEXT

ROOT = Path(__file__).parent.parent.parent
KEYS = {
    "model", "method", "machine", "prompt_tokens", "tokens", "token_ids", "text", "weight_streams",
    "tokens_per_forward", "seconds", "bytes", "flops", "intensity", "ridge", "achieved", "roof_fraction", "bound",
    "decode_tokens_per_second", "kv_pool_fraction",
}  # fmt: skip


def ridgeway(*arguments, stdin=""):
    command = [sys.executable, "-c", "from ridgeway.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=300, check=False, cwd=ROOT)


COMMANDS = typer.main.get_command(app).commands


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_itself(command):
    one = ridgeway(command, "--help")
    assert one.returncode == 0
    assert "Options" in one.stdout


def test_the_overview_and_the_readme_name_every_command():
    overview, readme = ridgeway("--help").stdout, (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if f" {name} " not in overview] == []
    assert [name for name in COMMANDS if f"ridgeway {name}" not in readme] == []


def test_what_a_run_says_to_type_next_are_commands():
    assert [line for line in NEXT if line.split()[1] not in COMMANDS] == []


def test_help_holds_no_brackets_which_would_vanish_as_markup():
    for name, command in COMMANDS.items():
        assert [option.name for option in command.params if "[" in (getattr(option, "help", "") or "")] == [], name


def test_a_run_streams_text_shows_the_card_and_ends_with_one_line_of_json():
    prompt = ["run", "Name three colours.", "--max-tokens", "12", "--price", "0.1", "--json", "-"]
    done = ridgeway(*prompt)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert set(report) >= KEYS
    assert {"first_token", "prefill", "decode"} <= set(report["seconds"])
    assert {"weights", "kv", "activations"} <= set(report["bytes"])
    assert {"bytes_per_second", "flops_per_second"} <= set(report["achieved"])
    assert report["tokens"] == len(report["token_ids"]) <= 12
    assert report["text"].strip() in done.stderr
    for words in ("the wall", "each stream", "intensity", "-bound", "per million tokens", "elsewhere"):
        assert words in done.stderr, words
    again = json.loads(ridgeway(*prompt).stdout.splitlines()[-1])
    assert again["token_ids"] == report["token_ids"]  # seed 0 by default


def test_text_alone_goes_to_standard_output():
    done = ridgeway("run", "Say hello.", "--max-tokens", "6", "--temperature", "0", "--raw")
    assert done.returncode == 0, done.stderr
    assert "wall" not in done.stdout
    assert "the wall" in done.stderr


def test_a_conversation_reuses_its_own_cache():
    done = ridgeway("chat", "--max-tokens", "12", stdin="My name is Ada, and I like mathematics.\nWho am I?\n/exit\n")
    assert done.returncode == 0, done.stderr
    reused = [int(n) for n in re.findall(r"(\d+) of \d+ prompt tokens\s+from the cache", done.stderr)]
    assert len(reused) == 2
    assert reused[1] > 16


def test_methods_are_listed_with_what_they_need():
    done = ridgeway("methods")
    assert done.returncode == 0
    assert "ar" in done.stdout
    assert "causal model" in done.stdout


def test_a_machine_from_the_data_sheets_says_so():
    done = ridgeway("machine", "h100")
    assert done.returncode == 0
    assert "data sheet" in done.stdout
    assert "H100" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "-m", "smollm2-135"], "smollm2-135m"),
        (["run", "--method", "arr"], "did you mean ar"),
        (["run", "--temperature", "-1"], "temperature"),
        (["run", "--max-tokens", "0"], "max_tokens"),
        (["run", "--price", "-3"], "price"),
        (["run", "-m", "README.md"], "README.md"),
        (["machine", "h10"], "did you mean h100"),
        (["machine", "h100", "--measure"], "only this machine can be measured"),
        (["run", "-m", "tests/golden/qwen2", "hello"], "no tokenizer"),
        (["run", "--json", "/nowhere/at/all.json"], "cannot be written"),
    ],
)
def test_a_wrong_input_is_one_line_and_exit_code_2(arguments, says):
    done = ridgeway(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert says in done.stderr.splitlines()[-1]


def test_an_interrupt_ends_the_answer_and_what_there_is_is_judged():
    command = [sys.executable, "-c", "from ridgeway.cli import main; main()", "run", "Tell a very long story."]
    process = subprocess.Popen(
        [*command, "--max-tokens", "4000", "--json", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    heard = b""
    while len(heard.partition(b"\n")[2]) < 40:  # the prompt's line, then some text
        heard += process.stderr.read1(64) or pytest.fail("it ended by itself")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    report = json.loads(out.splitlines()[-1])
    assert process.returncode == 130
    assert 0 < report["tokens"] < 4000
    assert b"Traceback" not in err
    assert b"the wall" in err


def test_debug_shows_the_traceback():
    done = ridgeway("run", "--method", "arr", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
