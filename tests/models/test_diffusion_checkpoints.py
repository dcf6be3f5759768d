"""Checkpoints as other settings of their configurations would make them, through the real loader."""

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel
from tokenizers.models import WordLevel

from ridgeway.core.errors import ModelError
from ridgeway.models.architectures import architecture_of_hf
from ridgeway.models.architectures.architecture import file_name
from ridgeway.models.fields import Fields
from ridgeway.models.loading import load_model
from ridgeway.testing import toy_llm, toy_model

LLADA = {
    "architectures": ["LLaDAModelLM"],
    "d_model": 32,
    "n_layers": 3,
    "n_heads": 4,
    "mlp_hidden_size": 40,
    "vocab_size": 70,
    "max_sequence_length": 64,
    "block_type": "llama",
    "activation_type": "silu",
    "layer_norm_type": "rms",
    "rope": True,
    "mask_token_id": 69,
}
QWEN = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 40,
    "vocab_size": 70,
    "max_position_embeddings": 64,
    "mask_token_id": 69,
}
SDAR, DREAM = QWEN | {"architectures": ["SDARForCausalLM"]}, QWEN | {"architectures": ["DreamModel"]}
FAST = QWEN | {"architectures": ["Fast_dLLM_QwenForCausalLM"], "bd_size": 8}
BD3LM = {
    "architectures": ["BD3LM"],
    "hidden_dim": 32,
    "n_blocks": 2,
    "n_heads": 4,
    "cond_dim": 10,
    "vocab_size": 70,
    "model_length": 64,
    "block_size": 4,
}
VARIANTS = {
    "llada": LLADA | {"weight_tying": False},
    "llada tied": LLADA | {"weight_tying": True},
    "llada padded": LLADA | {"embedding_size": 128},
    "llada grouped": LLADA | {"n_kv_heads": 2},
    "llada biases": LLADA | {"include_bias": True, "weight_tying": False},
    "llada biases tied": LLADA | {"include_bias": True, "weight_tying": True, "bias_for_layer_norm": False},
    "llada biases of q k v": LLADA | {"include_qkv_bias": True, "multi_query_attention": True},
    "sdar": SDAR | {"block_size": 16},
    "sdar tied": SDAR | {"tie_word_embeddings": True},
    "sdar biases": SDAR | {"attention_bias": True},
    "dream tied": DREAM | {"tie_word_embeddings": True},
    "fast-dllm tied": FAST | {"tie_word_embeddings": True},
}
TOKENS = [int(token) for token in np.random.default_rng(2).integers(0, 70, 21)]


def write(folder, values, tensors):
    (folder / "config.json").write_text(json.dumps(values))
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_checkpoint_computes_what_its_tensors_do_under_our_names(variant, tmp_path):
    values = VARIANTS[variant]
    fields = Fields("config.json", values)
    architecture = architecture_of_hf(fields)
    model = toy_model(architecture.config_from_hf(fields), seed=3)
    named = {file_name(architecture.hf_names, ours): one.dequantize() for ours, one in model.tensors.items()}
    write(tmp_path, values, named)
    loaded = toy_llm(load_model(tmp_path))
    assert loaded.model.parameters == sum(tensor.size for tensor in named.values())
    np.testing.assert_array_equal(loaded.logits(TOKENS), toy_llm(model).logits(TOKENS))


def bd3lm_tensors(modulated=True, seed=4):
    """A BD3-LM of random weights; without modulation the output is the same as with one that changes nothing."""
    generator, d, c = np.random.default_rng(seed), 32, 10
    block = {
        "norm1.weight": (d,),
        "norm2.weight": (d,),
        "attn_qkv.weight": (3 * d, d),
        "attn_out.weight": (d, d),
        "mlp.0.weight": (4 * d, d),
        "mlp.0.bias": (4 * d,),
        "mlp.2.weight": (d, 4 * d),
        "mlp.2.bias": (d,),
    }
    shapes = {f"blocks.{i}.{name}": shape for i in range(2) for name, shape in block.items()}
    shapes |= {"vocab_embed.embedding": (70, d), "output_layer.norm_final.weight": (d,)}
    shapes |= {"output_layer.linear.weight": (70, d), "output_layer.linear.bias": (70,)}
    tensors = {name: generator.standard_normal(shape) / np.sqrt(shape[-1]) for name, shape in shapes.items()}
    if modulated:
        neutral = np.zeros((6, d))
        neutral[[2, 5]] = 1  # the gates
        for i in range(2):
            tensors[f"blocks.{i}.adaLN_modulation.weight"] = np.zeros((6 * d, c))
            tensors[f"blocks.{i}.adaLN_modulation.bias"] = neutral.reshape(-1)
        tensors["output_layer.adaLN_modulation.weight"] = np.zeros((2 * d, c))
        tensors["output_layer.adaLN_modulation.bias"] = np.zeros(2 * d)
        tensors |= {"sigma_map.mlp.0.weight": np.ones((c, 16)), "sigma_map.mlp.0.bias": np.ones(c)}
        tensors |= {"sigma_map.mlp.2.weight": np.ones((c, c)), "sigma_map.mlp.2.bias": np.ones(c)}
    named = {f"backbone.{name}": tensor.astype(np.float32) for name, tensor in tensors.items()}
    return named | {f"sampling_eps_{end}": np.array(0.5, np.float32) for end in ("min", "max")}


