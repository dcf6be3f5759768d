"""`ridgeway roof` as a person meets it."""

import json
import subprocess
import sys

import pytest


def roof(*arguments):
    command = [sys.executable, "-c", "from ridgeway.cli import main; main()", "roof", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_62_thousand_and_the_209_come_from_the_command():
    done = roof("--params", "8e9", "--dtype", "bf16", "--on", "h100", "--method", "autoregressive")
    assert done.returncode == 0, done.stderr
    assert "memory allows 209 tok/s" in done.stdout
    assert "arithmetic 61,800 (295x)" in done.stdout


def test_json_holds_what_is_asked_of_every_method(tmp_path):
    target = tmp_path / "roof.json"
    done = roof(
        "llama-3.1-8b", "--on", "h100", "--price", "2", "--json", str(target), "--plot", str(tmp_path / "r.svg")
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(target.read_text())["predictions"]
    assert {
        "autoregressive",
        "speculative",
        "self-speculative",
        "lookahead",
        "masked-diffusion",
        "block-diffusion",
    } <= {item["method"] for item in found}
    assert {"bf16", "int8", "llm.int8", "4-bit"} <= {item["precision"] for item in found}
    for item in found:
        assert {"flops", "bytes", "intensity", "ridge", "regime", "memory", "utilization", "limit"} <= set(item)
        assert item["floor"]["per_token"] <= item["estimate"]["per_token"]
        assert item["estimate"]["dollars"] > 0
        assert item["memory"]["largest_batch"] > 1
    picture = (tmp_path / "r.svg").read_text()
    assert "block-diffusion" in picture
    assert "prefill" in picture


def test_a_sweep_and_a_comparison_are_tables(tmp_path):
    swept = roof("llama-3.1-8b", "--on", "h100", "--sweep", "batch=1..64", "--json", "-")
    told = json.loads(swept.stdout.splitlines()[-1])["sweep"]
    assert [row["batch"] for row in told] == [1, 2, 4, 8, 16, 32, 64]
    compared = roof("llama-3.1-8b", "--on", "h100", "--compare", "h200,l4")
    assert compared.returncode == 0
    for name in ("H100", "H200", "L4"):
        assert name in compared.stdout


def test_a_machine_from_a_file_works(tmp_path):
    (tmp_path / "mine.toml").write_text(
        "name = 'mine'\n[memory]\nphysical = 24\nbandwidth = 800\n[peaks]\nbf16 = 100\n"
    )
    done = roof("llama-3.2-1b", "--on", str(tmp_path / "mine.toml"))
    assert done.returncode == 0, done.stderr
    assert "mine" in done.stdout


def test_a_table_of_measurements_is_reported_against_the_gate(tmp_path):
    (tmp_path / "rows.csv").write_text(
        "id,model,precision,hardware,engine,batch,prompt_len,output_len,metric,tok_s\n"
        "a,Llama-3-8B,F16,RTX 4090,llama.cpp b6918,1,0,128,decode_tok_s,55\n"
        "b,Llama-3-8B,F16,Abacus,llama.cpp b6918,1,0,128,decode_tok_s,55\n"
    )
    done = roof("--validate", str(tmp_path / "rows.csv"), "--json", str(tmp_path / "report.json"))
    assert done.returncode == 0, done.stderr
    assert "NOT passed" in done.stdout  # half of the rows were refused
    assert "Abacus" in done.stdout
    assert json.loads((tmp_path / "report.json").read_text())["result"]["coverage"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["llama-3.1-9b", "--on", "h100"], "did you mean llama-3.1-8b"),
        (["llama-3.1-8b", "--on", "h1000"], "did you mean h100"),
        (["llama-3.1-8b", "--on", "nowhere.toml"], "cannot be read"),
        (["tests/golden", "--on", "h100"], "has no config.json"),
        (["llama-3.1-8b", "--on", "l4", "--batch", "1000"], "leaves room for"),
        (["llama-3.1-70b", "--on", "l4"], "does not fit"),
        (["llama-3.1-8b", "--on", "h100", "--acceptance", "1.2"], "expected 0 to 1"),
        (["llama-3.1-8b", "--on", "h100", "--method", "speculative:acceptance=-1"], "expected 0 to 1"),
        (["llama-3.1-8b", "--on", "h100", "--dtype", "bf61"], "not a precision"),
        (["llama-3.1-8b", "--on", "h100", "--batch", "0"], "concurrency"),
        (["llama-3.1-8b", "--on", "h100", "--sweep", "bach=1..4"], "did you mean batch"),
        (["llama-3.1-8b", "--on", "h100", "--sweep", "acceptance=0..1"], "add --method speculative or"),
        (["llama-3.1-8b", "--on", "h100", "--skew", "-1"], "skew"),
        (["llama-3.1-8b", "--on", "h100", "--engine", "vlm"], "known:"),
        (["llama-3.1-8b", "--on", "h100", "--kv-bits", "7"], "expected 8, 16 or 32"),
        (["--on", "h100"], "a model or --params"),
        (["--validate", "nowhere.csv"], "nowhere.csv: cannot be read: No such file"),
    ],
)
def test_a_wrong_input_is_one_line_and_exit_code_2(arguments, says):
    done = roof(*arguments)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr
    assert says in done.stderr.splitlines()[-1]
