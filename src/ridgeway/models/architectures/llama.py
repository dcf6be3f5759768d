"""Llama (and SmolLM2, TinyLlama, ...): rotary scaling of Llama 3, biases where the configuration asks for
them.

GGUF files of Mistral models call themselves `llama` too.
"""

from ridgeway.models.architectures.architecture import Architecture
from ridgeway.models.architectures.llama_family import GGUF_NAMES, HARMLESS, HF_NAMES, gguf_config, hf_config
from ridgeway.models.config import ModelConfig
from ridgeway.models.fields import Fields


def _config(fields: Fields) -> ModelConfig:
    bias = fields.flag("attention_bias", False)
    return hf_config(fields, "llama", qkv_bias=bias, output_bias=bias, mlp_bias=fields.flag("mlp_bias", False))


ARCHITECTURE = Architecture(
    name="llama",
    hf_class="LlamaForCausalLM",
    config_from_hf=_config,
    hf_names=HF_NAMES,
    gguf_name="llama",
    config_from_gguf=gguf_config,
    gguf_names=GGUF_NAMES,
    gguf_interleaved=True,
    harmless=HARMLESS,
)
