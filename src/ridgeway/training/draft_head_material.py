"""What a draft head learns from: texts, the states that they were written from, and the K/V that it may look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ridgeway.core.arrays import BoolArray, IntArray, ints
from ridgeway.models.config import ModelConfig
from ridgeway.training.distill_texts import Text
from ridgeway.training.draft_head import Fixed, Unrolled, before_loop
from ridgeway.training.draft_head_sight import Sight

_SAMPLED = 1 << 16  # tokens whose values say how large values are


@dataclass(frozen=True)
class Material:
    """states: (tokens of all answers, hidden). kv: (tokens of all texts, 2, kv_heads, head_dim); None: the head does
    not look back. held_out: (texts,), for judging the head. places: (texts,) how many rows of each, from the first of
    its answer, guesses are followed from; 0 of those that are held out. config: the model's.
    """

    texts: Sequence[Text]
    held_out: BoolArray
    places: IntArray
    states: np.ndarray
    kv: np.ndarray | None
    fixed: Fixed
    config: ModelConfig

    @cached_property
    def tokens(self) -> IntArray:
        """(tokens of all answers,) drawn from the states."""
        return np.concatenate([ints(text.answer) for text in self.texts])

    @property
    def words(self) -> str:
        """For people."""
        kept = sum(before_loop(text.answer) for text in self.texts)
        known = np.isin(self.tokens, self.fixed.tokens).mean()
        return (
            f"{len(self.texts):,} answers of {len(self.tokens):,} tokens, {kept:,} before they loop; "
            f"the head knows {len(self.fixed.tokens):,} tokens, {100 * known:.1f} % of what was said"
        )

    def batch(self, texts: IntArray, depth: int) -> Unrolled:
        """All places of some texts, each followed to `depth` guesses."""
        places = self.places[texts]
        counts = places + depth  # rows of each
        rows = _ranges(self._answers[texts], counts)
        return Unrolled(
            states=torch.from_numpy(np.asarray(self.states[rows])),
            tokens=torch.from_numpy(self.tokens[rows]),
            places=torch.from_numpy(_ranges(np.cumsum(counts) - counts, places)),
            depth=depth,
            sight=None if self.kv is None else self._sight(self.kv, texts, places),
        )

    def _sight(self, kv: np.ndarray, texts: IntArray, places: IntArray) -> Sight:
        starts, first = self._starts[texts], ints([len(self.texts[text].prompt) for text in texts])
        seen = [kv[start : start + count] for start, count in zip(starts, first + places - 1, strict=True)]
        return Sight(self.config, seen, first, places, self.fixed.value_scale)

    @cached_property
    def _answers(self) -> IntArray:
        """(texts,) row of each answer's first state."""
        return _firsts([len(text.answer) for text in self.texts])

    @cached_property
    def _starts(self) -> IntArray:
        """(texts,) row of each text's first K/V."""
        return _firsts([text.length for text in self.texts])


def places_in(text: Text, depth: int) -> int:
    """From how many of an answer's tokens `depth` guesses can be followed inside it and before it loops."""
    return max(0, before_loop(text.answer) - depth)


def value_scale_of(kv: np.ndarray) -> float:
    """What gives the values a root mean square of 1, by tokens from everywhere in the texts."""
    rows = np.linspace(0, len(kv) - 1, min(_SAMPLED, len(kv))).astype(np.int64)
    return float(1 / np.sqrt(np.square(kv[rows, 1], dtype=np.float32).mean()))


def _firsts(counts: Sequence[int]) -> IntArray:
    return np.cumsum([0, *counts[:-1]], dtype=np.int64)


def _ranges(starts: IntArray, counts: IntArray) -> IntArray:
    """`starts[i]` and what follows it, `counts[i]` numbers, for each i behind each other."""
    offsets = np.cumsum(counts) - counts
    return np.repeat(starts - offsets, counts) + np.arange(counts.sum(), dtype=np.int64)
