"""Masked diffusion: the whole answer at once, from masks to text.

The answer starts as masks. A model that sees in both directions proposes a token for each of them, some are revealed,
and the rest is proposed anew with those in view. Every weight stream recomputes prompt and answer, as the K/V of all
tokens change with every reveal: nothing can be cached exactly, so a stream costs as much as a prefill and has the
arithmetic intensity of one. That pays where arithmetic idles and few steps are enough.

    step 0   The prompt: M M M M M M M M
    step 1   The prompt: M M sat M M M M .      rows that see each other: all of them
    step 2   The prompt: M cat sat on M M M .

`block=N` reveals semi-autoregressively, N positions at a time from left to right (LLaDA). `cache=approximate-prefix`
and `cache=approximate-dual` are Fast-dLLM's: a stream over everything at the beginning of each block, then only the
block and what follows it (or the block alone) against K/V that were computed when more of the answer was masked. They
are stale, so the text changes: the name says approximate, and so does every report.

After LLaDA (Nie et al. 2025, arXiv 2502.09992, algorithms 4 and 5), D3PM's absorbing state (Austin et al. 2021), Dream
(Ye et al. 2025, arXiv 2508.15487) and Fast-dLLM (Wu et al. 2025, arXiv 2505.22618, sections 3.2 and 3.3).
"""

from dataclasses import dataclass

import numpy as np

from ridgeway.core.arrays import IntArray, ints
from ridgeway.core.sequence import Sequence
from ridgeway.core.traits import LogitShift, ModelTraits
from ridgeway.core.visibility import BIDIRECTIONAL, CAUSAL, Visibility
from ridgeway.methods.canvas import Canvas
from ridgeway.methods.denoising import Denoising

CACHES = ("none", "approximate-prefix", "approximate-dual")


@dataclass(frozen=True)
class Diffusion(Denoising):
    """Denoise the whole answer at once, several tokens per weight stream (masked diffusion).

    steps are those of the whole answer, split evenly over its blocks. block: positions that are revealed before the
    next ones are; None: all. length: of the answer, where the request sets no `max_tokens`; longer answers go on with
    as many masks again. cache: see above.
    """

    name = "diffusion"
    needs = "a model that sees in both directions and a mask token"
    attention = "bidirectional"

    block: int | None = None
    length: int = 128
    cache: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block is not None and self.block < 1:
            raise ValueError(f"block={self.block}: a block has at least 1 position")
        if self.length < 1:
            raise ValueError(f"length={self.length}: an answer has at least 1 token")
        if self.cache not in CACHES:
            raise ValueError(f"cache={self.cache!r}: expected one of {', '.join(CACHES)}")

    @property
    def approximate(self) -> str | None:
        return None if self.cache == "none" else f"{self.cache.replace('-', ' ')} cache"

    def mismatch(self, traits: ModelTraits) -> str | None:
        if traits.attention == "causal-block":
            return f"the model denoises blocks of {traits.block_size or 'a few'} tokens; a whole answer is a longer one"
        return None

    def visibility(self, traits: ModelTraits) -> Visibility:
        return BIDIRECTIONAL if traits.attention == "bidirectional" else CAUSAL

    def next_canvas(self, sequence: Sequence) -> Canvas:
        traits, committed = sequence.traits, sequence.committed
        mask = self.mask_of(traits)
        length = sequence.max_committed - committed
        if sequence.params.max_tokens is None:
            length = min(length, self.length)
        known = sequence.tokens if traits.attention == "bidirectional" else []
        tokens = np.concatenate([ints(known), np.full(length, mask, dtype=np.int64)])
        return Canvas(committed - len(known), tokens, mask, origin=committed, region=self.block or length)

    def steps_of(self, canvas: Canvas, region: int) -> int:
        low, high = canvas.bounds(region)
        if self.steps is None:
            return high - low
        each, more = divmod(self.steps, canvas.regions)
        return max(1, each + (region < more))

    def later(self, sequence: Sequence, canvas: Canvas) -> tuple[int, bool]:
        return 0, sequence.params.max_tokens is not None

    def window(self, canvas: Canvas) -> tuple[int, int]:
        low, high = canvas.bounds(canvas.present)
        if self.cache == "none":
            return canvas.start, canvas.stop
        return (low, canvas.stop) if self.cache == "approximate-prefix" else (low, high)

    def refresh_reveals(self, sequence: Sequence, canvas: Canvas) -> IntArray:
        # The first position of a block is read from the row before it, which only this stream computes.
        positions = canvas.open_positions()
        return positions[:1] if sequence.traits.logit_shift is LogitShift.NEXT else positions
