"""Noise that depends only on what it is for.

The randomness of a sampled token is a function of (seed, sample, absolute position, purpose, token id): a counter-based
generator has no state that a batch, a preemption or a rejected draft could disturb. A token is drawn by the Gumbel-max
trick: the argmax of log-probability plus Gumbel noise is a sample of the distribution (Maddison et al. 2014).
So a method that verifies drafts draws, at each position, the very token that plain decoding would have drawn there.

The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3).
"""

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeway.core.arrays import DoubleArray

_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


class Purpose(IntEnum):
    """What a random number is for; different purposes at one position are independent."""

    TOKEN = 0
    ACCEPT = 1
    RESIDUAL = 2
    REVEAL = 3


def philox(counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: ArrayLike) -> NDArray[np.uint64]:
    """Philox4x32-10 of `counter` (four 32-bit words, broadcast together) under the 64-bit `key`.

    Returns the four 32-bit output words as uint64, shape (4, *broadcast shape).
    """
    words = np.broadcast_arrays(*(np.asarray(word, dtype=np.uint64) & _LOW for word in counter))
    c0, c1, c2, c3 = words
    full_key = np.asarray(key, dtype=np.uint64)
    k0, k1 = full_key & _LOW, full_key >> _SHIFT
    for round_number in range(_ROUNDS):
        if round_number:
            k0 = (k0 + np.uint64(_WEYL[0])) & _LOW
            k1 = (k1 + np.uint64(_WEYL[1])) & _LOW
        product0 = _MULTIPLIERS[0] * c0
        product1 = _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> _SHIFT) ^ c1 ^ k0,
            product1 & _LOW,
            (product0 >> _SHIFT) ^ c3 ^ k1,
            product0 & _LOW,
        )
    return np.stack([c0, c1, c2, c3])


def uniform(
    seed: ArrayLike, sample: ArrayLike, position: ArrayLike, purpose: Purpose, token: ArrayLike = 0
) -> DoubleArray:
    """Uniform numbers in the open interval (0, 1), one for each element of the broadcast arguments.

    seed: 64-bit unsigned; sample: which of a request's n samples; position: absolute position of the predicted token;
    token: id of the token that the noise is added to (0 where noise is not per token).
    """
    words = philox((token, position, np.uint64(purpose), sample), seed)
    bits = (words[0] << np.uint64(20)) ^ (words[1] >> np.uint64(12))  # 52, so that adding a half is exact
    draws: DoubleArray = (bits.astype(np.float64) + 0.5) * 2.0**-52
    return draws


def gumbel(
    seed: ArrayLike,
    sample: ArrayLike,
    position: ArrayLike,
    token: ArrayLike,
    purpose: Purpose = Purpose.TOKEN,
) -> DoubleArray:
    """Standard Gumbel noise for each token id; arguments as in `uniform`."""
    draws: DoubleArray = -np.log(-np.log(uniform(seed, sample, position, purpose, token)))
    return draws
