"""One set of weights read as different models: causally, in blocks of any size it learned, or as a whole text.

`toy-diffusion` learned them all, so that decoding methods can be compared at equal weights, and nothing else differs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ridgeway.core.traits import LogitShift
from ridgeway.models.model import Model


@dataclass(frozen=True)
class Reading:
    """method: that decodes it, options: those it always has. block_size: None where there are no blocks. axes: what the
    configuration says of it.
    """

    name: str
    method: str
    block_size: int | None
    axes: Mapping[str, Any]
    options: str = ""

    def by(self, options: str = "") -> str:
        """The method with these options."""
        both = ",".join(part for part in (self.options, options) if part)
        return f"{self.method}:{both}" if both else self.method

    def of(self, model: Model) -> Model:
        """The same weights as this model."""
        return replace(model, config=replace(model.config, **self.axes))


def blocks_of(size: int) -> Reading:
    axes = {"attention": "block", "logit_shift": LogitShift.IN_PLACE, "block_size": size}
    return Reading(f"blocks of {size}", "block-diffusion", size, axes)


AUTOREGRESSIVE = Reading(
    "autoregressive", "ar", None, {"attention": "causal", "logit_shift": LogitShift.NEXT, "block_size": None}
)
# Revealed 8 positions at a time from left to right, as LLaDA was evaluated: a model that fills up its texts with end
# tokens is surest of those, and would reveal them first.
WHOLE = Reading(
    "whole text",
    "diffusion",
    None,
    {"attention": "bidirectional", "logit_shift": LogitShift.IN_PLACE, "block_size": None},
    "block=8",
)
