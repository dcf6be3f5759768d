"""Block diffusion: denoise a block of tokens at once, one block after the other, with exact K/V of what is finished.

Inside a block every token sees every other, across blocks only those before: a finished block never changes, so its
K/V are computed once and cached, exactly. A denoising step is then a stream over a few rows, as cheap as verifying a
draft, and each stream reveals as many tokens of the block as the rule trusts. Block size 1 is autoregressive decoding,
a block of the answer's length masked diffusion; in between, the block size moves a run along the roofline.

    rows       f f f f | t t M M       f: the block just finished, kept in the cache; t M: the next one
    see        f         f t M         (and everything cached)

K/V of a finished block come from its final tokens, so it passes through the model once more; where the model predicts
in place, that pass shares a stream with the first denoising step of the next block (`fuse`), which saves one stream per
block. A model that predicts the next token (Fast-dLLM v2) gets the next block's first token out of that pass instead,
as plain decoding would. The end of a prompt that does not fill a block stands, known, inside the first one.

`subblock=N` reveals a block in parts of N from left to right; `cache=approximate-block` then recomputes only the part,
against K/V of the rest of the block that are stale: approximate, in name and report.

After BD3-LM (Arriola et al. 2025, arXiv 2503.09573, section 3), SDAR (Cheng et al. 2025, arXiv 2510.06303) and
Fast-dLLM v2 (Wu et al. 2025, arXiv 2509.26328).
"""

from dataclasses import dataclass

import numpy as np

from ridgeway.core.arrays import ints
from ridgeway.core.sequence import Sequence
from ridgeway.core.traits import ModelTraits
from ridgeway.core.visibility import CAUSAL, Block, Visibility
from ridgeway.methods.canvas import Canvas
from ridgeway.methods.denoising import Denoising

CACHES = ("exact", "approximate-block")


@dataclass(frozen=True)
class BlockDiffusion(Denoising):
    """Denoise one block after the other, several tokens per weight stream, with exact K/V (block diffusion).

    steps are those of a block (of a sub-block, if there are any). block: its size; None: the model's own. subblock,
    cache, fuse: see above.
    """

    name = "block-diffusion"
    needs = "a model that denoises blocks and a mask token"
    attention = "block"

    block: int | None = None
    subblock: int | None = None
    cache: str = "exact"
    fuse: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, size in (("block", self.block), ("subblock", self.subblock)):
            if size is not None and size < 1:
                raise ValueError(f"{name}={size}: a block has at least 1 position")
        if self.cache not in CACHES:
            raise ValueError(f"cache={self.cache!r}: expected one of {', '.join(CACHES)}")
        if self.cache != "exact" and self.subblock is None:
            raise ValueError(f"cache={self.cache} holds a block while a sub-block is denoised: it needs subblock=N")

    @property
    def approximate(self) -> str | None:
        return None if self.cache == "exact" else f"{self.cache.replace('-', ' ')} cache"

    def refusal(self, traits: ModelTraits) -> str | None:
        refusal = super().refusal(traits)
        if refusal is not None:
            return refusal
        if self.block is None and traits.block_size is None:
            return "the model does not say how long its blocks are; give block=N"
        size = self.size(traits)
        if self.subblock is not None and self.subblock > size:
            return f"subblock={self.subblock} is more than a block of {size} positions"
        return None

    def mismatch(self, traits: ModelTraits) -> str | None:
        if self.block is not None and traits.block_size is not None and self.block != traits.block_size:
            return f"the model was trained with blocks of {traits.block_size} tokens, and block={self.block} differs"
        return None

    def size(self, traits: ModelTraits) -> int:
        """Positions of a block."""
        size = self.block or traits.block_size
        assert size is not None
        return size

    def visibility(self, traits: ModelTraits) -> Visibility:
        return Block(self.size(traits)) if traits.attention == "block" else CAUSAL

    def next_canvas(self, sequence: Sequence) -> Canvas:
        traits, size = sequence.traits, self.size(sequence.traits)
        mask = self.mask_of(traits)
        # Blocks lie at multiples of their size if earlier ones see all of theirs, else wherever the text ends.
        start = sequence.committed // size * size if isinstance(self.visibility(traits), Block) else sequence.committed
        tokens = np.full(min(size, traits.max_positions - start), mask, dtype=np.int64)
        known = ints(sequence.tokens[start:])
        tokens[: len(known)] = known
        return Canvas(start, tokens, mask, origin=start, region=self.subblock or size)

    def steps_of(self, canvas: Canvas, region: int) -> int:
        return self.steps or canvas.region

    def fuses(self, sequence: Sequence, canvas: Canvas) -> bool:
        return self.fuse

    def window(self, canvas: Canvas) -> tuple[int, int]:
        return (canvas.start, canvas.stop) if self.cache == "exact" else canvas.bounds(canvas.present)

    def must_refresh(self, sequence: Sequence, canvas: Canvas) -> bool:
        # The first position of a sub-block is read from the row before it, which only a refresh computes.
        if self.cache == "exact" or not self._shift(sequence):
            return False
        return canvas.is_masked(canvas.bounds(canvas.present)[0])

    def later(self, sequence: Sequence, canvas: Canvas) -> tuple[int, bool]:
        if sequence.params.max_tokens is None:
            return 0, False
        size, shifted = self.size(sequence.traits), bool(self._shift(sequence))
        in_blocks = isinstance(self.visibility(sequence.traits), Block)
        each, exact = 0, True
        for low in range(0, size, canvas.region):
            high = min(low + canvas.region, size)
            schedule = None if self.rule.adaptive else self.schedule(high - low, self.steps_of(canvas, 0))
            # Where rows predict the next position, the first token of a block is had from the row before it.
            left = None if schedule is None else schedule.left(0, high - low - (shifted and low == 0))
            each += 1 if left is None else left
            exact &= left is not None
        separate = not self.fuse or (shifted and in_blocks)
        blocks, rest = divmod(max(0, sequence.max_committed - canvas.stop), size)
        streams = blocks * (each + separate) + (rest > 0) * (1 + separate)
        return streams, exact and not rest and (in_blocks or not shifted)
