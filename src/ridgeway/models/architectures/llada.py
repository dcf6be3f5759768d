"""LLaDA (Nie et al. 2025): a Llama under OLMo's names that sees in both directions; a row predicts its own position.

Its configuration class can describe far more than any published checkpoint is; what is not a Llama is refused.
"""

from collections.abc import Mapping
from typing import Any

from ridgeway.core.traits import LogitShift
from ridgeway.models.architectures.architecture import Architecture, Names
from ridgeway.models.architectures.llama_family import HARMLESS, MOST_LAYERS, check_heads, divided
from ridgeway.models.architectures.masking import end_ids, mask_id
from ridgeway.models.config import ModelConfig
from ridgeway.models.fields import Fields

_MASK, _ENDS = 126336, (126081, 126348)  # end of text, end of turn

# What the decoder is, and what the class assumes if the field is missing.
_EXPECTED: Mapping[str, tuple[Any, Any]] = {
    "block_type": ("llama", "sequential"),
    "activation_type": ("silu", "swiglu"),
    "layer_norm_type": ("rms", "default"),
    "layer_norm_with_affine": (True, True),
    "attention_layer_norm": (False, False),
    "rope": (True, False),
    "alibi": (False, False),
    "input_emb_norm": (False, False),
    "scale_logits": (False, False),
}

_BLOCK = "model.transformer.blocks.{i}."
_OF_LAYER = {
    "attn_norm": "attn_norm",
    "q": "q_proj",
    "k": "k_proj",
    "v": "v_proj",
    "o": "attn_out",
    "mlp_norm": "ff_norm",
    "gate": "ff_proj",
    "up": "up_proj",
    "down": "ff_out",
}
_NAMES: Names = {
    "embed": "model.transformer.wte.weight",
    "final_norm": "model.transformer.ln_f.weight",
    "final_norm_bias": "model.transformer.ln_f.bias",
    "head": "model.transformer.ff_out.weight",
    "head_bias": "model.transformer.ff_out.bias",
    **{"layers.{i}." + ours: f"{_BLOCK}{theirs}.weight" for ours, theirs in _OF_LAYER.items()},
    **{"layers.{i}." + ours + "_bias": f"{_BLOCK}{theirs}.bias" for ours, theirs in _OF_LAYER.items()},
}


def _config(fields: Fields) -> ModelConfig:
    for name, (expected, assumed) in _EXPECTED.items():
        if (fields.values[name] if name in fields else assumed) != expected:
            raise fields.wrong(name, str(expected).lower() if isinstance(expected, bool) else repr(expected))
    hidden, heads = fields.integer("d_model"), fields.integer("n_heads")
    # The embedding may be padded beyond the vocabulary; ids and logits are those of the embedding.
    vocab_size = fields.integer("embedding_size", fields.integer("vocab_size"))
    bias, tied = fields.flag("include_bias", False), fields.flag("weight_tying", True)
    config = ModelConfig(
        architecture="llada",
        hidden=hidden,
        layers=fields.integer("n_layers", most=MOST_LAYERS),
        heads=heads,
        kv_heads=_kv_heads(fields, heads),
        head_dim=divided(fields, "d_model", hidden, "n_heads", heads),
        intermediate=fields.integer("mlp_hidden_size", fields.integer("mlp_ratio", 4) * hidden),
        vocab_size=vocab_size,
        max_positions=fields.integer("max_sequence_length", 1024),
        rms_eps=fields.number("rms_norm_eps", 1e-5),
        rope_theta=fields.number("rope_theta", 10000.0),
        tied_head=tied,
        qkv_bias=bias or fields.flag("include_qkv_bias", False),
        output_bias=bias,
        mlp_bias=bias,
        head_bias=bias and not tied,
        norm_bias=fields.flag("bias_for_layer_norm", bias),
        attention="bidirectional",
        logit_shift=LogitShift.IN_PLACE,
        mask_id=mask_id(fields, vocab_size, _MASK),
        end_ids=end_ids(fields, vocab_size, _ENDS),
    )
    check_heads(fields, config)
    return config


def _kv_heads(fields: Fields, heads: int) -> int:
    """`n_kv_heads`; where it is not stated, 1 or all, as `multi_query_attention` says."""
    implied = 1 if fields.flag("multi_query_attention", False) else heads
    stated = fields.integer("n_kv_heads", implied)
    if "multi_query_attention" in fields and stated != implied:
        raise fields.wrong("n_kv_heads", f"{implied}, as multi_query_attention says")
    return stated


ARCHITECTURE = Architecture(
    name="llada",
    hf_class="LLaDAModelLM",
    config_from_hf=_config,
    hf_names=_NAMES,
    harmless=HARMLESS,
)
