"""SDAR (Cheng et al. 2025): Qwen3 turned into a block diffusion model. A row predicts its own position, and sees its
block as a whole and all blocks before it; so does the prompt.

Not stated by all checkpoints: blocks of 4, mask 151669 (`generate.py` of the project).
"""

from ridgeway.core.traits import LogitShift
from ridgeway.models.architectures.architecture import Architecture
from ridgeway.models.architectures.llama_family import HARMLESS, HF_NAMES, hf_config, qwen_windows
from ridgeway.models.architectures.masking import block_size, end_ids, mask_id
from ridgeway.models.config import ModelConfig
from ridgeway.models.fields import Fields

_BLOCK, _MASK, _ENDS = 4, 151669, (151645, 151643)


def _config(fields: Fields) -> ModelConfig:
    bias, vocab_size = fields.flag("attention_bias", False), fields.integer("vocab_size")
    return hf_config(
        fields,
        "sdar",
        head_dim=128,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm=True,
        windows=qwen_windows(fields),
        attention="block",
        logit_shift=LogitShift.IN_PLACE,
        block_size=block_size(fields, "block_size", _BLOCK, fields.integer("max_position_embeddings")),
        mask_id=mask_id(fields, vocab_size, _MASK),
        end_ids=end_ids(fields, vocab_size, _ENDS),
    )


ARCHITECTURE = Architecture(
    name="sdar",
    hf_class="SDARForCausalLM",
    config_from_hf=_config,
    hf_names=HF_NAMES,
    harmless=HARMLESS,
)
