"""The sizes of well-known models, and of any decoder by its `config.json`."""

import json

import gguf
import pytest
from gguf_checkpoints import GOLDEN, write_gguf

from ridgeway.core.errors import ModelError
from ridgeway.models.known import find_known, find_outline, known_models, outline_of_parameters
from ridgeway.models.loading import load_model

# Billions of weights as their cards state them.
STATED = {
    "smollm2-135m": 0.135, "tinyllama-1.1b": 1.10, "llama-2-7b": 6.74, "llama-2-13b": 13.02, "llama-2-70b": 68.98,
    "llama-3.1-8b": 8.03, "llama-3.1-70b": 70.55, "llama-3.1-405b": 405.9, "llama-3.2-1b": 1.24, "mistral-7b": 7.24,
    "mixtral-8x7b": 46.7, "phi-2": 2.78, "yi-34b": 34.4, "gemma-3-4b": 3.88, "qwen2.5-7b": 7.62, "qwen3-8b": 8.19,
    "qwen3-32b": 32.8, "qwen3-30b-a3b": 30.5, "qwen3-235b-a22b": 235.1, "gpt-oss-20b": 20.9, "gpt-oss-120b": 116.8,
    "deepseek-v3": 671.0, "kimi-k2": 1026.0, "llada-8b": 8.02, "dream-7b": 7.62, "llama-4-scout": 107.8,
    "sdar-1.7b": 2.03, "sdar-4b": 4.41, "sdar-8b": 8.19, "fast-dllm-v2-1.5b": 1.54, "fast-dllm-v2-7b": 7.62,
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 128, "vocab_size": 100,
}  # fmt: skip


def written(tmp_path, **fields):
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in (LLAMA | fields).items() if v is not None}))
    return tmp_path


@pytest.mark.parametrize("name", STATED)
def test_weights_add_up_to_what_the_card_states(name):
    assert find_outline(name).config.parameters / 1e9 == pytest.approx(STATED[name], rel=0.005)


def test_bd3lm_is_counted_without_what_is_computed_once():
    """The checkpoint's 169.7 M weights less those of the modulation, which no weight stream reads."""
    modulation = 12 * (128 * 6 * 768 + 6 * 768) + 128 * 2 * 768 + 2 * 768 + 256 * 128 + 128 * 128 + 2 * 128
    found = find_outline("kuleshov-group/bd3lm-owt-block_size4")
    assert found.config.parameters == pytest.approx(679e6 / 4 - modulation, rel=0.002)
    assert found.precision == "fp32"


@pytest.mark.parametrize("name", ["llada", "sdar", "bd3lm", "dream", "fast_dllm_v2"])
def test_the_outline_of_a_diffusion_checkpoint_counts_what_loading_it_holds(name):
    folder = GOLDEN / name
    assert find_outline(folder).config.parameters == pytest.approx(load_model(folder).parameters, rel=0.02)


def test_every_model_of_the_list_loads_and_says_where_it_is_from():
    for name in known_models():
        assert "config.json of " in find_outline(name).source


def test_case_dashes_and_checkpoint_names_do_not_matter():
    assert find_outline("Llama 3.1 8B") == find_outline("llama-3.1-8b") == find_outline("meta-llama/Meta-Llama-3.1-8B")
    assert find_known("nobody") is None


def test_an_unknown_model_gets_the_nearest_names():
    with pytest.raises(ModelError, match=r"did you mean llama-3\.1-8b"):
        find_outline("llama-3.1-9b")


def test_a_config_is_enough(tmp_path):
    outline = find_outline(written(tmp_path, torch_dtype="float16", num_key_value_heads=2))
    assert (outline.config.kv_heads, outline.precision) == (2, "fp16")
    assert find_outline(tmp_path / "config.json").config == outline.config


@pytest.mark.parametrize("missing", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
def test_a_config_without_a_needed_field_is_refused_by_its_name(tmp_path, missing):
    with pytest.raises(ModelError, match=missing):
        find_outline(written(tmp_path, **{missing: None}))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"hybrid_override_pattern": "M-M*"}, "not counted"),
        ({"layer_types": ["linear_attention", "full_attention"]}, "layer_types"),
        ({"num_experts": 8, "num_experts_per_tok": 9, "moe_intermediate_size": 4}, "num_experts_per_tok"),
        ({"num_experts": 8, "num_experts_per_tok": 2, "decoder_sparse_step": 2}, "some layers"),
        ({"kv_lora_rank": 8}, "qk_rope_head_dim"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
    ],
)
def test_what_would_be_counted_wrongly_is_refused(tmp_path, fields, says):
    with pytest.raises(ModelError, match=says):
        find_outline(written(tmp_path, **fields))


def test_windows_follow_the_pattern_of_the_family(tmp_path):
    config = find_outline("gemma-3-4b").config
    assert config.windows[:6] == (1024,) * 5 + (None,)
    assert find_outline("gpt-oss-20b").config.windows[:2] == (128, None)
    switched_off = find_outline(written(tmp_path, model_type="qwen2", sliding_window=8, use_sliding_window=False))
    assert set(switched_off.config.windows) == {None}


@pytest.mark.parametrize("parameters", [1e8, 1e9, 8e9, 7e10, 1e12])
def test_a_number_of_weights_becomes_a_model_of_that_many(parameters):
    assert outline_of_parameters(parameters).config.parameters == pytest.approx(parameters, rel=1e-4)


def test_a_senseless_number_of_weights_is_refused():
    with pytest.raises(ModelError, match="expected"):
        outline_of_parameters(8)


def test_a_gguf_file_counts_as_it_is_packed_even_where_nothing_here_unpacks_it(tmp_path):
    packed = {"blk.0.ffn_up.weight": gguf.GGMLQuantizationType.Q8_0}
    path = write_gguf(tmp_path / "model.gguf", "llama_tied", packed=packed)
    outline, model = find_outline(path), load_model(path)
    assert outline.held_bytes == {name: tensor.nbytes for name, tensor in model.tensors.items()}
    assert outline.config.parameters == model.parameters
    with pytest.raises(ModelError, match="cannot be read"):
        find_outline(tmp_path / "absent.gguf")
