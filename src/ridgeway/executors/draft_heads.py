"""A draft head unrolled in NumPy: the plain twin of the compiled one, and the choice between them."""

from functools import cached_property

import numpy as np

from ridgeway.core.arrays import DoubleArray, IntArray
from ridgeway.core.drafting import GUESSES, Guessed, Unroller, Unrolling
from ridgeway.core.executor import Executor
from ridgeway.core.noise import gumbel
from ridgeway.kernels.reference.layers import linear, silu
from ridgeway.models.draft_head import DraftHead

_GROUP = 32  # inputs that the compiled one quantizes together


class ReferenceUnroller:
    """float32 throughout; see `models.draft_head` for the formulas and `core.drafting.Unroller` for the contract."""

    def __init__(self, head: DraftHead) -> None:
        self._head = head
        self._gate, self._up, self._down = (part.dequantize() for part in (head.gate, head.up, head.down))
        self._rows = head.head.dequantize()  # (V, hidden)
        self.held_bytes = sum(part.nbytes for part in (self._gate, self._up, self._down, self._rows))
        self.operations = operations_of(head)

    def unroll(self, asked: Unrolling) -> Guessed:
        count, depth = len(asked.tokens), asked.depth
        tokens = np.zeros((count, depth, GUESSES), dtype=np.int64)
        chances = np.zeros((count, depth, GUESSES))
        survival: DoubleArray = np.ones(count)
        states, newest = self._head.states(asked.hidden), asked.tokens
        for step in range(depth):
            going = survival >= asked.least
            if not going.any():
                return Guessed(tokens, chances, step)
            z = np.concatenate([states, self._head.whole_head.take(newest)], axis=1)
            states = states + linear(silu(linear(z, self._gate)) * linear(z, self._up), self._down)
            found, said = self._guess(linear(states, self._rows).astype(np.float64), asked, step)
            tokens[going, step], chances[going, step] = found[going], said[going]
            survival *= chances[:, step, 0]
            newest = found[:, 0]
        return Guessed(tokens, chances, depth)

    def _guess(self, logits: DoubleArray, asked: Unrolling, step: int) -> tuple[IntArray, DoubleArray]:
        """(n, GUESSES) ids, the highest totals first, and their probabilities; logits: (n, V)."""
        warm = asked.temperature > 0
        scaled = logits / np.where(warm, asked.temperature, 1.0)[:, None]
        scaled -= scaled.max(axis=1, keepdims=True)
        probability = np.exp(scaled)
        probability /= probability.sum(axis=1, keepdims=True)
        seed, sample, position = (values[:, None] for values in (asked.seed, asked.sample, asked.positions + step))
        noise = gumbel(seed, sample, position, self._head.tokens[None, :])
        totals = np.where(warm[:, None], scaled + noise, scaled)
        best = np.argsort(-totals, axis=1, kind="stable")[:, :GUESSES]
        return self._head.tokens[best], np.take_along_axis(probability, best, axis=1)


def operations_of(head: DraftHead) -> int:
    """Of one step for one sequence: a multiplication and an addition for each weight."""
    return 2 * sum(part.elements for part in (head.gate, head.up, head.down, head.head))


class LateUnroller:
    """An unroller that is made when a method wants it, as whoever decodes plainly needs none."""

    def __init__(self, executor: Executor, head: DraftHead) -> None:
        self._executor, self._head = executor, head

    def get_ready(self) -> None:
        """Make it now: it takes about a tenth of a second."""
        assert self.made is not None

    @cached_property
    def made(self) -> Unroller:
        return make_unroller(self._executor, self._head)

    @property
    def held_bytes(self) -> int:
        return self.made.held_bytes

    @property
    def operations(self) -> int:
        return self.made.operations

    def unroll(self, asked: Unrolling) -> Guessed:
        return self.made.unroll(asked)


def make_unroller(executor: Executor, head: DraftHead) -> Unroller:
    """`head` on the device of `executor`."""
    own = getattr(executor, "unroller", None)
    whole_groups = head.hidden % _GROUP == 0 and head.inner % _GROUP == 0
    return own(head) if own is not None and whole_groups else ReferenceUnroller(head)
