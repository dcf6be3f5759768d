"""How a model reads, told in its `config.json` beside an architecture that would not say it.

Architectures of the literature imply their axes (SDAR: blocks, in place). A Llama that was turned into a diffusion
model has no name of its own; its folder has a section for the axes instead:

    "diffusion": {"attention": "block", "block_size": 4, "logit_shift": "in place", "mask_token_id": 49152}
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from ridgeway.core.traits import Attention, LogitShift
from ridgeway.models.config import ModelConfig
from ridgeway.models.fields import Fields

_ATTENTION: Mapping[str, Attention] = {name: name for name in get_args(Attention)}
_SHIFTS = {"in place": LogitShift.IN_PLACE, "next": LogitShift.NEXT}
_WORDS = {shift: word for word, shift in _SHIFTS.items()}


def with_diffusion_section(config: ModelConfig, fields: Fields) -> ModelConfig:
    """`config` as the section says; as it is if there is none. Raises ModelError."""
    section = fields.section("diffusion")
    if section is None:
        return config
    attention, shift = section.text("attention"), section.text("logit_shift")
    if attention not in _ATTENTION:
        raise section.wrong("attention", f"one of {', '.join(_ATTENTION)}")
    if shift not in _SHIFTS:
        raise section.wrong("logit_shift", " or ".join(_SHIFTS))
    ids = section.ids("mask_token_id", config.vocab_size)
    if len(ids) != 1:
        raise section.wrong("mask_token_id", "one token id")
    causal = attention in ("causal", "causal-block")
    return replace(
        config,
        attention=_ATTENTION[attention],
        logit_shift=LogitShift.NEXT if causal else _SHIFTS[shift],
        mask_shift=_SHIFTS[shift],
        mask_id=ids[0],
        block_size=None if attention == "bidirectional" else section.integer("block_size", most=config.max_positions),
    )


def diffusion_section(config: ModelConfig) -> dict[str, Any]:
    """What `with_diffusion_section` reads; nothing for a model without a mask."""
    if config.mask_id is None:
        return {}
    shift = config.mask_shift if config.attention in ("causal", "causal-block") else config.logit_shift
    section = {
        "attention": config.attention,
        "block_size": config.block_size,
        "logit_shift": _WORDS[shift],
        "mask_token_id": config.mask_id,
    }
    return {"diffusion": section}
