"""How the configurations of diffusion checkpoints are read, and how odd ones are refused."""

from typing import Any

import pytest

from ridgeway.core.errors import ModelError
from ridgeway.core.traits import LogitShift
from ridgeway.models.architectures import architecture_of_hf
from ridgeway.models.config import ModelConfig
from ridgeway.models.fields import Fields

LLADA = {
    "architectures": ["LLaDAModelLM"],
    "d_model": 64,
    "n_layers": 2,
    "n_heads": 4,
    "mlp_hidden_size": 96,
    "vocab_size": 320,
    "block_type": "llama",
    "activation_type": "silu",
    "layer_norm_type": "rms",
    "rope": True,
}
QWEN = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 152064,
    "max_position_embeddings": 512,
}
SDAR = QWEN | {"architectures": ["SDARForCausalLM"]}
DREAM = QWEN | {"architectures": ["DreamModel"]}
FAST = QWEN | {"architectures": ["Fast_dLLM_QwenForCausalLM"]}
BD3LM = {"architectures": ["BD3LM"], "hidden_dim": 32, "n_blocks": 2, "n_heads": 2, "vocab_size": 80, "block_size": 4}


def config(values: dict[str, Any], **more: Any) -> ModelConfig:
    fields = Fields("config.json", values | more)
    return architecture_of_hf(fields).config_from_hf(fields)


@pytest.mark.parametrize(
    ("values", "attention", "shift", "mask", "block"),
    [
        (LLADA | {"vocab_size": 126464}, "bidirectional", LogitShift.IN_PLACE, 126336, None),
        (SDAR, "block", LogitShift.IN_PLACE, 151669, 4),
        (DREAM, "bidirectional", LogitShift.NEXT, 151666, None),
        (FAST, "block", LogitShift.NEXT, 151665, 32),
    ],
)
def test_what_a_checkpoint_leaves_out_is_what_its_family_was_trained_with(
    values: dict[str, Any], attention: str, shift: LogitShift, mask: int, block: int | None
) -> None:
    traits = config(values).traits
    assert (traits.attention, traits.logit_shift, traits.mask_id, traits.block_size) == (attention, shift, mask, block)
    assert traits.end_ids


def test_a_small_vocabulary_has_no_mask_unless_the_checkpoint_names_one() -> None:
    assert config(FAST, vocab_size=320).mask_id is None
    assert config(FAST, vocab_size=320).end_ids == ()
    assert config(FAST, vocab_size=320, mask_token_id=316).mask_id == 316


def test_an_end_token_of_another_vocabulary_keeps_the_familys_out() -> None:
    assert config(SDAR, eos_token_id=7).end_ids == ()
    assert config(SDAR, eos_token_id=151643).end_ids == (151645, 151643)


def test_the_block_size_is_the_checkpoints() -> None:
    assert config(SDAR, block_size=64).block_size == 64
    assert config(FAST, bd_size=8).block_size == 8


def test_biases_of_llada_are_those_of_all_its_linear_layers_or_of_q_k_and_v() -> None:
    everywhere = set(config(LLADA, include_bias=True, weight_tying=False).tensor_shapes())
    assert everywhere >= {"layers.0.q_bias", "layers.1.o_bias", "layers.0.down_bias", "head_bias", "final_norm_bias"}
    some = config(LLADA, include_qkv_bias=True)
    assert some.qkv_bias
    assert not some.output_bias
    assert not config(LLADA, include_bias=True, bias_for_layer_norm=False).norm_bias
    assert "head_bias" not in config(LLADA, include_bias=True, weight_tying=True).tensor_shapes()


def test_llada_shares_keys_among_heads_as_its_class_reads_them() -> None:
    assert config(LLADA).kv_heads == 4
    assert config(LLADA, n_kv_heads=2).kv_heads == 2
    assert config(LLADA, multi_query_attention=True).kv_heads == 1
    with pytest.raises(ModelError, match="n_kv_heads is 2; expected 1, as multi_query_attention says"):
        config(LLADA, multi_query_attention=True, n_kv_heads=2)


def test_llada_sizes_follow_from_what_is_stated() -> None:
    assert config(LLADA, mlp_hidden_size=None, mlp_ratio=3).intermediate == 192
    assert config(LLADA, embedding_size=384).vocab_size == 384
    assert config(LLADA, embedding_size=None).vocab_size == 320
    assert config(LLADA, weight_tying=True).tied_head


def test_bd3lm_is_told_apart_from_the_baselines_of_its_paper() -> None:
    blocks = config(BD3LM).traits
    assert (blocks.attention, blocks.block_size, blocks.mask_id) == ("block", 4, 79)
    assert config(BD3LM, mask_token_id=3).mask_id == 3
    whole = config(BD3LM, cross_attn=False, block_size=None).traits
    assert (whole.attention, whole.logit_shift, whole.block_size) == ("bidirectional", LogitShift.IN_PLACE, None)
    assert config(BD3LM, cross_attn=False, causal=True).traits.autoregressive


def test_bd3lm_without_modulation_has_neither_gates_nor_shifts() -> None:
    names = set(config(BD3LM, adaln=False, time_conditioning=True).tensor_shapes())
    assert not {"layers.0.attn_scale", "layers.0.attn_norm_bias", "final_norm_bias"} & names
    assert names >= {"layers.0.up_bias", "head_bias"}


@pytest.mark.parametrize(
    ("values", "more", "message"),
    [
        (LLADA, {"block_type": "sequential"}, "block_type is 'sequential'; expected 'llama'"),
        (LLADA, {"block_type": None}, "block_type is None; expected 'llama'"),
        (LLADA, {"rope": False}, "rope is False; expected true"),
        (LLADA, {"alibi": True}, "alibi is True; expected false"),
        (LLADA, {"activation_type": "gelu"}, "activation_type is 'gelu'; expected 'silu'"),
        (LLADA, {"attention_layer_norm": True}, "attention_layer_norm is True; expected false"),
        (LLADA, {"scale_logits": True}, "scale_logits is True; expected false"),
        (LLADA, {"d_model": 66}, "d_model is 66; expected a multiple of n_heads, 4"),
        (LLADA, {"n_kv_heads": 3}, "4 query heads share 3"),
        (LLADA, {"d_model": None}, "d_model is missing"),
        (LLADA, {"n_layers": -1}, "n_layers is -1"),
        (LLADA, {"mask_token_id": 320}, "mask_token_id is 320; expected token ids from 0 to 319"),
        (SDAR, {"mask_token_id": [1, 2]}, "expected one token id"),
        (SDAR, {"block_size": 0}, "block_size is 0"),
        (SDAR, {"block_size": 1024}, "block_size is 1024; expected at most 512, the model"),
        (FAST, {"bd_size": "32"}, "bd_size is '32'; expected an integer"),
        (DREAM, {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        (BD3LM, {"block_size": None}, "block_size is missing"),
        (BD3LM, {"block_size": 2048}, "block_size is 2048; expected at most 1024, the model"),
        (BD3LM, {"time_conditioning": True}, "time_conditioning is True; expected false"),
        (BD3LM, {"causal": True}, "causal is True; expected false, as cross_attn is true"),
        (BD3LM, {"n_heads": 3}, "hidden_dim is 32; expected a multiple of n_heads, 3"),
    ],
)
def test_a_field_that_is_not_supported_is_named_with_what_was_expected(
    values: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=rf"^config\.json: .*{message}"):
        config(values, **more)
