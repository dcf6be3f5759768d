"""How many positions a denoising step reveals, by which the samplers of masked diffusion differ.

The reverse process of masked diffusion reveals each of n masked positions between times t and s < t with probability
(t - s) / t (Austin et al. 2021, absorbing state; alpha_t = 1 - t), independently of everything. Sampled in fixed steps
that is `Ancestral`; its counts replaced by an even split are `FixedCount`, by their expectation `ExpectedCount`;
sampled in continuous time, one position at a time, it is `FirstHitting`, with as many steps as tokens.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from ridgeway.core.arrays import DoubleArray


@dataclass(frozen=True)
class Schedule(ABC):
    """The counts of `steps` steps that reveal up to `size` positions."""

    size: int
    steps: int

    @abstractmethod
    def count(self, step: int, masked: int, noise: DoubleArray) -> int:
        """How many of the `masked` positions step number `step` (from 0) reveals; noise: (masked,), uniform."""

    def total(self, step: int) -> int:
        """How many positions the steps up to number `step` reveal together, if that is certain."""
        return self.size

    def left(self, step: int, masked: int) -> int | None:
        """How many steps, `step` the first, `masked` positions take; None: not known beforehand."""
        return None


class FixedCount(Schedule):
    """The same count in each step, the first ones one more if need be (LLaDA, SDAR)."""

    def count(self, step: int, masked: int, noise: DoubleArray) -> int:
        each, more = divmod(self.size, self.steps)
        return min(masked, max(1, each + (step < more)))

    def total(self, step: int) -> int:
        each, more = divmod(self.size, self.steps)
        return min(self.size, each * (step + 1) + min(more, step + 1))

    def left(self, step: int, masked: int) -> int | None:
        spent = 0
        while masked > 0:
            masked -= self.count(step + spent, masked, np.zeros(0))
            spent += 1
        return spent


@dataclass(frozen=True)
class ExpectedCount(Schedule):
    """The ancestral sampler's expectation, rounded down, and all that is left in the last step (Dream).

    end: time of the last step. In float32, as Dream computes it: a rounding decides some counts. Steps may reveal
    nothing.
    """

    end: float = 1e-3

    def count(self, step: int, masked: int, noise: DoubleArray) -> int:
        if step >= self.steps - 1:
            return masked
        t, s = self._time(step), self._time(step + 1)
        return int(np.float32(masked) * (np.float32(1) - s / t))

    def left(self, step: int, masked: int) -> int | None:
        return max(1, self.steps - step) if masked else 0

    def _time(self, step: int) -> np.float32:
        """Element `step` of steps + 1 numbers evenly spaced from 1 to `end`, computed from the nearer end."""
        width = float((np.float32(self.end) - np.float32(1)) / np.float32(self.steps))
        if step < (self.steps + 1) // 2:
            return np.float32(1 + width * step)  # rounded once, as by a fused multiply-add
        return np.float32(float(np.float32(self.end)) - width * (self.steps - step))


class Ancestral(Schedule):
    """Each masked position is revealed with probability (t - s) / t, with t from 1 to 0 in even steps (D3PM, MDLM)."""

    def count(self, step: int, masked: int, noise: DoubleArray) -> int:
        return int((noise < 1 / max(1, self.steps - step)).sum())


class FirstHitting(Schedule):
    """One at a time: the times of the reveals matter only to models that are told the time (Zheng et al. 2024)."""

    def count(self, step: int, masked: int, noise: DoubleArray) -> int:
        return 1

    def left(self, step: int, masked: int) -> int | None:
        return masked


SCHEDULES: dict[str, type[Schedule]] = {
    "fixed": FixedCount,
    "expected": ExpectedCount,
    "ancestral": Ancestral,
    "first-hitting": FirstHitting,
}
