"""A draft head unrolled in NumPy: the plain twin of the compiled one, and the choice between them."""

from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from ridgeway.core.arrays import DoubleArray, FloatArray, IntArray
from ridgeway.core.drafting import GUESSES, Guessed, Unroller, Unrolling
from ridgeway.core.errors import MethodError
from ridgeway.core.executor import Executor
from ridgeway.core.noise import gumbel
from ridgeway.kernels.reference.layers import linear, rope_angles, rotate, silu
from ridgeway.models.config import ModelConfig
from ridgeway.models.draft_head import DraftHead
from ridgeway.models.rope import rope_frequencies

_View = tuple[FloatArray, FloatArray]
_GROUP = 32  # inputs that the compiled one quantizes together


@runtime_checkable
class HasKV(Protocol):
    """An executor that shows its K/V."""

    config: ModelConfig
    kv_itemsize: int

    def kv(self, layer: int, slots: IntArray) -> tuple[FloatArray, FloatArray]: ...


class ReferenceUnroller:
    """float32 throughout; see `models.draft_head` for the formulas and `core.drafting.Unroller` for the contract."""

    def __init__(self, head: DraftHead, executor: Executor | None = None) -> None:
        """executor: whose K/V it looks at, if it does. Raises MethodError if that does not show them."""
        self._head = head
        self._gate, self._up, self._down = (part.dequantize() for part in (head.gate, head.up, head.down))
        self._rows = head.head.dequantize()  # (V, hidden)
        self._sight: _Sight | None = None
        if head.query is not None:
            if not isinstance(executor, HasKV):
                raise MethodError("this draft head looks at the model's K/V, which this executor does not show")
            self._sight = _Sight(head.query.dequantize(), head.layer, executor)
        self.held_bytes = 4 * head.elements
        self.seen_bytes = 0 if self._sight is None else self._sight.token_bytes
        self.operations = 2 * head.elements

    def unroll(self, asked: Unrolling) -> Guessed:
        count, depth = len(asked.tokens), asked.depth
        tokens = np.zeros((count, depth, GUESSES), dtype=np.int64)
        chances = np.zeros((count, depth, GUESSES))
        survival: DoubleArray = np.ones(count)
        states, newest = self._head.states(asked.hidden), asked.tokens
        views = [] if self._sight is None else self._sight.read(asked)
        for step in range(depth):
            going = survival >= asked.least
            if not going.any():
                return Guessed(tokens, chances, step)
            z = np.concatenate([states, self._head.whole_head.take(newest)], axis=1)
            if self._sight is not None:
                z = np.concatenate([z, self._sight.seen(z, asked, step, views)], axis=1)
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


class _Sight:
    """What a head sees of the text so far. query: (heads * head_dim, 2 * hidden)."""

    def __init__(self, query: FloatArray, layer: int, executor: HasKV) -> None:
        self._query, self._layer, self._executor = query, layer, executor
        config = executor.config
        self._shape = (config.kv_heads, config.heads // config.kv_heads, config.head_dim)
        self._frequencies = rope_frequencies(config)
        self.token_bytes = 2 * config.kv_heads * config.head_dim * executor.kv_itemsize

    def read(self, asked: Unrolling) -> list[_View]:
        """Keys and values of each sequence, (T, kv_heads, head_dim)."""
        return [self._executor.kv(self._layer, slots) for slots in asked.seen]

    def seen(self, z: FloatArray, asked: Unrolling, step: int, views: list[_View]) -> FloatArray:
        """(n, heads * head_dim) of z (n, 2 * hidden)."""
        kv_heads, group, width = self._shape
        angles = rope_angles(asked.positions - 1 + step, self._frequencies)
        queries = rotate(linear(z, self._query).reshape(len(z), kv_heads * group, width), *angles)
        found = np.empty((len(z), kv_heads, group, width), dtype=np.float32)
        for row, (keys, values) in enumerate(views):
            scores = np.einsum("hgd,thd->hgt", queries[row].reshape(self._shape), keys) * np.float32(width**-0.5)
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            found[row] = np.einsum("hgt,thd->hgd", weights / weights.sum(axis=-1, keepdims=True), values)
        return found.reshape(len(z), -1)


def can_look(executor: Executor) -> bool:
    """Whether heads that look at K/V can be unrolled beside an executor."""
    return isinstance(executor, HasKV)


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
    def seen_bytes(self) -> int:
        return self.made.seen_bytes

    @property
    def operations(self) -> int:
        return self.made.operations

    def unroll(self, asked: Unrolling) -> Guessed:
        return self.made.unroll(asked)


def make_unroller(executor: Executor, head: DraftHead) -> Unroller:
    """`head` on the device of `executor`."""
    own = getattr(executor, "unroller", None)
    parts = [head.hidden, head.inner]
    if head.query is not None and own is not None:
        config = executor.config  # type: ignore[attr-defined]  # of executors with kernels
        parts.append(config.heads // config.kv_heads * config.head_dim)  # what is quantized at a time
    whole_groups = all(part % _GROUP == 0 for part in parts)
    return own(head) if own is not None and whole_groups else ReferenceUnroller(head, executor)
