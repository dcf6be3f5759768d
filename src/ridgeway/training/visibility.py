"""Which rows see which in training: all blocks of a text denoised in one forward pass.

A block-diffusion model denoises a block that sees the finished text before it. Done block by block, a text of n
tokens costs n / B forward passes. Arriola et al. (2025, section 3.1 and figure 3) run the noisy text and the clean text
side by side in one pass of 2n rows, under a mask that is the union of three:

    block diagonal       a noisy row sees the noisy rows of its own block
    offset block causal  a noisy row sees the clean rows of earlier blocks
    block causal         a clean row sees the clean rows of its own and earlier blocks

Several noisy copies may share one clean text (complementary masks: 3n rows instead of 4n).
"""

import torch
from torch import Tensor


def row_positions(length: int, copies: int, clean: bool = True) -> Tensor:
    """Positions of the rows [noisy copy 1 | ... | noisy copy c | clean]: every part counts from 0."""
    return torch.arange(length).repeat(copies + clean)


def clean_and_noisy(length: int, block_size: int, copies: int = 1, causal: bool = False) -> Tensor:
    """(rows, rows) boolean, rows = (copies + 1) * length, in the order of `row_positions`.

    causal: clean rows see clean rows causally, not block-causally (models that are read both ways).
    """
    position = row_positions(length, copies)
    part = torch.arange(copies + 1).repeat_interleave(length)
    is_clean = part == copies
    block = position // block_size
    query, key = (slice(None), None), (None, slice(None))  # index rows that look, rows that are seen
    same_part = part[query] == part[key]
    block_diagonal = (block[query] == block[key]) & same_part & ~is_clean[query]
    offset_block_causal = (block[query] > block[key]) & is_clean[key] & ~is_clean[query]
    reach = position if causal else block
    block_causal = (reach[query] >= reach[key]) & is_clean[key] & is_clean[query]
    return block_diagonal | offset_block_causal | block_causal


def bidirectional(rows: int) -> Tensor:
    """(rows, rows): every row sees every row."""
    return torch.ones(rows, rows, dtype=torch.bool)
