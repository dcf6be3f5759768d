"""The toy that comes with Ridgeway: what it is, and that it writes sentences."""

import subprocess
import sys

import pytest

from ridgeway import SamplingParams
from ridgeway.models.loading import load_model
from ridgeway.models.shipped import SHIPPED
from ridgeway.testing import toy_llm
from ridgeway.training.grammar import ANIMALS
from ridgeway.training.recipe_file import RECIPES

TOY = "toy-diffusion"


def written(count, method, temperature=1.0):
    llm = toy_llm(TOY)
    begin = llm.tokenizer.encode("")
    params = [SamplingParams(temperature=temperature, seed=seed, max_tokens=47) for seed in range(count)]
    outputs = llm.generate([begin] * count, params, method=method)
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    streams = sum(output.metrics.weight_streams for output in outputs)
    return [output.outputs[0].text for output in outputs], tokens / streams


def test_it_is_found_by_name_and_is_what_other_engines_know_as_sdar():
    model = load_model(TOY)
    assert model.name == TOY
    assert (model.config.architecture, model.config.attention) == ("sdar", "block")
    assert model.config.mask_id is not None


def test_it_is_small():
    assert sum(path.stat().st_size for path in SHIPPED[TOY].folder.iterdir()) < 3_000_000


def test_the_recipe_that_made_it_is_the_one_that_comes_with_the_package():
    assert (SHIPPED[TOY].folder / "recipe.toml").read_text() == (RECIPES / f"{TOY}.toml").read_text()


def test_most_of_what_it_writes_is_a_sentence():
    texts, pace = written(24, "block-diffusion:reveal=confidence")
    assert sum(map(ANIMALS.accepts, texts)) >= 20
    assert len(set(texts)) > 20
    assert pace <= 1.0


def test_several_tokens_a_step_are_fewer_weight_streams():
    _, alone = written(6, "block-diffusion:reveal=confidence")
    texts, together = written(6, "block-diffusion:threshold=0.8")
    assert together > 1.2 * alone
    assert any(map(ANIMALS.accepts, texts))


@pytest.mark.slow
def test_one_token_a_step_more_than_19_of_20_sentences_are_right():
    texts, _ = written(400, "block-diffusion:reveal=confidence")
    assert sum(map(ANIMALS.accepts, texts)) / len(texts) > 0.95


def test_a_run_says_that_it_is_a_toy():
    code = "from ridgeway.cli import main; main()"
    arguments = ["run", "-m", TOY, "--method", "block-diffusion", "--max-tokens", "8"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert "a toy" in done.stderr
    assert "\x1b" not in done.stdout
