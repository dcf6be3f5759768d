"""Qwen2 and Qwen2.5: Llama with biases of q, k and v, and a sliding window in the upper layers if switched
on.
"""

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
    return hf_config(fields, "qwen2", qkv_bias=True, windows=qwen_windows(fields))


ARCHITECTURE = Architecture(
    name="qwen2",
    hf_class="Qwen2ForCausalLM",
    config_from_hf=_config,
    hf_names=HF_NAMES,
    gguf_name="qwen2",
    config_from_gguf=partial(gguf_config, qkv_bias=True),
    gguf_names=GGUF_NAMES,
    harmless=HARMLESS,
)
