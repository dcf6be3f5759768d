"""What the architectures of the Llama family share: names, and the reading of sizes, rotary embedding and
windows.

Sources: the configuration classes of transformers (`LlamaConfig` and its kin, versions 4 and 5) and the
metadata keys of the GGUF specification.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ridgeway.core.errors import ModelError
from ridgeway.models.architectures.architecture import Names, TensorSource
from ridgeway.models.config import ModelConfig, RopeScaling
from ridgeway.models.fields import Fields

MOST_LAYERS = 4096  # lists of this length are made before tensors are looked at; no model comes near it

HF_NAMES: Names = {
    "embed": "model.embed_tokens.weight",
    "final_norm": "model.norm.weight",
    "head": "lm_head.weight",
    "layers.{i}.attn_norm": "model.layers.{i}.input_layernorm.weight",
    "layers.{i}.q": "model.layers.{i}.self_attn.q_proj.weight",
    "layers.{i}.k": "model.layers.{i}.self_attn.k_proj.weight",
    "layers.{i}.v": "model.layers.{i}.self_attn.v_proj.weight",
    "layers.{i}.o": "model.layers.{i}.self_attn.o_proj.weight",
    "layers.{i}.q_bias": "model.layers.{i}.self_attn.q_proj.bias",
    "layers.{i}.k_bias": "model.layers.{i}.self_attn.k_proj.bias",
    "layers.{i}.v_bias": "model.layers.{i}.self_attn.v_proj.bias",
    "layers.{i}.o_bias": "model.layers.{i}.self_attn.o_proj.bias",
    "layers.{i}.q_norm": "model.layers.{i}.self_attn.q_norm.weight",
    "layers.{i}.k_norm": "model.layers.{i}.self_attn.k_norm.weight",
    "layers.{i}.mlp_norm": "model.layers.{i}.post_attention_layernorm.weight",
    "layers.{i}.gate": "model.layers.{i}.mlp.gate_proj.weight",
    "layers.{i}.up": "model.layers.{i}.mlp.up_proj.weight",
    "layers.{i}.down": "model.layers.{i}.mlp.down_proj.weight",
    "layers.{i}.gate_bias": "model.layers.{i}.mlp.gate_proj.bias",
    "layers.{i}.up_bias": "model.layers.{i}.mlp.up_proj.bias",
    "layers.{i}.down_bias": "model.layers.{i}.mlp.down_proj.bias",
}

GGUF_NAMES: Names = {
    "embed": "token_embd.weight",
    "final_norm": "output_norm.weight",
    "head": "output.weight",
    "layers.{i}.attn_norm": "blk.{i}.attn_norm.weight",
    "layers.{i}.q": "blk.{i}.attn_q.weight",
    "layers.{i}.k": "blk.{i}.attn_k.weight",
    "layers.{i}.v": "blk.{i}.attn_v.weight",
    "layers.{i}.o": "blk.{i}.attn_output.weight",
    "layers.{i}.q_bias": "blk.{i}.attn_q.bias",
    "layers.{i}.k_bias": "blk.{i}.attn_k.bias",
    "layers.{i}.v_bias": "blk.{i}.attn_v.bias",
    "layers.{i}.o_bias": "blk.{i}.attn_output.bias",
    "layers.{i}.q_norm": "blk.{i}.attn_q_norm.weight",
    "layers.{i}.k_norm": "blk.{i}.attn_k_norm.weight",
    "layers.{i}.mlp_norm": "blk.{i}.ffn_norm.weight",
    "layers.{i}.gate": "blk.{i}.ffn_gate.weight",
    "layers.{i}.up": "blk.{i}.ffn_up.weight",
    "layers.{i}.down": "blk.{i}.ffn_down.weight",
    "layers.{i}.gate_bias": "blk.{i}.ffn_gate.bias",
    "layers.{i}.up_bias": "blk.{i}.ffn_up.bias",
    "layers.{i}.down_bias": "blk.{i}.ffn_down.bias",
}

ROPE_FACTORS = "rope_freqs.weight"

# Rotary frequencies that old checkpoints store though they follow from the configuration, and factors that
# GGUF files store and that become a part of the configuration.
HARMLESS = (re.compile(r".*rotary_emb\.inv_freq"), re.compile(re.escape(ROPE_FACTORS)))


def hf_config(fields: Fields, name: str, *, head_dim: int | None = None, **switches: Any) -> ModelConfig:
    """A `config.json` as a `ModelConfig`. head_dim: the class's own default, else hidden size / heads."""
    activation = fields.text("hidden_act", "silu")
    if activation != "silu":
        raise fields.wrong("hidden_act", "'silu'")
    if "quantization_config" in fields:
        raise ModelError(
            fields.source,
            "quantization_config is set, but safetensors are read in F32, F16 and BF16 only; try a GGUF",
        )
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    if "head_dim" not in fields and head_dim is None:
        head_dim = divided(fields, "hidden_size", hidden, "num_attention_heads", heads)
    max_positions = fields.integer("max_position_embeddings")
    theta, scaling = _hf_rope(fields, max_positions)
    config = ModelConfig(
        architecture=name,
        hidden=hidden,
        layers=hf_layers(fields),
        heads=heads,
        kv_heads=fields.integer("num_key_value_heads", heads),
        head_dim=fields.integer("head_dim", head_dim),
        intermediate=fields.integer("intermediate_size"),
        vocab_size=fields.integer("vocab_size"),
        max_positions=max_positions,
        rms_eps=fields.number("rms_norm_eps", 1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        tied_head=fields.flag("tie_word_embeddings", False),
        **switches,
    )
    check_heads(fields, config)
    return config


def hf_layers(fields: Fields) -> int:
    return fields.integer("num_hidden_layers", most=MOST_LAYERS)


def qwen_windows(fields: Fields) -> tuple[int | None, ...]:
    """Qwen's windows: of the layers that `layer_types` names, else of those from `max_window_layers` on."""
    layers = hf_layers(fields)
    window = None
    if fields.flag("use_sliding_window", False):
        window = fields.integer("sliding_window", 4096)
    if "layer_types" not in fields:
        first = fields.integer("max_window_layers", 28, least=0)
        return tuple(window if i >= first else None for i in range(layers))
    types = fields.values["layer_types"]
    known = {"full_attention": None, "sliding_attention": window}
    listed = isinstance(types, list) and all(isinstance(type, str) and type in known for type in types)
    if not listed or len(types) != layers:
        raise fields.wrong("layer_types", f"{layers} times 'full_attention' or 'sliding_attention'")
    return tuple(known[type] for type in types)


def _hf_rope(fields: Fields, max_positions: int) -> tuple[float, RopeScaling | None]:
    """Base and scaling, as transformers 5 writes them (`rope_parameters`) or 4 (`rope_theta`,
    `rope_scaling`).
    """
    theta = fields.number("rope_theta", 10000.0)
    where = fields
    rules = fields.section("rope_parameters") or fields.section("rope_scaling")
    if rules is not None:
        where = rules
        theta = rules.number("rope_theta", theta)
    for section in (fields, where):
        if section.number("partial_rotary_factor", 1.0) != 1.0:
            raise section.wrong("partial_rotary_factor", "1 (rotary embedding of whole heads)")
    if rules is None:
        return theta, None
    if any(isinstance(value, Mapping) for value in rules.values.values()):
        raise ModelError(fields.source, "rotary embedding differs between layers; expected one rule for all")
    field = "rope_type" if "rope_type" in rules else "type"
    kind = rules.text(field, "default")
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise rules.wrong(field, "'default' or 'llama3' (no other rope scaling is supported)")
    scaling = RopeScaling(
        factor=rules.number("factor"),
        low_freq_factor=rules.number("low_freq_factor"),
        high_freq_factor=rules.number("high_freq_factor"),
        original_max_positions=rules.integer("original_max_position_embeddings", max_positions),
    )
    if scaling.high_freq_factor <= scaling.low_freq_factor:
        raise rules.wrong("high_freq_factor", f"more than low_freq_factor, {scaling.low_freq_factor}")
    return theta, scaling


def gguf_config(fields: Fields, tensors: TensorSource, *, qkv_bias: bool = False, qk_norm: bool = False) -> ModelConfig:
    """GGUF metadata as a `ModelConfig`; what neither it nor the architecture tells (biases, a tied head)
    tensors do.
    """
    name = fields.text("general.architecture")
    shapes = tensors.shapes
    if f"{name}.expert_count" in fields and fields.integer(f"{name}.expert_count", least=0) > 0:
        raise fields.wrong(f"{name}.expert_count", "none (mixtures of experts are not supported)")
    hidden, heads = fields.integer(f"{name}.embedding_length"), fields.integer(f"{name}.attention.head_count")
    if f"{name}.attention.key_length" in fields:
        head_dim = fields.integer(f"{name}.attention.key_length")
    else:
        head_dim = divided(fields, f"{name}.embedding_length", hidden, f"{name}.attention.head_count", heads)
    for other in ("attention.value_length", "rope.dimension_count"):
        if fields.integer(f"{name}.{other}", head_dim) != head_dim:
            raise fields.wrong(f"{name}.{other}", f"{head_dim}, the size of a head")
    layers = fields.integer(f"{name}.block_count", most=MOST_LAYERS)
    embedding = shapes.get(GGUF_NAMES["embed"])
    if embedding is None or len(embedding) != 2:
        raise ModelError(fields.source, f"tensor {GGUF_NAMES['embed']} is missing or no matrix")
    window = fields.integer(f"{name}.attention.sliding_window", 0, least=0) if name == "llama" else 0
    config = ModelConfig(
        architecture=name,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=fields.integer(f"{name}.attention.head_count_kv", heads),
        head_dim=head_dim,
        intermediate=fields.integer(f"{name}.feed_forward_length"),
        vocab_size=embedding[0],
        max_positions=fields.integer(f"{name}.context_length"),
        rms_eps=fields.number(f"{name}.attention.layer_norm_rms_epsilon"),
        rope_theta=fields.number(f"{name}.rope.freq_base", 10000.0),
        rope_scaling=_gguf_rope_factors(fields, name, tensors, head_dim),
        tied_head=GGUF_NAMES["head"] not in shapes,
        qkv_bias=qkv_bias or "blk.0.attn_q.bias" in shapes,
        output_bias="blk.0.attn_output.bias" in shapes,
        mlp_bias="blk.0.ffn_gate.bias" in shapes,
        qk_norm=qk_norm,
        windows=(window or None,) * layers,
    )
    check_heads(fields, config)
    return config


def _gguf_rope_factors(fields: Fields, name: str, tensors: TensorSource, head_dim: int) -> tuple[float, ...] | None:
    kind = fields.text(f"{name}.rope.scaling.type", "none")
    stretch = fields.number(f"{name}.rope.scaling.factor", 1.0) * fields.number(f"{name}.rope.scale_linear", 1.0)
    if kind not in ("none", "linear") or stretch != 1.0:
        raise ModelError(
            fields.source,
            f"rope scaling {kind!r} by {stretch:g} is not supported; expected none, or {ROPE_FACTORS}",
        )
    if ROPE_FACTORS not in tensors.shapes:
        return None
    shape = tensors.shapes[ROPE_FACTORS]
    if shape != (head_dim // 2,):
        raise ModelError(fields.source, f"tensor {ROPE_FACTORS} has shape {shape}; expected ({head_dim // 2},)")
    factors = tensors.read(ROPE_FACTORS).dequantize()
    if not np.all(np.isfinite(factors) & (factors > 0)):
        raise ModelError(fields.source, f"tensor {ROPE_FACTORS} holds values that are not positive numbers")
    return tuple(float(factor) for factor in factors)


def divided(fields: Fields, whole: str, size: int, parts: str, count: int) -> int:
    """`size / count`. Raises ModelError that names both fields if it is no whole number."""
    if size % count:
        raise ModelError(fields.source, f"{whole} is {size}; expected a multiple of {parts}, {count}")
    return size // count


def check_heads(fields: Fields, config: ModelConfig) -> None:
    """Raise ModelError if the heads do not share keys and values evenly, or cannot be rotated as pairs."""
    if config.heads % config.kv_heads:
        raise ModelError(
            fields.source,
            f"{config.heads} query heads share {config.kv_heads} key/value heads; expected a multiple",
        )
    if config.head_dim % 2:
        raise ModelError(fields.source, f"a head has {config.head_dim} dimensions; expected an even number")
