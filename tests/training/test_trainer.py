"""Training as a whole: it learns, goes on where it was interrupted, and leaves a folder that the ordinary loader reads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ridgeway.core.errors import RequestError
from ridgeway.core.traits import LogitShift
from ridgeway.models.loading import load_model
from ridgeway.testing import toy_llm
from ridgeway.training.recipe import read_recipe
from ridgeway.training.trainer import Trainer

GOLDEN = Path(__file__).parents[1] / "golden"

NEW = """
[model]
hidden = 32
layers = 2
heads = 4
kv_heads = 2
head_dim = 8
intermediate = 48
"""
TRAINING = """
[training]
steps = 12
batch = 4
learning_rate = 1e-2
checkpoint_every = 4
threads = 1
"""


def recipe_in(folder, objective, model=NEW, source="animals", length=48, training=TRAINING):
    path = folder / "recipe.toml"
    data = f'[data]\nsource = "{source}"\nlength = {length}\n'
    path.write_text(f"seed = 7\n{model}\n{data}\n[objective]\n{objective}\n{training}")
    return read_recipe(path)


BLOCKS = 'attention = "block"\nblock_size = 4\nalso = [1, "whole"]\ncomplementary = true\ntimes = [0.1, 0.9]'


def weights_of(trainer):
    return {name: weight.clone() for name, weight in trainer.model.decoder.weights().items()}


def test_the_loss_falls(tmp_path):
    trainer = Trainer(recipe_in(tmp_path, BLOCKS), tmp_path / "out")
    losses = [step.loss for step in trainer.run()]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


def test_training_that_was_interrupted_ends_in_the_same_bits(tmp_path):
    recipe = recipe_in(tmp_path, BLOCKS)
    whole = Trainer(recipe, tmp_path / "whole")
    steps = [step.loss for step in whole.run()]

    first = Trainer(recipe, tmp_path / "parts")
    parts = [step.loss for step in first.run(until=5)]
    assert first.done == 5
    again = Trainer(recipe, tmp_path / "parts")
    parts += [step.loss for step in again.run()]

    assert parts == steps
    assert all(torch.equal(weight, weights_of(whole)[name]) for name, weight in weights_of(again).items())
    logged = [json.loads(line)["step"] for line in (tmp_path / "parts" / "loss.jsonl").read_text().splitlines()]
    assert logged == list(range(12))


def test_steps_after_the_last_kept_state_are_done_again(tmp_path):
    recipe = recipe_in(tmp_path, BLOCKS)
    stopped = Trainer(recipe, tmp_path / "out")
    steps = stopped.run()
    for _ in range(6):  # the state is kept after 4
        next(steps)
    steps.close()
    assert Trainer(recipe, tmp_path / "out").done == 4
    assert len((tmp_path / "out" / "loss.jsonl").read_text().splitlines()) == 4


def test_a_state_of_another_recipe_is_refused(tmp_path):
    list(Trainer(recipe_in(tmp_path, BLOCKS), tmp_path / "out").run(until=1))
    other = recipe_in(tmp_path, BLOCKS.replace("4", "8"))
    with pytest.raises(RequestError, match="another recipe"):
        Trainer(other, tmp_path / "out")


def reads_back(trainer, folder, visibility):
    """The saved folder gives the logits of the decoder that was trained, through the ordinary loader."""
    from tests_of_decoder import logits_of

    model = load_model(folder)
    tokens = np.random.default_rng(1).integers(0, model.config.vocab_size - 1, 19).tolist()
    found = toy_llm(model).logits(tokens, visibility)
    assert np.abs(found - logits_of(trainer.model.decoder, tokens, visibility)).max() < 1e-4
    return model
