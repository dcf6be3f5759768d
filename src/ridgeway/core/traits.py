"""What a decoding method may know of a model: everything but its tensors."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from ridgeway.core.visibility import BIDIRECTIONAL, CAUSAL, Block, Visibility

Attention = Literal["causal", "bidirectional", "block", "causal-block"]


class LogitShift(Enum):
    """Which position a row's logits predict."""

    NEXT = 1  # the row at position p predicts the token at p + 1 (autoregressive models, Dream, Fast-dLLM v2)
    IN_PLACE = 0  # the row at position p predicts the token at p (LLaDA, SDAR, BD3-LM)


@dataclass(frozen=True)
class ModelTraits:
    """vocab_size: ids are below it. max_positions: longest sequence. end_ids: tokens that end an answer.

    What checkpoints were trained to do differs along axes that know nothing of each other:

    - attention: `causal`; `bidirectional` (every token sees all, LLaDA); `block` (bidirectional inside blocks of
      `block_size` at absolute positions, causal across them, the prompt included: SDAR, BD3-LM); `causal-block`
      (finished tokens see causally, only the block that is being denoised sees itself as a whole).
    - logit_shift: which position a row predicts. mask_shift: which one the mask rows of a causal model predict, whose
      clean rows predict the next; of other models `logit_shift` is of all rows.
    - mask_id: the token that stands for what is not known yet; None: the model has none. A causal model may have one.
    - draft_head: whether a head was trained that guesses its next tokens from its hidden states.
    - block_size: how many positions a block has that is denoised at once; None where there are no blocks.
    """

    vocab_size: int
    max_positions: int
    end_ids: tuple[int, ...] = ()
    attention: Attention = "causal"
    logit_shift: LogitShift = LogitShift.NEXT
    mask_id: int | None = None
    block_size: int | None = None
    mask_shift: LogitShift = LogitShift.NEXT
    draft_head: bool = False

    def __post_init__(self) -> None:
        assert self.mask_id is None or 0 <= self.mask_id < self.vocab_size, (self.mask_id, self.vocab_size)
        assert self.block_size is None or self.block_size > 0, self.block_size
        assert self.block_size is not None or self.attention != "block", "blocks have a size"

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
        """Whether its rows can be read as those of a causal model, whatever else it can do."""
        return self.visibility is CAUSAL and self.logit_shift is LogitShift.NEXT

    @property
    def words(self) -> str:
        """The axes for people, as what follows "this model": its attention, and where it predicts."""
        attention = {
            "causal": "sees causally",
            "bidirectional": "sees in both directions",
            "block": f"sees in both directions inside blocks of {self.block_size} tokens",
            "causal-block": "sees causally but for the block that it denoises",
        }[self.attention]
        return attention + (" and predicts the row's own position" if self.logit_shift is LogitShift.IN_PLACE else "")
