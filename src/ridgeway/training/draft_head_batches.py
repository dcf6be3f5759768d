"""Which texts each step of a draft head's training learns from."""

import numpy as np

from ridgeway.core.arrays import IntArray

_UNEVEN = 0.2  # how much longer, at most, a text may be taken to be: else the same ones always met


class Batches:
    """Whole texts of about the same length, until about `size` places are together. Each text comes once an epoch.

    A text's places share its K/V, which are padded to the longest text of a step. places: (texts,) of each; those with
    none are left out. lengths: (texts,) tokens that are seen of each. What a step takes depends on it and the seed.
    """

    def __init__(self, places: IntArray, lengths: IntArray, size: int, seed: int) -> None:
        self._learned: IntArray = np.flatnonzero(places)
        self._places, self._lengths = places[self._learned], lengths[self._learned]
        self._size, self._seed = size, seed
        self._begin(0, 0)

    def of(self, step: int) -> IntArray:
        """The texts of a step, counted from 0."""
        if step < self._first:
            self._begin(0, 0)
        while step >= self._first + len(self._batches):
            self._begin(self._epoch + 1, self._first + len(self._batches))
        return self._batches[step - self._first]

    def _begin(self, epoch: int, first: int) -> None:
        """first: the epoch's first step."""
        self._epoch, self._first = epoch, first
        generator = np.random.default_rng([self._seed, epoch])
        about = self._lengths * generator.uniform(1.0, 1.0 + _UNEVEN, len(self._lengths))
        order = np.argsort(about, kind="stable")
        total = int(self._places.sum())
        count = max(1, round(total / self._size))
        number = (np.cumsum(self._places[order]) - self._places[order]) * count // total  # of each text's batch
        batches = np.split(self._learned[order], np.flatnonzero(np.diff(number)) + 1)
        self._batches: list[IntArray] = [batches[place] for place in generator.permutation(len(batches))]
