from typing import Any

import pytest

from ridgeway.core.errors import ModelError
from ridgeway.models.architectures import architecture_of_gguf, architecture_of_hf
from ridgeway.models.config import ModelConfig, RopeScaling
from ridgeway.models.fields import Fields

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 320,
    "max_position_embeddings": 512,
}
CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}


def config(name: str, **more: Any) -> ModelConfig:
    fields = Fields("config.json", {"architectures": [CLASSES[name]], "model_type": name, **SIZES, **more})
    return architecture_of_hf(fields).config_from_hf(fields)


def test_what_a_configuration_leaves_out_is_what_transformers_assumes() -> None:
    from transformers import LlamaConfig

    ours, theirs = config("llama"), LlamaConfig(**SIZES)
    assert ours.kv_heads == theirs.num_key_value_heads
    assert ours.head_dim == theirs.head_dim
    assert ours.rms_eps == theirs.rms_norm_eps
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"]
    assert ours.tied_head == theirs.tie_word_embeddings


@pytest.mark.parametrize("kind", [{"rope_type": "llama3"}, {"type": "llama3"}])
def test_llama_3_rope_scaling_is_read_as_transformers_4_wrote_it(kind: dict[str, str]) -> None:
    found = config("llama", rope_theta=500000.0, rope_scaling=kind | LLAMA3)
    assert found.rope_theta == 500000.0
    assert found.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 128)


def test_llama_3_rope_scaling_is_read_as_transformers_5_writes_it() -> None:
    found = config("llama", rope_parameters={"rope_type": "llama3", "rope_theta": 500000.0} | LLAMA3)
    assert found.rope_theta == 500000.0
    assert found.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 128)


@pytest.mark.parametrize("section", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("kind", ["yarn", "linear", "dynamic", "longrope", "mrope"])
def test_other_rope_scalings_are_refused(section: str, kind: str) -> None:
    with pytest.raises(ModelError, match=f"{section}.rope_type is '{kind}'; expected 'default' or 'llama3'"):
        config("llama", **{section: {"rope_type": kind, "factor": 2.0}})


def test_a_rotary_rule_per_kind_of_layer_is_refused() -> None:
    with pytest.raises(ModelError, match="differs between layers"):
        config("qwen3", rope_parameters={"full_attention": {"rope_theta": 1e6}})


def test_partial_rotary_embedding_is_refused() -> None:
    with pytest.raises(ModelError, match=r"partial_rotary_factor is 0\.5"):
        config("llama", partial_rotary_factor=0.5)


def test_llama_has_biases_where_the_configuration_asks_for_them() -> None:
    assert set(config("llama", attention_bias=True).tensor_shapes()) >= {"layers.0.q_bias", "layers.0.o_bias"}
    assert set(config("llama", mlp_bias=True).tensor_shapes()) >= {"layers.0.gate_bias", "layers.0.down_bias"}
    assert not any("bias" in name for name in config("llama").tensor_shapes())


def test_qwen2_has_biases_of_q_k_and_v_but_not_of_o() -> None:
    names = set(config("qwen2").tensor_shapes())
    assert names >= {"layers.0.q_bias", "layers.0.k_bias", "layers.0.v_bias"}
    assert "layers.0.o_bias" not in names


def test_qwen3_has_heads_of_128_unless_it_says_otherwise() -> None:
    assert config("qwen3").head_dim == 128
    assert config("qwen3", head_dim=32).head_dim == 32
    assert config("qwen3").qk_norm


@pytest.mark.parametrize(
    ("more", "windows"),
    [({"sliding_window": 8}, (8,) * 4), ({"sliding_window": None}, (None,) * 4), ({}, (4096,) * 4)],
)
def test_mistral_slides_its_window_in_every_layer_and_null_means_none(more: Any, windows: Any) -> None:
    assert config("mistral", **more).windows == windows


@pytest.mark.parametrize(
    "more",
    [
        {"sliding_window": 8},
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0},
        {"use_sliding_window": True, "sliding_window": 8},
        {
            "use_sliding_window": True,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"],
        },
    ],
)
@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_qwen_windows_are_those_of_transformers(name: str, more: dict[str, Any]) -> None:
    from transformers import Qwen2Config, Qwen3Config

    theirs = {"qwen2": Qwen2Config, "qwen3": Qwen3Config}[name](**SIZES, **more)
    expected = tuple(theirs.sliding_window if kind == "sliding_attention" else None for kind in theirs.layer_types)
    assert config(name, **more).windows == expected


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; expected 'silu'"),
        ({"hidden_size": "64"}, "hidden_size is '64'; expected an integer"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"num_attention_heads": 5}, "multiple of num_attention_heads, 5"),
        ({"num_key_value_heads": 3}, "4 query heads share 3"),
        ({"head_dim": 15}, "expected an even number"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
        ({"rms_norm_eps": -1}, "expected a positive number"),
        ({"tie_word_embeddings": 1}, "expected true or false"),
        ({"rope_scaling": "linear"}, "expected an object"),
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
    ],
)
def test_a_field_that_makes_no_sense_is_named_with_what_was_expected(more: Any, message: str) -> None:
    with pytest.raises(ModelError, match=rf"^config\.json: .*{message}"):
        config("llama", **more)


def test_an_unknown_architecture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"GPT2LMHeadModel.*LlamaForCausalLM, MistralForCausalLM"):
        architecture_of_hf(Fields("config.json", {"architectures": ["GPT2LMHeadModel"]}))
    with pytest.raises(ModelError, match="'gemma' is not supported; supported: llama, qwen2, qwen3"):
        architecture_of_gguf(Fields("model.gguf", {"general.architecture": "gemma"}))


def test_the_model_type_names_the_architecture_if_no_class_does() -> None:
    assert architecture_of_hf(Fields("config.json", {"model_type": "qwen3"})).name == "qwen3"
