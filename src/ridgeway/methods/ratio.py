"""The acceptance rule of speculative sampling: exact in distribution, for drafts drawn from any distribution.

A draft x was drawn from q where the target's distribution is p. It is accepted with probability min(1, p(x) / q(x)); if
it is not, the token is drawn from what p has more than q, max(p - q, 0), normalized. Either way the token is a sample
of p: q's excess is refused exactly as often as p's excess has to be filled.

The tokens are other ones than plain decoding's with the same seed, though of the same law: `accept=match` keeps them
the same, at a lower acceptance, sum of p q against sum of min(p, q) for independent draws.

After "Fast Inference from Transformers via Speculative Decoding" (Leviathan, Kalman, Matias 2023, arXiv 2211.17192,
section 2.3 and algorithm 1). p and q are what the sampling parameters make of the logits: temperature, truncation and
penalties included, by the same code.
"""

from collections.abc import Sequence

import numpy as np

from ridgeway.core.arrays import DoubleArray
from ridgeway.core.noise import Purpose, gumbel, uniform


def accept_by_ratio(
    draft: Sequence[int],
    p: DoubleArray,
    q: Sequence[DoubleArray],
    after: int,
    *,
    seed: int,
    sample: int,
    position: int,
) -> list[int]:
    """The tokens to commit: accepted drafts, then one token of the target.

    draft: (g,) tokens. p: (g + 1, vocabulary) the target's distribution before each of them and after the last. q: (g,)
    of (vocabulary,), what each was drawn from. after: the target's own draw from p[g]. seed, sample, position: of the
    first draft, for the noise.
    """
    accepted: list[int] = []
    for place, token in enumerate(draft):
        chance = p[place][token] / q[place][token]
        if uniform(seed, sample, position + place, Purpose.ACCEPT) >= chance:
            return [*accepted, draw(residual(p[place], q[place]), seed, sample, position + place)]
        accepted.append(token)
    return [*accepted, after]


def residual(p: DoubleArray, q: DoubleArray) -> DoubleArray:
    """What p has more than q, normalized: (vocabulary,)."""
    more = np.maximum(p - q, 0.0)
    total = more.sum()
    return more / total if total > 0 else p  # only rounding can refuse a draft where p equals q


def draw(distribution: DoubleArray, seed: int, sample: int, position: int) -> int:
    """A token by the Gumbel-max trick, with noise of its own."""
    ids = np.flatnonzero(distribution)
    return int(ids[np.argmax(np.log(distribution[ids]) + gumbel(seed, sample, position, ids, Purpose.RESIDUAL))])
