import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf_checkpoints import GOLDEN, gguf_tensors, same_weights, write_gguf
from safetensors.numpy import load_file, save_file

from ridgeway.core.errors import ModelError
from ridgeway.models.loading import load_model

GOLDENS = ["llama_tied", "llama_untied", "llama3_rope", "mistral", "qwen2", "qwen3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a golden checkpoint that a test may break."""
    copy = tmp_path / "model"
    shutil.copytree(GOLDEN / "llama_untied", copy)
    return copy


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("golden", GOLDENS)
def test_a_folder_gives_every_tensor_in_its_shape(golden: str) -> None:
    model = load_model(GOLDEN / golden)
    theirs = load_file(GOLDEN / golden / "model.safetensors")
    assert {name: tensor.shape for name, tensor in model.tensors.items()} == model.config.tensor_shapes()
    assert len(theirs) == len(model.tensors)
    assert np.array_equal(model.tensors["embed"].dequantize(), theirs["model.embed_tokens.weight"])
    assert model.name == golden
    assert model.precision == "F32"
    assert model.tokenizer is None


def test_tensors_may_be_spread_over_files_with_an_index(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, members in parts.items():
        save_file({name: tensors[name] for name in members}, folder / file)
    index = {"weight_map": {name: file for file, members in parts.items() for name in members}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"extra": np.zeros(1, np.float32)}, folder / "consolidated.safetensors")
    assert same_weights(load_model(folder), load_model(GOLDEN / "llama_untied"))


@pytest.mark.parametrize("file", ["../model.safetensors", "/etc/passwd", "model.bin", 3])
def test_an_index_may_not_point_out_of_its_folder(file: Any, folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": file}}))
    with pytest.raises(ModelError, match=r"lm_head\.weight is in .*expected a safetensors file beside it"):
        load_model(folder)


def test_end_ids_are_those_of_the_generation_config_and_of_the_config(folder: Path) -> None:
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [7, 9], "temperature": 0.6, "top_p": 0.95, "max_length": 20})
    )
    model = load_model(folder)
    assert model.config.end_ids == (7, 9, 2)
    assert model.generation == {"temperature": 0.6, "top_p": 0.95}


def test_a_checkpoint_that_says_not_to_sample_has_no_sampling_settings(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": False, "temperature": 0.6}))
    assert load_model(folder).generation == {}


def test_a_sampling_setting_that_is_no_number_is_refused(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"temperature": "hot"}))
    with pytest.raises(ModelError, match=r"generation_config\.json: temperature is 'hot'; expected a number"):
        load_model(folder)


def test_a_gguf_file_may_bring_its_sampling_settings(tmp_path: Path) -> None:
    metadata = {"general.sampling.temp": 0.25, "general.sampling.top_k": 20}
    model = load_model(write_gguf(tmp_path / "m.gguf", "llama_tied", metadata=metadata))
    assert model.generation == {"temperature": 0.25, "top_k": 20}


def test_end_ids_of_a_gguf_chat_model_include_its_control_tokens_that_end_a_turn(tmp_path: Path) -> None:
    tokens = [f"<{i}>" for i in range(318)] + ["<|im_end|>", "<|eot_id|>"]
    types = [1] * 318 + [3, 1]  # only the first is declared as control token
    metadata = {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.eot_token_id": 5,
        "tokenizer.chat_template": "{{ messages[0].content }}",
    }
    model = load_model(write_gguf(tmp_path / "chat.gguf", "llama_tied", metadata=metadata))
    assert model.config.end_ids == (2, 5, 318)


def test_the_name_of_a_gguf_model_is_the_files_without_its_format(tmp_path: Path) -> None:
    assert load_model(write_gguf(tmp_path / "Tiny-1M.F32.gguf", "llama_tied")).name == "Tiny-1M"


def test_a_missing_tensor_is_named_with_its_shape(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"model\.layers\.1\.mlp\.up_proj\.weight is missing; .* \(128, 64\)"):
        load_model(folder)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder: Path) -> None:
    edit(folder / "config.json", intermediate_size=96)
    with pytest.raises(ModelError, match=r"gate_proj\.weight has shape \(128, 64\); expected \(96, 64\)"):
        load_model(folder)


