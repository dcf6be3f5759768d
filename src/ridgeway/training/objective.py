"""What is minimized: an upper bound on the negative log-likelihood of texts, and for a model that is read both ways
the likelihood itself.

Masked diffusion (Sahoo et al. 2024, eq. 10; Nie et al. 2025, eq. 3) and block diffusion (Arriola et al. 2025, eq. 8)
are one formula. With the linear schedule, and t for each block of its own,

    -log p(x)  <=  sum over blocks b of E_t E_mask 1/t sum over masked i in b of -log p(x_i | noisy b, clean before b)

One block that is the whole text makes it masked diffusion; blocks of one token make it the autoregressive likelihood.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ridgeway.core.errors import RequestError
from ridgeway.core.traits import LogitShift
from ridgeway.training.decoder import Decoder
from ridgeway.training.noise import noise
from ridgeway.training.visibility import bidirectional, clean_and_noisy, row_positions


@dataclass(frozen=True)
class Texts:
    """A batch. tokens: (batch, length). maskable: (batch, length), what is to be predicted: not a prompt's tokens."""

    tokens: Tensor
    maskable: Tensor


@dataclass(frozen=True)
class Objective:
    """One way to read a text.

    block_size: None: the whole text is one block (masked diffusion). mask_id: of the token that stands for nothing.
    logit_shift: whether row p predicts token p, or p + 1 (kept by models that come from autoregressive ones). between:
    bounds of the time t. complementary: two noisy copies, each masking what the other shows. causal_clean: clean rows
    see causally. causal_weight: of the autoregressive loss of the clean rows; above 0 for a model read both ways.
    """

    block_size: int | None
    mask_id: int
    logit_shift: LogitShift = LogitShift.IN_PLACE
    between: tuple[float, float] = (1e-3, 1.0)
    complementary: bool = False
    causal_clean: bool = False
    causal_weight: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.between
        if not 0 < low <= high <= 1 or (self.complementary and high == 1 and low == 1):
            raise RequestError(
                f"times between {low:g} and {high:g}: expected 0 < low <= high <= 1, not both 1 if complementary"
            )
        if self.causal_weight and not (self.causal_clean or self.block_size == 1):
            raise RequestError("causal_weight needs clean rows that see causally: causal_clean, or blocks of 1")
        if self.block_size is None and self.causal_clean:
            raise RequestError("causal_clean needs blocks: without them there are no clean rows")

    def loss(self, decoder: Decoder, texts: Texts, generator: torch.Generator) -> Tensor:
        """Nats per token that is to be predicted: the bound, plus the autoregressive loss times its weight."""
        length = texts.tokens.shape[1]
        copies = noise(self.denoised(texts), self.block_size or length, self.between, self.complementary, generator)
        noisy, clean = self.read(decoder, texts.tokens, [copy.masked for copy in copies])
        alone = self.predicted_clean(texts)
        predicted = max(1, int(texts.maskable.sum()))
        total = torch.zeros(())
        for logits, (masked, weight) in zip(noisy, copies, strict=True):
            where, weight = masked | alone, torch.where(alone, 1.0, weight)
            surprise = functional.cross_entropy(logits[where], texts.tokens[where], reduction="none")
            total = total + (surprise * weight[where]).sum() / (predicted * len(copies))
        if self.causal_weight:
            assert clean is not None
            where = texts.maskable[:, 1:]
            surprise = functional.cross_entropy(clean[:, :-1][where], texts.tokens[:, 1:][where], reduction="sum")
            total = total + self.causal_weight * surprise / predicted
        return total

    def predicted_clean(self, texts: Texts) -> Tensor:
        """(batch, length): what is predicted from clean rows whatever is masked, if rows predict the next token: the
        first of each block.
        """
        first = torch.arange(texts.tokens.shape[1]) % (self.block_size or texts.tokens.shape[1]) == 0
        first[0] = False  # nothing comes before it
        return texts.maskable & first & (self.logit_shift is LogitShift.NEXT)

    def denoised(self, texts: Texts) -> Tensor:
        """(batch, length): what is masked and predicted from what is not."""
        free = texts.maskable & ~self.predicted_clean(texts)
        if self.logit_shift is LogitShift.NEXT:
            free[:, 0] = False
        return free

    def read(self, decoder: Decoder, tokens: Tensor, masks: Sequence[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        """Logits (batch, length, vocabulary) that predict each token, for each noisy copy; and those of the clean rows.

        masks: (batch, length) each. One forward pass for all of them. No clean rows (None) if the text is one block.
        """
        length = tokens.shape[1]
        noisy = [tokens.masked_fill(mask, self.mask_id) for mask in masks]
        if self.block_size is None:
            everything = bidirectional(length)
            logits = decoder(torch.cat(noisy), torch.arange(length), everything)
            clean = None
            parts = list(logits.chunk(len(masks)))
        else:
            rows = torch.cat([*noisy, tokens], dim=1)
            positions = row_positions(length, len(masks))
            sees = clean_and_noisy(length, self.block_size, len(masks), self.causal_clean)
            *parts, clean = decoder(rows, positions, sees).split(length, dim=1)
        if self.logit_shift is LogitShift.NEXT:
            parts = [self._shifted(part, clean) for part in parts]
        return parts, clean

    def _shifted(self, noisy: Tensor, clean: Tensor | None) -> Tensor:
        """Logits that predict token i: those of row i - 1, of the clean one where i begins a block."""
        if clean is not None and self.block_size is not None:
            last = torch.eq(torch.arange(noisy.shape[1]) % self.block_size, self.block_size - 1)
            noisy = torch.where(last[:, None], clean, noisy)
        return noisy.roll(1, dims=1)
