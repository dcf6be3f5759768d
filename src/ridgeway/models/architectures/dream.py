"""Dream (Ye et al. 2025): Qwen2.5 made bidirectional. A row predicts the position after its own, as it did before.

DiffuCoder is of the same class. Not stated by all checkpoints: mask 151666.
"""

from ridgeway.core.traits import LogitShift
from ridgeway.models.architectures.architecture import Architecture
from ridgeway.models.architectures.llama_family import HARMLESS, HF_NAMES, hf_config, qwen_windows
from ridgeway.models.architectures.masking import end_ids, mask_id
from ridgeway.models.config import ModelConfig
from ridgeway.models.fields import Fields

_MASK, _ENDS = 151666, (151643, 151645)


def _config(fields: Fields) -> ModelConfig:
    vocab_size = fields.integer("vocab_size")
    return hf_config(
        fields,
        "dream",
        qkv_bias=True,
        windows=qwen_windows(fields),
        attention="bidirectional",
        logit_shift=LogitShift.NEXT,
        mask_id=mask_id(fields, vocab_size, _MASK),
        end_ids=end_ids(fields, vocab_size, _ENDS),
    )


ARCHITECTURE = Architecture(
    name="Dream",
    hf_class="DreamModel",
    config_from_hf=_config,
    hf_names=HF_NAMES,
    harmless=HARMLESS,
)
