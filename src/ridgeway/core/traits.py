"""What a decoding method may know of a model: everything but its tensors."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from ridgeway.core.visibility import BIDIRECTIONAL, CAUSAL, Block, Visibility


class LogitShift(Enum):
    """Which position a row's logits predict."""

    NEXT = 1  # the row at position p predicts the token at p + 1 (autoregressive models, Dream)
    IN_PLACE = 0  # the row at position p predicts the token at p (LLaDA, SDAR, BD3-LM)


@dataclass(frozen=True)
class ModelTraits:
    """vocab_size: ids are below it. attention: what the model was trained to see. max_positions: longest sequence.

    mask_id and block_size: of diffusion models, else None. end_ids: tokens that end an answer. mask_shift: which
    position the mask rows of a causal model predict (its clean rows predict the next); else `logit_shift` is of all.
    """

    vocab_size: int
    max_positions: int
    end_ids: tuple[int, ...] = ()
    attention: Literal["causal", "bidirectional", "block"] = "causal"
    logit_shift: LogitShift = LogitShift.NEXT
    mask_id: int | None = None
    block_size: int | None = None
    mask_shift: LogitShift = LogitShift.NEXT

    @property
    def visibility(self) -> Visibility:
        """How committed tokens see each other; K/V in the cache are computed under it."""
        if self.attention == "bidirectional":
            return BIDIRECTIONAL
        if self.attention == "block":
            assert self.block_size is not None
            return Block(self.block_size)
        return CAUSAL

    @property
    def autoregressive(self) -> bool:
        return self.attention == "causal" and self.logit_shift is LogitShift.NEXT
