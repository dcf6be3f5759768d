"""The options of every method that denoises: how many positions a step reveals, and which.

A schedule (`sampler`, `steps`) and a rule (`reveal`) are told apart and compose; what is left open is chosen so that
the two fit each other.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from ridgeway.core.arrays import DoubleArray
from ridgeway.core.method import DecodingMethod
from ridgeway.core.query import Answer
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.methods.option_types import check_types
from ridgeway.methods.reveal import AtLeast, AtMost, RevealRule, make_rule
from ridgeway.methods.reveal_schedule import SCHEDULES, ExpectedCount, Schedule


@dataclass(frozen=True)
class RevealOptions(DecodingMethod):
    """What may be set of every method that denoises.

    steps: weight streams that the schedule has; None: as many as there are tokens. sampler: how many positions a step
    reveals, a name of `reveal_schedule.SCHEDULES`. reveal: which ones: a ranking (confidence, margin, entropy, random,
    left-to-right) or an adaptive rule (threshold, factor, entropy-bounded, longest-prefix), or a `RevealRule`; `auto`:
    threshold, or what suits `steps` and `sampler` if they are given. threshold, factor, bound: of the adaptive rules.
    pace: of an adaptive rule with `steps`: whether the schedule's count is the `floor` (so that the steps are enough)
    or the `ceiling` of what a step reveals. remask: confidence below which a revealed token is decided once more.
    measured: whether confidence, margin and entropy are the `model`'s own, or of what tokens were `drawn` from, after
    temperature and truncation (SDAR, Dream). end_time: of the `expected` sampler. mask_id: the mask token, for a
    model that does not state it.
    """

    steps: int | None = None
    sampler: str = "fixed"
    reveal: str | RevealRule = "auto"
    threshold: float = 0.9
    factor: float = 1.0
    bound: float = 0.35
    pace: str = "floor"
    remask: float = 0.0
    measured: str = "model"
    end_time: float = 1e-3
    mask_id: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps={self.steps}: a step reveals at least one token, so at least 1 is needed")
        if self.sampler not in SCHEDULES:
            raise ValueError(f"sampler={self.sampler!r}: expected one of {', '.join(SCHEDULES)}")
        if self.sampler == "first-hitting" and self.steps is not None:
            raise ValueError("sampler=first-hitting reveals one token a step: it takes no steps")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold}: expected a probability above 0")
        if self.factor <= 0 or self.bound < 0:
            raise ValueError("factor is above 0, bound (in nats) at least 0")
        if self.pace not in ("floor", "ceiling"):
            raise ValueError(f"pace={self.pace!r}: expected floor or ceiling")
        if not 0 <= self.remask <= 1:
            raise ValueError(f"remask={self.remask}: expected a probability")
        if self.measured not in ("model", "drawn"):
            raise ValueError(f"measured={self.measured!r}: expected model or drawn")
        if not 0 < self.end_time < 1:
            raise ValueError(f"end_time={self.end_time}: expected a time between 0 and 1")
        self.rule  # noqa: B018  (an unknown name is refused here)

    @cached_property
    def rule(self) -> RevealRule:
        """What `reveal` names, within the bounds that `steps` and `pace` set."""
        name = self._named
        rule = name if isinstance(name, RevealRule) else make_rule(name, self.threshold, self.factor, self.bound)
        if not rule.adaptive or not self.scheduled:
            return rule
        return AtMost(rule) if self.pace == "ceiling" else AtLeast(rule)

    @property
    def _named(self) -> str | RevealRule:
        """`reveal`, with what `auto` stands for."""
        if self.reveal != "auto":
            return self.reveal
        if self.sampler in ("ancestral", "first-hitting"):
            return "random"
        return "confidence" if self.scheduled else "threshold"

    @property
    def idle(self) -> str | None:
        """Which options were set and change nothing, beside the others, as a sentence; None if there are none."""
        name, rule = self._named, self.rule
        named = name if isinstance(name, str) else type(name).__name__
        used = {
            "threshold": name in ("threshold", "longest-prefix"),
            "factor": name == "factor",
            "bound": name == "entropy-bounded",
            "pace": rule.adaptive and self.scheduled,
            "end_time": self.sampler == "expected",
        }
        idle = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if not used.get(field.name, True) and getattr(self, field.name) != field.default
        ]
        if not idle:
            return None
        verb = "changes" if len(idle) == 1 else "change"
        steps = "no steps" if self.steps is None else f"steps={self.steps}"
        return f"{', '.join(idle)} {verb} nothing with reveal={named}, sampler={self.sampler} and {steps}"

    @property
    def scheduled(self) -> bool:
        return self.steps is not None or self.sampler != "fixed"

    @property
    def capped(self) -> bool:
        """Whether the schedule's counts are the most that may be revealed, not the least."""
        return self.rule.adaptive and self.pace == "ceiling"

    def schedule(self, size: int, steps: int) -> Schedule | None:
        """The schedule of `size` positions and `steps` steps; None: the rule decides alone."""
        if self.rule.adaptive and not self.scheduled:
            return None
        if self.sampler == "expected":
            return ExpectedCount(size, steps, self.end_time)
        return SCHEDULES[self.sampler](size, steps)

    def measures_drawn(self, params: SamplingParams) -> bool:
        """At temperature 0 nothing is drawn, and the model's own distribution is what is left."""
        return self.measured == "drawn" and params.temperature > 0


def of_the_drawn(answer: Answer, distribution: DoubleArray) -> Answer:
    """The answer with confidence, margin and entropy of the distribution (n, vocabulary) that its tokens come from."""
    confidence = np.take_along_axis(distribution, answer.tokens[:, None], axis=1)[:, 0]
    best = -np.partition(-distribution, 1, axis=1)[:, :2]
    logs = np.log(np.where(distribution > 0, distribution, 1.0))
    return answer._replace(
        confidence=confidence,
        margin=best[:, 0] - best[:, 1],
        entropy=-(distribution * logs).sum(axis=1),
        distribution=None,
    )
