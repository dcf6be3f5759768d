"""Qwen3: Llama with RMS norms of each head's q and k, heads of a size of their own, and no biases."""

from functools import partial

from ridgeway.models.architectures.architecture import Architecture
from ridgeway.models.architectures.llama_family import (
    GGUF_NAMES,
    HARMLESS,
    HF_NAMES,
    gguf_config,
    hf_config,
    qwen_windows,
)
from ridgeway.models.config import ModelConfig
from ridgeway.models.fields import Fields


def _config(fields: Fields) -> ModelConfig:
    bias = fields.flag("attention_bias", False)
    return hf_config(
        fields,
        "qwen3",
        head_dim=128,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm=True,
        windows=qwen_windows(fields),
    )


ARCHITECTURE = Architecture(
    name="qwen3",
    hf_class="Qwen3ForCausalLM",
    config_from_hf=_config,
    hf_names=HF_NAMES,
    gguf_name="qwen3",
    config_from_gguf=partial(gguf_config, qk_norm=True),
    gguf_names=GGUF_NAMES,
    harmless=HARMLESS,
)