def test_bd3lm_without_modulation_is_the_one_whose_modulation_changes_nothing(tmp_path):
    logits = []
    for modulated in (True, False):
        folder = tmp_path / str(modulated)
        folder.mkdir()
        write(folder, BD3LM | {"adaln": modulated}, bd3lm_tensors(modulated))
        logits.append(toy_llm(load_model(folder)).logits(TOKENS))
    np.testing.assert_allclose(*logits, atol=1e-6)


def test_a_weight_stream_of_bd3lm_reads_no_modulation_but_its_outcome(tmp_path):
    write(tmp_path, BD3LM, bd3lm_tensors())
    model = load_model(tmp_path)
    held = toy_llm(model).executor.held_bytes
    assert not any("adaLN" in name or "sigma" in name for name in held)
    vectors = 2 * (2 + 2 + 2) * 32 + 2 * 32  # of each layer: norms, shifts, gates; of the output: norm and shift
    matrices = 2 * (4 * 32 * 32 + 2 * 4 * 32 * 32 + 4 * 32 + 32) + 2 * 70 * 32 + 70
    assert sum(held.values()) == 4 * (vectors + matrices)
    assert np.shares_memory(model.tensors["layers.0.q"].data.base, model.tensors["layers.0.v"].data.base)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("blocks.1.attn_qkv.weight", None, "attn_qkv.weight is missing; expected one of shape .96, 32."),
        ("blocks.1.attn_qkv.weight", (64, 32), r"has shape .64, 32.; expected .96, 32."),
        ("blocks.0.adaLN_modulation.weight", (192, 9), r"has shape .192, 9.; expected .192, 10."),
        ("output_layer.adaLN_modulation.bias", None, "adaLN_modulation.bias is missing"),
        ("sigma_map.mlp.0.weight", None, "sigma_map.mlp.0.weight is missing or no matrix"),
        ("sigma_map.mlp.2.bias", (3,), "sigma_map.mlp.2.bias has shape .3,."),
        ("blocks.0.norm1.weight", None, "norm1.weight is missing"),
        ("blocks.0.mlp.2.bias", None, "mlp.2.bias is missing"),
        ("blocks.2.norm1.weight", (32,), "blocks.2.norm1.weight is not known"),
    ],
)
def test_a_bd3lm_tensor_that_is_missing_or_odd_is_named(name, shape, message, tmp_path):
    tensors = bd3lm_tensors()
    tensors.pop(f"backbone.{name}", None)
    if shape is not None:
        tensors[f"backbone.{name}"] = np.zeros(shape, np.float32)
    write(tmp_path, BD3LM, tensors)
    with pytest.raises(ModelError, match=f"tensor backbone.{name.split('.')[0]}.*{message}|{message}"):
        load_model(tmp_path)


def test_a_checkpoint_of_half_precision_loads(tmp_path):
    write(tmp_path, BD3LM, {name: np.asarray(one, np.float16) for name, one in bd3lm_tensors().items()})
    half = load_model(tmp_path)
    assert half.precision == "F16"
    assert toy_llm(half, executor="auto").executor.name == "reference"


@pytest.mark.parametrize(
    ("values", "mask"),
    [({}, 5), ({"mask_token_id": 68}, 68), ({"architectures": ["Qwen2ForCausalLM"]}, None)],
    ids=["unstated", "stated", "causal"],
)
def test_a_mask_that_the_configuration_leaves_out_is_the_tokenizers(values, mask, tmp_path):
    values = {name: value for name, value in FAST.items() if name != "mask_token_id"} | values
    fields = Fields("config.json", values)
    architecture = architecture_of_hf(fields)
    tensors = toy_model(architecture.config_from_hf(fields)).tensors
    named = {file_name(architecture.hf_names, ours): one.dequantize() for ours, one in tensors.items()}
    write(tmp_path, values, named)
    words = {"<unk>": 0, "a": 1, "b": 2, "c": 3, "d": 4, "<hidden>": 5}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<hidden>"])
    tokenizer.decoder = ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"mask_token": {"content": "<hidden>"}}))
    assert load_model(tmp_path).config.mask_id == mask


def test_the_axes_are_independent_of_each_other() -> None:
    def traits(values: dict[str, Any]) -> Any:
        fields = Fields("config.json", values)
        return architecture_of_hf(fields).config_from_hf(fields).traits

    axes = {(t.attention, t.logit_shift) for t in map(traits, (LLADA, SDAR, DREAM, FAST))}
    assert len(axes) == 4
