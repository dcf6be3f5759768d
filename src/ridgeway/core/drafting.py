"""What is asked of a draft head, and what it answers: the vocabulary between drafters and executors."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ridgeway.core.arrays import AnyArray, DoubleArray, FloatArray, IntArray

GUESSES = 2  # tokens that are told of each step: the one from which it goes on, and the runner-up


@dataclass(frozen=True)
class Unrolling:
    """n sequences, whose next tokens are to be guessed one after the other.

    hidden: (n, hidden) of the row that each sequence's newest token was drawn from, behind the last layer and before
    the final norm. tokens: (n,) that token. positions: (n,) absolute position of the first token that is guessed.
    temperature: (n,) 0: the likeliest token; else the target's noise for (seed, sample, position, token) is added, so
    that at a temperature, too, the guess is what the target draws wherever the two agree. seed, sample: (n,).
    seen: of each sequence, the slots of the K/V of all tokens before that newest one, for heads that look at them.
    depth: how many tokens at most. least: a sequence whose guesses survive with less than that chance, by what the head
    says, goes no further.
    """

    hidden: FloatArray
    tokens: IntArray
    positions: IntArray
    temperature: DoubleArray
    seed: AnyArray
    sample: IntArray
    seen: tuple[IntArray, ...]
    depth: int
    least: float = 0.0

    def part(self, start: int, stop: int) -> "Unrolling":
        """Sequences `start` to `stop` - 1."""
        if start == 0 and stop >= len(self.tokens):
            return self
        values = vars(self).items()
        parts: dict[str, Any] = {
            name: value[start:stop] for name, value in values if isinstance(value, np.ndarray | tuple)
        }
        return replace(self, **parts)


@dataclass(frozen=True)
class Guessed:
    """tokens: (n, depth, GUESSES) ids. chances: (n, depth, GUESSES) what the head says of each, if all guesses before
    it are right; 0 where it went no further. steps: how often the head was read.
    """

    tokens: IntArray
    chances: DoubleArray
    steps: int


class Unroller(Protocol):
    """A draft head on a device. held_bytes: of weights, read at each step. seen_bytes: of K/V, read at each step for
    each token that a sequence sees. operations: of a step for one sequence, those with K/V not counted.
    """

    @property
    def held_bytes(self) -> int: ...

    @property
    def seen_bytes(self) -> int: ...

    @property
    def operations(self) -> int: ...

    def unroll(self, asked: Unrolling) -> Guessed: ...
