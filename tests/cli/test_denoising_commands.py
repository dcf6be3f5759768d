"""`ridgeway run -m FOLDER` just works for a diffusion model, and says what its steps were worth."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The golden checkpoint of SDAR with a tokenizer of one byte a token."""
    made = tmp_path_factory.mktemp("sdar") / "model"
    shutil.copytree(ROOT / "tests" / "golden" / "sdar", made)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(made / "tokenizer.json"))
    return made


def ridgeway(*arguments):
    command = [sys.executable, "-c", "from ridgeway.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)


def test_a_diffusion_model_runs_by_default_with_a_method_that_it_can_use(folder):
    done = ridgeway("run", "-m", str(folder), "hello", "--max-tokens", "24", "--temperature", "0", "--json", "-")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["method"] == "block-diffusion"
    assert report["reveals"]["revealed"] >= report["tokens"]
    assert "masked positions revealed per stream" in " ".join(done.stderr.split())


def test_what_is_unwise_is_one_line_and_runs(folder):
    done = ridgeway("run", "-m", str(folder), "hello", "--max-tokens", "8", "--method", "block-diffusion:block=8")
    assert done.returncode == 0, done.stderr
    assert "trained with blocks of 4 tokens, and block=8 differs\n" in done.stderr
    assert ".py" not in done.stderr


def test_a_method_that_does_not_fit_is_one_line_that_names_those_that_do(folder):
    done = ridgeway("run", "-m", str(folder), "hello", "--method", "ngram")
    assert done.returncode == 2
    assert "this model can use: block-diffusion" in done.stderr
