"""Which tokens are masked: the forward process of absorbing-state diffusion (Austin et al. 2021, section 3.1).

At time t of the linear schedule each token is masked with probability t, on its own. Every block of a text has a time
of its own (Arriola et al. 2025, section 3.1). Times are stratified over a batch, which lowers the loss's variance.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Noised(NamedTuple):
    """One noisy copy. masked: (batch, length) boolean. weight: (batch, length), 1 / t of each position's block."""

    masked: Tensor
    weight: Tensor


def block_times(batch: int, blocks: int, between: tuple[float, float], generator: torch.Generator) -> Tensor:
    """(batch, blocks): each uniform between the two bounds, one from each of batch * blocks equal parts of them."""
    low, high = between
    count = batch * blocks
    strata = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    return (low + (high - low) * strata).view(batch, blocks)


def noise(
    maskable: Tensor,
    block_size: int,
    between: tuple[float, float],
    complementary: bool,
    generator: torch.Generator,
) -> tuple[Noised, ...]:
    """Noisy copies of texts, of which `maskable` (batch, length) says what may be masked.

    between: bounds of t; clipping it lowers the variance of the loss (section 5.2). complementary: a second copy, in
    which exactly the other tokens are masked, so that each token is learned from once (Fast-dLLM v2, section 3.2).
    """
    batch, length = maskable.shape
    blocks = -(-length // block_size)
    times = block_times(batch, blocks, between, generator).repeat_interleave(block_size, dim=1)[:, :length]
    masked = torch.rand(batch, length, generator=generator) < times
    copies = [Noised(masked & maskable, 1 / times)]
    if complementary:
        copies.append(Noised(~masked & maskable, 1 / (1 - times)))
    return tuple(copies)
