"""Fast-dLLM v2 (Wu et al. 2025): Qwen2.5 turned into a block diffusion model. A row sees its block as a whole and all
blocks before it, the prompt included, and still predicts the position after its own.

The mask, 151665, is written down in its `generate` only.
"""

from ridgeway.core.traits import LogitShift
from ridgeway.models.architectures.architecture import Architecture
from ridgeway.models.architectures.llama_family import HARMLESS, HF_NAMES, hf_config, qwen_windows
from ridgeway.models.architectures.masking import block_size, end_ids, mask_id
from ridgeway.models.config import ModelConfig
from ridgeway.models.fields import Fields

_BLOCK, _MASK, _ENDS = 32, 151665, (151645,)


def _config(fields: Fields) -> ModelConfig:
    vocab_size = fields.integer("vocab_size")
    return hf_config(
        fields,
        "fast_dllm_v2",
        qkv_bias=True,
        windows=qwen_windows(fields),
        attention="block",
        logit_shift=LogitShift.NEXT,
        block_size=block_size(fields, "bd_size", _BLOCK, fields.integer("max_position_embeddings")),
        mask_id=mask_id(fields, vocab_size, _MASK),
        end_ids=end_ids(fields, vocab_size, _ENDS),
    )


ARCHITECTURE = Architecture(
    name="Fast_dLLM_Qwen",
    hf_class="Fast_dLLM_QwenForCausalLM",
    config_from_hf=_config,
    hf_names=HF_NAMES,
    harmless=HARMLESS,
)
