"""How likely a model finds a text: the bound that it was trained on, exactly or by sampling, without training's noise.

With the linear schedule the integral over t has a closed form. A set S of the n tokens of a block that may be masked is
what is masked with probability t^|S| (1 - t)^(n - |S|), and the integral of that over t, divided by t, is
1 / (|S| C(n, |S|)). So the bound of a block (Arriola et al. 2025, eq. 8) is a sum over the sets that are not empty:

    sum over S of  1 / (|S| C(n, |S|))  sum over i in S of  -log p(x_i | block without S, clean before it)

Exact with 2^n - 1 forward passes, each for all blocks at once. For larger blocks: draw |S| uniformly, then S of that
size, and count it n / |S| times; the same expectation (Nie et al. 2025, eq. 6), with |S| stratified over the draws.
For n = 1 there is one set, and the bound is the autoregressive likelihood itself.
"""

from collections.abc import Iterator
from itertools import product
from math import comb

import torch
from torch import Tensor
from torch.nn import functional

from ridgeway.training.decoder import Decoder
from ridgeway.training.objective import Objective, Texts

MOST_ENUMERATED = 6  # positions of a block: 63 forward passes


def likelihood_bound(
    decoder: Decoder, objective: Objective, texts: Texts, generator: torch.Generator, draws: int = 64
) -> Tensor:
    """Nats of each text (batch,), at most: by enumeration for blocks up to `MOST_ENUMERATED`, else by `draws` draws."""
    size = objective.block_size or texts.tokens.shape[1]
    if size <= MOST_ENUMERATED:
        return exact_bound(decoder, objective, texts)
    return sampled_bound(decoder, objective, texts, generator, draws)


@torch.no_grad()
def exact_bound(decoder: Decoder, objective: Objective, texts: Texts) -> Tensor:
    """(batch,), by enumeration of the sets of masked tokens."""
    free = objective.denoised(texts)
    blocks = _in_blocks(free, objective)  # (batch, blocks, size)
    total = _certain(decoder, objective, texts)
    for pattern in _patterns(blocks.shape[-1]):
        masked = (pattern & blocks).flatten(1)[:, : free.shape[1]]
        whole = (pattern <= blocks).all(dim=-1)  # the others are counted as smaller sets
        count = int(pattern.sum())
        weights = torch.tensor([1 / (count * comb(n, count)) if n >= count else 0.0 for n in range(len(pattern) + 1)])
        weight = weights[blocks.sum(dim=-1)] * whole  # (batch, blocks)
        total += _weighed(decoder, objective, texts, masked, weight)
    return total


@torch.no_grad()
def sampled_bound(
    decoder: Decoder, objective: Objective, texts: Texts, generator: torch.Generator, draws: int
) -> Tensor:
    """(batch,), an unbiased estimate of `exact_bound`."""
    free = objective.denoised(texts)
    blocks = _in_blocks(free, objective)
    n = blocks.sum(dim=-1)  # (batch, blocks)
    offset = torch.rand(n.shape, generator=generator)
    total = _certain(decoder, objective, texts)
    for draw in range(draws):
        count = 1 + ((draw + offset) / draws * n).long().clamp(max=(n - 1).clamp(min=0))
        order = torch.rand(blocks.shape, generator=generator).masked_fill(~blocks, 2.0).argsort(dim=-1).argsort(dim=-1)
        masked = ((order < count[..., None]) & blocks).flatten(1)[:, : free.shape[1]]
        total += _weighed(decoder, objective, texts, masked, n / count) / draws
    return total


@torch.no_grad()
def causal_likelihood(decoder: Decoder, texts: Texts) -> Tensor:
    """(batch,) nats, read causally: row p predicts token p + 1, and the first token of a text is given."""
    length = texts.tokens.shape[1]
    positions = torch.arange(length)
    logits = decoder(texts.tokens, positions, positions[:, None] >= positions[None, :])
    surprise = _surprise(logits[:, :-1], texts.tokens[:, 1:])
    return (surprise * texts.maskable[:, 1:]).sum(dim=-1)


def _weighed(decoder: Decoder, objective: Objective, texts: Texts, masked: Tensor, weight: Tensor) -> Tensor:
    """(batch,): surprise at the masked tokens, times the weight (batch, blocks) of their blocks."""
    noisy, _ = objective.read(decoder, texts.tokens, [masked])
    surprise = _in_blocks(_surprise(noisy[0], texts.tokens) * masked, objective)
    return (surprise.sum(dim=-1) * weight).sum(dim=-1)


def _certain(decoder: Decoder, objective: Objective, texts: Texts) -> Tensor:
    """(batch,): of the tokens that are predicted from clean rows whatever is masked."""
    alone = objective.predicted_clean(texts)
    if not alone.any():
        return torch.zeros(len(alone))
    noisy, _ = objective.read(decoder, texts.tokens, [torch.zeros_like(alone)])
    return (_surprise(noisy[0], texts.tokens) * alone).sum(dim=-1)


def _surprise(logits: Tensor, tokens: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(tokens.shape)


def _in_blocks(values: Tensor, objective: Objective) -> Tensor:
    """(batch, length) as (batch, blocks, size), filled up with zeros."""
    length = values.shape[1]
    size = objective.block_size or length
    return functional.pad(values, (0, -length % size)).view(len(values), -1, size)


def _patterns(size: int) -> Iterator[Tensor]:
    """Every choice of positions but none."""
    for chosen in product((False, True), repeat=size):
        if any(chosen):
            yield torch.tensor(chosen)
