"""A trained model as a folder in Hugging Face layout, which the ordinary loader reads.

A decoder of Qwen3's kind that denoises blocks in place is what SDAR is, and is saved as that, so that other engines
can run it too. For all else the folder is the autoregressive architecture's, with a section `diffusion` in its
configuration that says how the model reads.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

from ridgeway.core.errors import RequestError
from ridgeway.core.traits import LogitShift
from ridgeway.models.architectures import ARCHITECTURES
from ridgeway.models.architectures.architecture import file_name
from ridgeway.models.config import ModelConfig, RopeScaling
from ridgeway.models.diffusion_section import diffusion_section
from ridgeway.training.start import Beginning

Precision = Literal["float32", "bfloat16"]
_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def save_model(folder: Path, model: Beginning, precision: Precision = "bfloat16", recipe: str = "") -> None:
    """Weights, configuration and tokenizer; and the recipe, if given, so that the folder says how it was made."""
    folder.mkdir(parents=True, exist_ok=True)
    values = hf_values(model.config) | {"torch_dtype": precision}
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")
    names = next(a for a in ARCHITECTURES if a.name == values["model_type"]).hf_names
    weights = {
        file_name(names, name): weight.to(_TYPES[precision]).contiguous()
        for name, weight in model.decoder.weights().items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # the library leaves it to its owner alone
    model.tokenizer.backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(model.special), indent=2) + "\n")
    if recipe:
        (folder / "recipe.toml").write_text(recipe)


def hf_values(config: ModelConfig) -> dict[str, Any]:
    """`config.json`. Raises RequestError for what no such file can say."""
    values = _decoder_values(config)
    name = config.architecture
    if name in ("qwen3", "sdar") and config.attention == "block" and config.logit_shift is LogitShift.IN_PLACE:
        name = "sdar"
        values |= {"block_size": config.block_size, "mask_token_id": config.mask_id}
    else:
        values |= diffusion_section(config)
    known = {architecture.name: architecture for architecture in ARCHITECTURES}
    return {"architectures": [known[name].hf_class], "model_type": name} | values


def _decoder_values(config: ModelConfig) -> dict[str, Any]:
    values: dict[str, Any] = {
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate,
        "hidden_act": "silu",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.rms_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied_head,
        "eos_token_id": list(config.end_ids),
    }
    if config.architecture in ("llama", "qwen3", "sdar"):
        values["attention_bias"] = config.qkv_bias
    if config.architecture == "llama":
        values["mlp_bias"] = config.mlp_bias
    if config.rope_scaling is not None:
        values["rope_scaling"] = _rope_scaling(config)
    if any(config.windows):
        values |= _windows(config)
    return values


def _rope_scaling(config: ModelConfig) -> Mapping[str, Any]:
    rule = config.rope_scaling
    if not isinstance(rule, RopeScaling):
        raise RequestError(
            "its rotary frequencies have a factor each: no config.json can say so; start from safetensors"
        )
    return {
        "rope_type": "llama3",
        "factor": rule.factor,
        "low_freq_factor": rule.low_freq_factor,
        "high_freq_factor": rule.high_freq_factor,
        "original_max_position_embeddings": rule.original_max_positions,
    }


def _windows(config: ModelConfig) -> Mapping[str, Any]:
    window = next(window for window in config.windows if window is not None)
    if config.architecture == "mistral":
        return {"sliding_window": window}
    types = ["full_attention" if size is None else "sliding_attention" for size in config.windows]
    return {"use_sliding_window": True, "sliding_window": window, "layer_types": types}
