"""Training as a whole: it learns, goes on where it was interrupted, and leaves what the ordinary loader reads."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ridgeway.cli import app
from ridgeway.core.errors import RequestError, RidgewayError
from ridgeway.core.traits import LogitShift
from ridgeway.models.loading import load_model
from ridgeway.testing import toy_llm
from ridgeway.training.byte_tokenizer import byte_tokenizer
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


@torch.no_grad()
def logits_of(decoder, tokens, rule):
    positions = np.arange(len(tokens))
    sees = torch.from_numpy(rule.matrix(positions))
    return decoder(torch.tensor([tokens]), torch.from_numpy(positions), sees)[0].numpy()


def reads_back(trainer):
    """The saved folder gives the logits of the decoder that was trained, through the ordinary loader."""
    model = load_model(trainer.save("float32"))
    tokens = np.random.default_rng(1).integers(0, model.config.vocab_size - 1, 19).tolist()
    found = toy_llm(model).logits(tokens)
    assert np.abs(found - logits_of(trainer.model.decoder, tokens, model.config.traits.visibility)).max() < 1e-4
    return model


def test_a_new_model_is_saved_as_what_the_loader_knows_as_sdar(tmp_path):
    trainer = Trainer(recipe_in(tmp_path, BLOCKS), tmp_path / "out")
    list(trainer.run(until=3))
    model = reads_back(trainer)
    assert (model.config.architecture, model.config.attention, model.config.block_size) == ("sdar", "block", 4)
    assert model.config.logit_shift is LogitShift.IN_PLACE
    assert model.tokenizer.token(model.config.mask_id) == "<|mask|>"
    assert model.tokenizer.token(model.config.end_ids[0]) == "<|end|>"
    text = "the dog sees two cats."
    assert model.tokenizer.decode(model.tokenizer.encode(text)) == text
    assert "<svg" in (tmp_path / "out" / "loss.svg").read_text()


@pytest.mark.parametrize(
    ("checkpoint", "objective", "attention", "shift"),
    [
        ("llama_tied", BLOCKS, "block", LogitShift.IN_PLACE),
        ("qwen2", 'attention = "block"\nblock_size = 8\nlogit_shift = "next"', "block", LogitShift.NEXT),
        ("qwen3", 'attention = "bidirectional"', "bidirectional", LogitShift.IN_PLACE),
        (
            "llama_untied",
            'attention = "causal-block"\nblock_size = 4\ncausal_weight = 1',
            "causal-block",
            LogitShift.NEXT,
        ),
        ("mistral", 'attention = "bidirectional"\nlogit_shift = "next"', "bidirectional", LogitShift.NEXT),
    ],
)
def test_an_autoregressive_checkpoint_becomes_a_diffusion_model(tmp_path, checkpoint, objective, attention, shift):
    source = with_tokenizer(tmp_path, checkpoint)
    recipe = recipe_in(tmp_path, objective, model=f'[model]\nfrom = "{source}"', length=60)
    trainer = Trainer(recipe, tmp_path / "out")
    before = load_model(source).config
    list(trainer.run(until=3))
    config = reads_back(trainer).config
    assert (config.attention, config.logit_shift) == (attention, shift)
    assert config.vocab_size in (before.vocab_size, before.vocab_size + 1)
    assert (config.rope_theta, config.rope_scaling, config.windows) == (
        before.rope_theta,
        before.rope_scaling,
        before.windows,
    )


def test_low_rank_changes_are_saved_merged(tmp_path):
    source = with_tokenizer(tmp_path, "llama_tied")
    start = f'[model]\nfrom = "{source}"\nlora_rank = 2'
    trainer = Trainer(recipe_in(tmp_path, BLOCKS, model=start, length=60), tmp_path / "out")
    before = weights_of(trainer)
    list(trainer.run(until=6))
    after, mask = weights_of(trainer), trainer.model.mask_id
    assert trainer.trained_parameters < trainer.config.parameters
    assert not torch.equal(after["layers.0.q"], before["layers.0.q"])
    assert not torch.equal(after["embed"][mask], before["embed"][mask])
    assert torch.equal(after["embed"][:mask], before["embed"][:mask])
    assert torch.equal(after["final_norm"], before["final_norm"])
    reads_back(trainer)


def with_tokenizer(folder, checkpoint):
    """A golden checkpoint beside a tokenizer of bytes; the goldens have none."""
    target = folder / checkpoint
    shutil.copytree(GOLDEN / checkpoint, target)
    byte_tokenizer().save(str(target / "tokenizer.json"))
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"eos_token_id": 257}))
    return target


def test_a_mask_that_the_vocabulary_lacks_is_added_to_it(tmp_path):
    source = with_tokenizer(tmp_path, "llama_tied")
    size = load_model(source).config.vocab_size
    start = f'[model]\nfrom = "{source}"\nmask_token = "<|unknown|>"'
    trainer = Trainer(recipe_in(tmp_path, BLOCKS, model=start, length=60), tmp_path / "out")
    model = load_model(trainer.save())
    assert model.config.mask_id == model.tokenizer.backend.token_to_id("<|unknown|>") == 259
    assert model.config.vocab_size == max(size, 260)


def test_a_prompt_is_never_masked(tmp_path):
    (tmp_path / "chats.jsonl").write_text('{"prompt": "ab", "answer": "cd"}\n{"text": "efg"}\n')
    trainer = Trainer(recipe_in(tmp_path, BLOCKS, source=tmp_path / "chats.jsonl", length=8), tmp_path / "out")
    batch = trainer.corpus.collate(trainer.corpus.documents)
    begin, end = 258, 257
    assert batch.tokens.tolist() == [
        [begin, *b"abcd", end, end, end],
        [begin, *b"efg", end, end, end, end],
    ]
    assert batch.maskable.sum(dim=1).tolist() == [5, 7]


def test_a_text_is_learned_in_windows_from_anywhere_in_it(tmp_path):
    (tmp_path / "book.txt").write_text("abcdefghijklmnopqrstuvwxyz")
    trainer = Trainer(recipe_in(tmp_path, BLOCKS, source=tmp_path / "book.txt", length=6), tmp_path / "out")
    rows = trainer.corpus.batch(50, 0, 0).tokens
    assert (rows.diff(dim=1) == 1).all()
    assert len({int(row[0]) for row in rows}) > 10


@pytest.mark.parametrize(
    ("objective", "source", "length", "model", "message"),
    [
        ('attention = "sideways"', "animals", 48, NEW, "one of block, causal-block, bidirectional"),
        ("", "animals", 48, NEW, "block_size is missing"),
        ("block_size = 0", "animals", 48, NEW, "block_size is 0"),
        ("block_size = 4\nblok = 3", "animals", 48, NEW, "no such key; known are also, attention"),
        ('block_size = 4\nalso = ["half"]', "animals", 48, NEW, "for the whole text"),
        ("block_size = 4\ntimes = [0.9, 0.1]", "animals", 48, NEW, "0 < low <= high"),
        ("block_size = 4\ncausal_weight = 1", "animals", 48, NEW, "no clean rows see causally"),
        ("block_size = 4", "animals", 16, NEW, "expected at least 48"),
        ("block_size = 4", "nowhere.txt", 48, NEW, "expected a grammar"),
        ("block_size = 4", "animals", 48, NEW + "lora_rank = 4", "nothing to be changed"),
        ("block_size = 4", "animals", 48, '[model]\nfrom = "nowhere/x"', "no such file or folder|cannot"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_before_any_work(
    tmp_path, objective, source, length, model, message
):
    with pytest.raises(RidgewayError, match=message):
        Trainer(recipe_in(tmp_path, objective, model=model, source=source, length=length), tmp_path / "out")


def test_the_command_trains_and_says_how_to_go_on(tmp_path):
    recipe_in(tmp_path, BLOCKS)
    command = ["train", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "out")]
    first = CliRunner().invoke(app, [*command, "--steps", "2"])
    assert first.exit_code == 0, first.output
    assert "10 steps are left" in first.output
    second = CliRunner().invoke(app, command)
    assert "step 2 of 12" in second.output
    assert load_model(tmp_path / "out" / "model").config.mask_id == 256


def test_the_documented_recipes_can_be_followed(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    whole, start, head = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "documented.toml"
    path.write_text(whole)
    assert read_recipe(path).reading.block_size == 4
    path.write_text(start + whole[whole.index("[data]") :])
    assert read_recipe(path).start.lora_rank == 16
    path.write_text(head)
    assert read_recipe(path).texts.prompts == "prompts.jsonl"
