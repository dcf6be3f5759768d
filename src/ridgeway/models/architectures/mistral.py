"""Mistral: Llama whose rows see a sliding window of positions, in every layer (or all, when the window is
null).
"""

from ridgeway.models.architectures.architecture import Architecture
from ridgeway.models.architectures.llama_family import HARMLESS, HF_NAMES, hf_config, hf_layers
from ridgeway.models.config import ModelConfig
from ridgeway.models.fields import Fields


def _config(fields: Fields) -> ModelConfig:
    absent = "sliding_window" not in fields.values  # the class's default is a window; a null is none
    window = fields.integer("sliding_window", 4096) if absent or "sliding_window" in fields else None
    return hf_config(fields, "mistral", windows=(window,) * hf_layers(fields))


ARCHITECTURE = Architecture(
    name="mistral",
    hf_class="MistralForCausalLM",
    config_from_hf=_config,
    hf_names=HF_NAMES,
    harmless=HARMLESS,
)
