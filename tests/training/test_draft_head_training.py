"""A draft head, trained: from texts that the model writes to a file that the model drafts with."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ridgeway import SamplingParams
from ridgeway.cli import app
from ridgeway.core.errors import RequestError, RidgewayError
from ridgeway.executors.draft_heads import ReferenceUnroller
from ridgeway.models.draft_head import HELD, draft_head_of, load_draft_head
from ridgeway.models.loading import load_model
from ridgeway.quant.quantize import quantized
from ridgeway.quant.tensor import Tensor
from ridgeway.testing import toy_config, toy_draft_head, toy_llm, toy_model
from ridgeway.training.byte_tokenizer import BEGIN_ID, END_ID, SPECIAL, byte_tokenizer
from ridgeway.training.distill_texts import DistillTexts
from ridgeway.training.draft_head import (
    Fixed,
    Network,
    Unrolled,
    before_loop,
    frequent_tokens,
    unrolled_loss,
    weights_of,
)
from ridgeway.training.draft_head_quality import quality
from ridgeway.training.draft_head_recipe import DraftHeadRecipe
from ridgeway.training.draft_head_trainer import DraftHeadTrainer
from ridgeway.training.held import as_held
from ridgeway.training.recipe import read_recipe

GOLDEN = Path(__file__).parents[1] / "golden"
TEMPLATE = "{% for m in messages %}<|begin|>{{ m.role }}: {{ m.content }}<|end|>{% endfor %}<|begin|>assistant: "
DEFAULTS = {
    "model": {"from": "toy"},
    "data": {"answers": 12, "length": 16, "temperatures": [0.0, 0.7]},
    "draft_head": {"vocabulary": 40, "inner": 32},
    "training": {"steps": 8, "batch": 16, "learning_rate": 1e-2, "checkpoint_every": 3, "threads": 1},
}
SIGHTS = pytest.mark.parametrize("sight", [{}, {"layer": 1}], ids=["states", "kv"])


def recipe_in(folder, seed=3, **changes):
    """The recipe of `DEFAULTS`; changes: by section."""
    lines = [f"seed = {seed}"]
    for section in {**DEFAULTS, **changes}:
        values = DEFAULTS.get(section, {}) | changes.get(section, {})
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items() if value != "")]
    path = folder / "recipe.toml"
    path.write_text("\n".join(lines) + "\n")
    return read_recipe(path)


@pytest.fixture(scope="module")
def model():
    """Of 61 tokens, sure of what it says; token 0 ends a text."""
    return toy_model(toy_config(end_ids=(0,), tied_head=False), sharpness=2.0)


@pytest.fixture
def llm(model):
    return toy_llm(model)


def trained(trainer, until=None):
    """All stages; the losses."""
    list(trainer.texts.write())
    list(trainer.states.compute())
    return [step.loss for step in trainer.run(until)]


def checkpoint(folder, chat=False, name="llama_tied"):
    """A golden checkpoint beside a tokenizer of bytes; the goldens have none."""
    target = folder / "model"
    shutil.copytree(GOLDEN / name, target)
    byte_tokenizer().save(str(target / "tokenizer.json"))
    template = {"chat_template": TEMPLATE} if chat else {}
    (target / "tokenizer_config.json").write_text(json.dumps(SPECIAL | template))
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"eos_token_id": END_ID}))
    return target


@SIGHTS
def test_the_command_trains_and_what_it_leaves_is_used_beside_the_model(tmp_path, sight):
    source, out = checkpoint(tmp_path), tmp_path / "out"
    recipe_in(tmp_path, model={"from": str(source)}, draft_head=sight)
    command = ["train", str(tmp_path / "recipe.toml"), "--out", str(out)]

    first = CliRunner().invoke(app, [*command, "--steps", "2"])
    assert first.exit_code == 0, first.output
    assert "12 of 12" in first.output
    assert "6 steps are left" in first.output
    texts = (out / "answers.jsonl").read_bytes()

    second = CliRunner().invoke(app, command)
    assert second.exit_code == 0, second.output
    assert "step 2 of 8" in second.output
    assert "temperature 0: " in second.output
    assert "temperature 0.7: " in second.output
    assert (out / "answers.jsonl").read_bytes() == texts
    assert len((out / "loss.jsonl").read_text().splitlines()) == 8
    assert "<svg" in (out / "loss.svg").read_text()

    copied = re.search(r"cp (\S+) (\S+)", second.output)
    shutil.copy(copied[1], copied[2])
    head = draft_head_of(load_model(source))
    assert head.tokens.shape == (40,)
    assert (head.query is not None, head.layer) == (bool(sight), sight.get("layer", 0))
    llm = toy_llm(load_model(source))
    greedy = SamplingParams(temperature=0, max_tokens=24)
    plain, drafted = (llm.generate(["ab"], greedy, method=method)[0] for method in ("ar", "draft-head"))
    assert plain.outputs[0].token_ids == drafted.outputs[0].token_ids


@SIGHTS
def test_a_trained_head_guesses_better_than_one_of_random_weights(tmp_path, model, llm, sight):
    changes = {
        "data": {"answers": 160, "length": 24, "temperatures": [0.0]},
        "draft_head": {"vocabulary": 61, "inner": 64} | sight,
        "training": {"steps": 120, "batch": 256},
    }
    trainer = DraftHeadTrainer(recipe_in(tmp_path, **changes), tmp_path / "out", llm)
    losses = trained(trainer)
    assert losses[17] < 0.6 * losses[0]  # both of one guess
    assert losses[-1] < 0.6 * losses[40]  # both of three

    trainer.save()
    [found] = trainer.qualities()
    material = trainer.material
    texts = [text for text, held in zip(material.texts, material.held_out, strict=True) if held]
    random = ReferenceUnroller(toy_draft_head(model, **sight), llm.executor)
    other = quality(llm, random, texts, 3)
    assert other.tokens_per_stream < 1.5 < found.tokens_per_stream
    assert list(found.right) == sorted(found.right, reverse=True)

    params = [SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)] * 8
    llm.add_draft_head(load_draft_head(trainer.folder / "draft-head.safetensors", model))
    outputs = llm.generate([[token, 5, 9] for token in range(20, 28)], params, method="draft-head")
    assert sum(output.metrics.weight_streams for output in outputs) < 0.75 * 8 * 24


@SIGHTS
def test_a_training_that_was_interrupted_anywhere_ends_in_the_same_bits(tmp_path, llm, sight):
    recipe = recipe_in(tmp_path, draft_head=sight)
    whole = DraftHeadTrainer(recipe, tmp_path / "whole", llm)
    losses = trained(whole)
    computed = ["states.f16", *(["kv-1.f16"] if sight else [])]
    kept = ["answers.jsonl", *computed, "draft-head.safetensors"]
    whole.save()

    out = tmp_path / "parts"
    list(DraftHeadTrainer(recipe, out, llm).texts.write())
    answers = (out / "answers.jsonl").read_bytes()
    (out / "answers.jsonl").write_bytes(answers[: len(answers) // 2])  # in the middle of a line
    again = DraftHeadTrainer(recipe, out, llm)
    list(again.texts.write())
    list(again.states.compute())
    for name, share in zip(computed, (0.5, 0.7), strict=False):  # one is written before the other
        content = (out / name).read_bytes()
        (out / name).write_bytes(content[: int(share * len(content)) + 1])
    parts = trained(DraftHeadTrainer(recipe, out, llm), until=5)
    last = DraftHeadTrainer(recipe, out, llm)
    assert last.done == 5
    parts += trained(last)
    last.save()

    assert parts == losses
    assert [(out / name).read_bytes() for name in kept] == [(tmp_path / "whole" / name).read_bytes() for name in kept]


def test_more_steps_or_answers_keep_the_texts_and_another_seed_does_not(tmp_path, llm):
    out = tmp_path / "out"
    trained(DraftHeadTrainer(recipe_in(tmp_path), out, llm))
    texts, states = ((out / name).read_bytes() for name in ("answers.jsonl", "states.f16"))
    more = recipe_in(tmp_path, data={"answers": 20}, training={"steps": 10})
    with pytest.raises(RequestError, match=r"state.safetensors: is of another recipe"):
        DraftHeadTrainer(more, out, llm)
    (out / "state.safetensors").unlink()
    trained(DraftHeadTrainer(more, out, llm))
    assert (out / "answers.jsonl").read_bytes().startswith(texts)
    assert (out / "states.f16").read_bytes().startswith(states)
    (out / "state.safetensors").unlink()
    with pytest.raises(RequestError, match=r"answers.jsonl: holds texts of another model or recipe"):
        DraftHeadTrainer(recipe_in(tmp_path, seed=4), out, llm)


def test_states_are_those_that_the_answers_were_drawn_from(tmp_path, llm):
    trainer = DraftHeadTrainer(recipe_in(tmp_path, data={"temperatures": [0.0]}), tmp_path / "out", llm)
    list(trainer.texts.write())
    list(trainer.states.compute())
    material = trainer.material
    said = torch.from_numpy(material.states.astype(np.float32)) * material.fixed.norm @ material.fixed.rows.T
    assert (said.argmax(dim=1).numpy() == material.tokens).mean() > 0.99
    assert np.abs(np.square(material.states.astype(np.float32)).mean(axis=1) - 1).max() < 1e-2


@SIGHTS
def test_the_saved_head_is_what_was_trained(tmp_path, model, llm, sight):
    trainer = DraftHeadTrainer(recipe_in(tmp_path, draft_head=sight), tmp_path / "out", llm)
    trained(trainer)
    head = load_draft_head(trainer.save(), model)
    fixed = trainer.material.fixed
    weights = weights_of(trainer.network, fixed)
    assert set(weights) == {"gate", "up", "down", *(["query"] if sight else [])}
    for name, weight in weights.items():
        assert getattr(head, name).dequantize() == pytest.approx(weight.numpy(), rel=1e-3, abs=1e-5)
        again = quantized(getattr(head, name), HELD).dequantize()  # as kernels hold what lies in the file
        assert again == pytest.approx(weight.numpy(), rel=1e-3, abs=1e-5)
    assert head.tokens.tolist() == fixed.tokens.tolist()
    assert (head.query is not None, head.layer) == (bool(sight), sight.get("layer", 0))


def test_a_head_learns_with_weights_as_kernels_hold_them():
    weight = torch.randn(7, 96, generator=torch.Generator().manual_seed(0))
    weight[2, :32] = 0
    weight.requires_grad_()
    held = as_held(weight)
    packed = quantized(Tensor.of("weight", weight.detach().numpy()), HELD).dequantize()
    assert held.detach().numpy() == pytest.approx(packed, rel=1e-6, abs=1e-7)
    assert np.abs(packed - weight.detach().numpy()).max() > 0.05
    (3 * held).sum().backward()
    assert torch.equal(weight.grad, torch.full_like(weight, 3.0))
    odd = torch.randn(4, 40)
    assert as_held(odd) is odd


def test_another_layer_needs_other_kv_but_no_other_texts(tmp_path, llm):
    out = tmp_path / "out"
    for layer in (1, 0):
        trainer = DraftHeadTrainer(recipe_in(tmp_path, draft_head={"layer": layer}), out, llm)
        trained(trainer)
        (out / "state.safetensors").unlink()
    assert (out / "kv-0.f16").stat().st_size == (out / "kv-1.f16").stat().st_size
    assert (out / "kv-0.f16").read_bytes() != (out / "kv-1.f16").read_bytes()


def test_the_loss_is_0_where_the_head_says_what_the_model_says(model):
    network = Network(32, 16, torch.Generator().manual_seed(0))
    still = torch.randn(1, 32).expand(6, 32)  # a model that stands still, as a new head does
    tokens, places = torch.zeros(6, dtype=torch.int64), torch.arange(4)
    fixed = Fixed(model, np.arange(0, 61, 3))
    fixed.held = fixed.known  # rounded rows say something else
    assert unrolled_loss(network, fixed, Unrolled(still, tokens, places, 2)).item() == pytest.approx(0, abs=1e-6)
    assert unrolled_loss(network, fixed, Unrolled(torch.randn(6, 32), tokens, places, 2)).item() > 0.1


def test_prompts_are_what_the_model_says_in_place_of_a_user(tmp_path):
    llm = toy_llm(load_model(checkpoint(tmp_path, chat=True)))
    texts = DistillTexts(recipe_in(tmp_path), llm, tmp_path / "answers.jsonl")
    list(texts.write())
    before = [BEGIN_ID, *b"user: "]
    after = [END_ID, BEGIN_ID, *b"assistant: "]
    for text in texts.read():
        assert list(text.prompt[: len(before)]) == before
        assert list(text.prompt[-len(after) :]) == after
        assert len(text.prompt) >= len(before) + len(after) + 3
        assert len(text.answer) <= 16
    assert [text.temperature for text in texts.read()[:2]] == [0.0, 0.7]
    greedy = SamplingParams(temperature=0, max_tokens=16)
    first = texts.read()[0]
    assert llm.generate([list(first.prompt)], greedy)[0].outputs[0].token_ids == list(first.answer)


@pytest.mark.parametrize("chat", [False, True])
def test_prompts_may_come_from_a_file(tmp_path, chat):
    llm = toy_llm(load_model(checkpoint(tmp_path, chat)))
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    asked = {"answers": 2, "prompts": str(tmp_path / "prompts.jsonl")}
    texts = DistillTexts(recipe_in(tmp_path, data=asked), llm, tmp_path / "answers.jsonl")
    list(texts.write())
    around = (b"user: ", [END_ID, BEGIN_ID, *b"assistant: "]) if chat else (b"", [])
    expected = [[BEGIN_ID, *around[0], *prompt, *around[1]] for prompt in (b"one", b"two")]
    assert [list(text.prompt) for text in texts.read()] == expected
    with pytest.raises(RequestError, match=r"data.answers is 3; expected at most 2"):
        DistillTexts(recipe_in(tmp_path, data=asked | {"answers": 3}), llm, tmp_path / "others.jsonl")


def test_a_text_ends_for_the_head_where_it_goes_round_in_a_circle():
    assert before_loop(list(range(30))) == 30
    assert before_loop([*range(20), *range(20)]) == 28
    assert before_loop([7] * 50) == 9
    assert before_loop([]) == 0


def test_a_head_knows_the_most_frequent_tokens(llm, tmp_path):
    texts = DistillTexts(recipe_in(tmp_path), llm, tmp_path / "answers.jsonl")
    list(texts.write())
    said = np.concatenate([text.answer for text in texts.read()])
    known = frequent_tokens(texts.read(), 5, 61)
    counts = np.bincount(said, minlength=61)
    assert counts[known].min() >= np.delete(counts, known).max()
    assert frequent_tokens(texts.read(), 61, 61).tolist() == list(range(61))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"answers": ""}}, "data.answers is missing"),
        ({"data": {"answers": 0}}, "data.answers is 0"),
        ({"data": {"length": 1}}, "data.length is 1"),
        ({"data": {"length": 512}}, "data.length is 512; expected less than 512"),
        ({"data": {"temperatures": [-1]}}, "data.temperatures is"),
        ({"data": {"temperatures": []}}, "data.temperatures is"),
        ({"data": {"prompts": "nowhere.jsonl"}}, "data.prompts 'nowhere.jsonl': expected a .jsonl file"),
        ({"data": {"source": "animals"}}, "data.source is 'animals'; expected no such key; known are answers"),
        ({"model": {"hidden": 32}}, "model.hidden is 32; expected no such key"),
        ({"model": {"from": ""}}, "model.from is missing"),
        ({"draft_head": {"vocabulary": 321}}, "draft_head.vocabulary is 321; expected at most 320"),
        ({"draft_head": {"inner": 0}}, "draft_head.inner is 0"),
        ({"draft_head": {"depth": 16}}, "draft_head.depth is 16; expected less than data.length"),
        (
            {"draft_head": {"layer": 2}},
            "draft_head.layer is 2; expected less than 2, the model's layers, counted from 0",
        ),
        ({"draft_head": {"layer": -1}}, "draft_head.layer is -1; expected an integer from 0"),
        ({"draft_head": {"layer": "last"}}, "draft_head.layer is 'last'; expected an integer"),
        ({"draft_head": {"precision": "int4"}}, "draft_head.precision is 'int4'; expected float32 or bfloat16"),
        ({"training": {"steps": ""}}, "training.steps is missing"),
        ({"objective": {"block_size": 4}}, "objective is"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_before_any_work(tmp_path, changes, message):
    source = checkpoint(tmp_path)
    with pytest.raises(RidgewayError, match=re.escape(message)):
        DraftHeadTrainer(recipe_in(tmp_path, **changes), tmp_path / "out", toy_llm(load_model(source)))
    assert not (tmp_path / "out" / "draft-head.safetensors").exists()


def test_a_diffusion_model_is_refused(tmp_path):
    llm = toy_llm(load_model(checkpoint(tmp_path, name="sdar")))
    with pytest.raises(RequestError, match=r"model.from: \S+ sees in both directions .* needs a causal model"):
        DraftHeadTrainer(recipe_in(tmp_path), tmp_path / "out", llm)


def test_a_model_that_ends_every_text_at_once_is_refused(tmp_path, llm):
    trainer = DraftHeadTrainer(recipe_in(tmp_path), tmp_path / "out", llm)
    list(trainer.texts.write())
    lines = (tmp_path / "out" / "answers.jsonl").read_text().splitlines()
    empty = json.dumps({"prompt": [1, 2], "answer": []})
    (tmp_path / "out" / "answers.jsonl").write_text("\n".join([lines[0], *[empty] * 12]) + "\n")
    with pytest.raises(RequestError, match="wrote no text to learn from"):
        trained(DraftHeadTrainer(recipe_in(tmp_path), tmp_path / "out", llm))


def test_a_precision_is_for_diffusion_models(tmp_path):
    recipe_in(tmp_path)
    command = ["train", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "out"), "--precision", "float32"]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, RidgewayError)
    assert "a draft head is saved in float16" in str(done.exception)


def test_the_recipe_that_comes_with_ridgeway_is_one():
    recipe = read_recipe("smollm2-draft-head")
    assert isinstance(recipe, DraftHeadRecipe)
    assert (recipe.source, recipe.vocabulary, recipe.inner, recipe.layer) == ("smollm2-135m", 8192, 1536, 20)
