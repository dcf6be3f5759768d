"""Which masked positions a denoising step reveals.

A weight stream proposes a token for every masked position at once, but the proposals were made independently of each
other: revealing two that depend on each other spoils both. So a rule reveals those that are safe by some measure, and
leaves the rest to steps that see what was revealed.

A `Ranking` says which positions are better than others, a `RevealRule` where to cut. Rules are pure and compose:
`AtLeast(Threshold(0.9))` reveals everything above the threshold, and the schedule's count if that is more. Whatever
a rule chooses, at least one position is revealed in a step, so that every answer ends; ties go to the left.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ridgeway.core.arrays import BoolArray, DoubleArray, IntArray
from ridgeway.core.query import Measure


@dataclass(frozen=True)
class Masked:
    """What a step knows of the n positions that may be revealed, left to right; measures nobody needs are None.

    positions: (n,) absolute. confidence: (n,) probability of the proposed token. margin: (n,) between the two likeliest
    tokens' probabilities. entropy: (n,) in nats. noise: (n,) uniform on (0, 1), new in every step.
    """

    positions: IntArray
    noise: DoubleArray
    confidence: DoubleArray | None = None
    margin: DoubleArray | None = None
    entropy: DoubleArray | None = None

    def __len__(self) -> int:
        return len(self.positions)


class Ranking(ABC):
    """An order of preference among masked positions. needs: the measures that it looks at."""

    needs: ClassVar[frozenset[Measure]] = frozenset()

    @abstractmethod
    def scores(self, masked: Masked) -> DoubleArray:
        """(n,), the higher the rather."""

    def order(self, masked: Masked) -> IntArray:
        """(n,) indexes of positions, best first."""
        return np.argsort(-self.scores(masked), kind="stable")

    def best(self, masked: Masked, count: int) -> BoolArray:
        """(n,) the `count` best, or all."""
        chosen = np.zeros(len(masked), dtype=np.bool_)
        chosen[self.order(masked)[: max(count, 0)]] = True
        return chosen


@dataclass(frozen=True)
class Confidence(Ranking):
    """By the probability of the proposed token (MaskGIT, Chang et al. 2022; LLaDA's `low_confidence`)."""

    needs = frozenset({"confidence"})

    def scores(self, masked: Masked) -> DoubleArray:
        assert masked.confidence is not None
        return masked.confidence


@dataclass(frozen=True)
class Margin(Ranking):
    """By how much likelier the likeliest token is than the next (Kim et al. 2025, arXiv 2502.06768)."""

    needs = frozenset({"margin"})

    def scores(self, masked: Masked) -> DoubleArray:
        assert masked.margin is not None
        return masked.margin


@dataclass(frozen=True)
class Entropy(Ranking):
    """By the entropy of the whole distribution, lowest first (Dream)."""

    needs = frozenset({"entropy"})

    def scores(self, masked: Masked) -> DoubleArray:
        assert masked.entropy is not None
        return -masked.entropy


@dataclass(frozen=True)
class Random(Ranking):
    """In random order, as the reverse process of masked diffusion has it (Austin et al. 2021)."""

    def scores(self, masked: Masked) -> DoubleArray:
        return -masked.noise


@dataclass(frozen=True)
class LeftToRight(Ranking):
    """From left to right: block diffusion in the order of autoregressive decoding."""

    def scores(self, masked: Masked) -> DoubleArray:
        return -masked.positions.astype(np.float64)


class RevealRule(ABC):
    """Chooses among masked positions. adaptive: whether the model's certainty decides how many."""

    adaptive: ClassVar[bool] = True
    by: Ranking

    @property
    def needs(self) -> frozenset[Measure]:
        """The measures that the rule looks at."""
        return self.by.needs

    @abstractmethod
    def choose(self, masked: Masked, count: int) -> BoolArray:
        """(n,) which positions are good enough; may be none. count: how many the schedule wants revealed."""

    def __call__(self, masked: Masked, count: int = 1) -> BoolArray:
        """(n,) which positions to reveal: what the rule chooses, or the best one if it chooses none."""
        chosen = self.choose(masked, count)
        return chosen if chosen.any() else self.by.best(masked, 1)


@dataclass(frozen=True)
class TopK(RevealRule):
    """As many as the schedule wants, the best first."""

    by: Ranking
    adaptive = False

    def choose(self, masked: Masked, count: int) -> BoolArray:
        return self.by.best(masked, count)


@dataclass(frozen=True)
class Threshold(RevealRule):
    """All that the model is surer of than `value` (Fast-dLLM, Wu et al. 2025, section 3.3)."""

    value: float
    by: Ranking = field(default_factory=Confidence)

    def choose(self, masked: Masked, count: int) -> BoolArray:
        return self.by.scores(masked) > self.value


@dataclass(frozen=True)
class Factor(RevealRule):
    """The n surest, for the largest n with (n + 1) (1 - c_n) <= `value`: the more at once, the surer each has to be
    (Fast-dLLM, Wu et al. 2025, section 3.3: with such confidences the joint mode is that of the marginals)."""

    value: float
    by: Ranking = field(default_factory=Confidence)

    def choose(self, masked: Masked, count: int) -> BoolArray:
        sorted_scores = self.by.scores(masked)[self.by.order(masked)]
        n = np.arange(1, len(masked) + 1)
        fits = np.flatnonzero((n + 1) * (1 - sorted_scores) <= self.value)
        return self.by.best(masked, int(fits[-1]) + 1 if len(fits) else 0)


@dataclass(frozen=True)
class EntropyBounded(RevealRule):
    """The largest set of lowest entropies whose sum, its greatest left out, is at most `bound`: a bound on what the
    revealed tokens can tell of each other (Ben-Hamu et al. 2025, arXiv 2505.24857; set block decoding, 2509.04185)."""

    bound: float
    by: Ranking = field(default_factory=Entropy)

    def choose(self, masked: Masked, count: int) -> BoolArray:
        entropies = -self.by.scores(masked)[self.by.order(masked)]
        before = np.cumsum(entropies) - entropies  # the greatest of each set is its last
        return self.by.best(masked, int(np.searchsorted(before, self.bound, side="right")))


@dataclass(frozen=True)
class LongestPrefix(RevealRule):
    """The longest run of masked positions from the left whose confidences' product is at least `value`
    (SDLM, arXiv 2509.24007). If there is none, the leftmost."""

    value: float
    by: Ranking = field(default_factory=LeftToRight)

    @property
    def needs(self) -> frozenset[Measure]:
        return Confidence.needs

    def choose(self, masked: Masked, count: int) -> BoolArray:
        return np.cumprod(Confidence().scores(masked)) >= self.value


@dataclass(frozen=True)
class AtLeast(RevealRule):
    """What `rule` chooses, and the schedule's count if that is more (SDAR's `low_confidence_dynamic`)."""

    rule: RevealRule

    @property
    def by(self) -> Ranking:  # type: ignore[override]
        return self.rule.by

    @property
    def needs(self) -> frozenset[Measure]:
        return self.rule.needs

    def choose(self, masked: Masked, count: int) -> BoolArray:
        return self.rule.choose(masked, count) | self.by.best(masked, count)


@dataclass(frozen=True)
class AtMost(RevealRule):
    """What `rule` chooses among the best ones, as many as the schedule's count (Dream's `confidence_threshold`)."""

    rule: RevealRule

    @property
    def by(self) -> Ranking:  # type: ignore[override]
        return self.rule.by

    @property
    def needs(self) -> frozenset[Measure]:
        return self.rule.needs

    def choose(self, masked: Masked, count: int) -> BoolArray:
        return self.rule.choose(masked, count) & self.by.best(masked, count)


@dataclass(frozen=True)
class Remask:
    """Second thoughts: once all is revealed, tokens that were revealed with a confidence below `value` are masked once
    more and decided again, now that the others are known (in idea ReMDM-conf, Wang et al. 2025, arXiv 2503.00307).
    At most half of them, the least sure ones: the others are what the decision rests on."""

    value: float
    needs: ClassVar[frozenset[Measure]] = frozenset({"confidence"})

    def choose(self, confidence: DoubleArray, often: IntArray) -> BoolArray:
        """(n,) which of n revealed tokens to mask again. confidence: when revealed; often: remasked before."""
        doubtful: BoolArray = (confidence < self.value) & (often == 0)
        again = np.zeros(len(confidence), dtype=np.bool_)
        again[np.argsort(confidence, kind="stable")[: -(-len(confidence) // 2)]] = True
        again &= doubtful
        return again


RANKINGS: dict[str, type[Ranking]] = {
    "confidence": Confidence,
    "margin": Margin,
    "entropy": Entropy,
    "random": Random,
    "left-to-right": LeftToRight,
}
ADAPTIVE = ("threshold", "factor", "entropy-bounded", "longest-prefix")


def make_rule(name: str, threshold: float, factor: float, bound: float) -> RevealRule:
    """The rule of that name: one of `RANKINGS` (the best ones, as many as the schedule says) or of `ADAPTIVE`."""
    if name in RANKINGS:
        return TopK(RANKINGS[name]())
    if name == "threshold":
        return Threshold(threshold)
    if name == "factor":
        return Factor(factor)
    if name == "entropy-bounded":
        return EntropyBounded(bound)
    if name == "longest-prefix":
        return LongestPrefix(threshold)
    raise ValueError(f"reveal={name!r}: expected one of {', '.join((*RANKINGS, *ADAPTIVE))}")
