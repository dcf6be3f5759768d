"""How checkpoints of each architecture translate into the one decoder definition: one small file per
architecture.

To add one, write a file that ends in `ARCHITECTURE = Architecture(...)` and add it to `ARCHITECTURES`.
"""

from ridgeway.core.errors import ModelError
from ridgeway.models.architectures import bd3lm, dream, fast_dllm_v2, llada, llama, mistral, qwen2, qwen3, sdar
from ridgeway.models.architectures.architecture import Architecture
from ridgeway.models.fields import Fields

ARCHITECTURES: tuple[Architecture, ...] = (
    llama.ARCHITECTURE,
    mistral.ARCHITECTURE,
    qwen2.ARCHITECTURE,
    qwen3.ARCHITECTURE,
    llada.ARCHITECTURE,
    sdar.ARCHITECTURE,
    dream.ARCHITECTURE,
    fast_dllm_v2.ARCHITECTURE,
    bd3lm.ARCHITECTURE,
)


def architecture_of_hf(fields: Fields) -> Architecture:
    """The architecture that a `config.json` names in `architectures`, or in `model_type` if it names no
    class.
    """
    classes = fields.values.get("architectures")
    if classes:
        if not isinstance(classes, list) or not all(isinstance(item, str) for item in classes):
            raise fields.wrong("architectures", "a list of class names")
        for architecture in ARCHITECTURES:
            if architecture.hf_class in classes:
                return architecture
        raise fields.wrong("architectures", f"one of {_known('hf_class')}")
    for architecture in ARCHITECTURES:
        if architecture.name == fields.values.get("model_type"):
            return architecture
    raise fields.wrong("model_type", f"one of {_known('name')}")


def architecture_of_gguf(fields: Fields) -> Architecture:
    """The architecture that GGUF metadata names in `general.architecture`."""
    name = fields.text("general.architecture")
    for architecture in ARCHITECTURES:
        if architecture.gguf_name == name:
            return architecture
    raise ModelError(fields.source, f"architecture {name!r} is not supported; supported: {_known('gguf_name')}")


def _known(attribute: str) -> str:
    return ", ".join(name for a in ARCHITECTURES if (name := getattr(a, attribute)))