def test_a_tensor_that_would_be_left_out_is_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.q_proj.bias"] = np.zeros(64, np.float32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"q_proj\.bias is not known in architecture 'llama'"):
        load_model(folder)


def test_tensors_that_say_nothing_new_are_left_out(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "llama_tied", tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)
    save_file(tensors, tmp_path / "model" / "model.safetensors")
    assert same_weights(load_model(tmp_path / "model"), load_model(GOLDEN / "llama_tied"))


def test_a_pickle_in_place_of_safetensors_is_refused_and_never_run(folder: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "it ran",))

    (folder / "model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": Trap()}, folder / "pytorch_model.bin")
    for argument in (folder, folder / "pytorch_model.bin"):
        with pytest.raises(ModelError, match=r"(has|/)pytorch_model\.bin|pytorch_model\.bin.*never loaded"):
            load_model(argument)
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"architectures": ["LlamaForCausalLM"]}'])
def test_a_broken_configuration_is_named(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json: "):
        load_model(folder)


def test_a_missing_gguf_tensor_is_named(tmp_path: Path) -> None:
    tensors = gguf_tensors("qwen2")
    del tensors["blk.1.attn_k.bias"]
    with pytest.raises(ModelError, match=r"blk\.1\.attn_k\.bias is missing; expected one of shape \(32,\)"):
        load_model(write_gguf(tmp_path / "m.gguf", "qwen2", tensors=tensors))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"llama.expert_count": 8}, "mixtures of experts"),
        ({"llama.rope.scaling.type": "yarn"}, "rope scaling 'yarn'"),
        (
            {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
            "rope scaling 'linear' by 4",
        ),
        ({"llama.rope.dimension_count": 8}, "expected 16, the size of a head"),
        ({"llama.attention.head_count": None}, r"llama\.attention\.head_count is missing"),
        ({"llama.attention.head_count_kv": [2, 2]}, r"head_count_kv is .*; expected an integer"),
        ({"llama.block_count": 3}, r"blk\.2\.attn_norm\.weight is missing"),
        ({"llama.block_count": 2**31}, "block_count is 2147483648; expected an integer from 1 to 4096"),
    ],
)
def test_gguf_metadata_that_cannot_be_served_are_refused(
    metadata: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(write_gguf(tmp_path / "m.gguf", "llama_tied", metadata=metadata))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("smollm2", "no such model \\(did you mean smollm2-135m\\?\\)"),
        ("gpt", "no such model \\(known: smollm2-135m, toy-diffusion\\)"),
        ("./nothing/here.gguf", "no such file or folder"),
        ("nothing.gguf", "no such file or folder; expected a name"),
        ("a/b/c", "no such file or folder"),
    ],
)
def test_an_argument_that_names_no_model_gets_told_what_would_do(argument: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(argument)


def test_a_folder_or_file_of_another_kind_gets_told_what_would_do(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"give its folder"):
        load_model(folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"expected a GGUF file"):
        load_model(folder / "SOURCE.txt")
    (tmp_path / "ggufs").mkdir()
    write_gguf(tmp_path / "ggufs" / "tiny.gguf", "llama_tied")
    with pytest.raises(ModelError, match=r"no config\.json; it holds tiny\.gguf: give the path of that file"):
        load_model(tmp_path / "ggufs")


def test_a_hub_id_is_fetched_without_pickles_and_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def snapshot(repo_id: str, **options: Any) -> str:
        asked.update(options, repo_id=repo_id)
        return str(GOLDEN / "qwen3")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    model = load_model("org/tiny-qwen3", progress=False)
    assert (model.name, model.source) == ("tiny-qwen3", "org/tiny-qwen3")
    assert asked["repo_id"] == "org/tiny-qwen3"
    assert not any(pattern.endswith((".bin", "*", ".py")) for pattern in asked["allow_patterns"])


def test_a_hub_that_cannot_be_reached_gives_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(repo_id: str, **options: Any) -> str:
        raise ConnectionError("no route to host\nand a long story")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(ModelError, match=r"^org/model: cannot be fetched .* no route to host \(no folder") as caught:
        load_model("org/model")
    assert "\n" not in str(caught.value)
