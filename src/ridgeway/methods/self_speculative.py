"""Self-speculative decoding: the model drafts for itself, with some of its sublayers left out.

Attention and MLP sublayers add to a stream of hidden states; leaving one out leaves the stream as it was, and a model
loses less by it than one would think. So the drafter needs no second model and no memory for weights, and it reads the
K/V of committed tokens that the whole model computed. What it costs is what it does not skip, the head included.

Which sublayers to skip is searched for once and saved with the model: not the set that agrees most often (that would
skip nothing), but the set with the highest predicted speed, (1 - a^(g+1)) / ((1 - a) (g c + v)), from its agreement a
with the whole model and from what the cost model says of its streams c and of the verification v.

After "Draft & Verify: Lossless Large Language Model Acceleration via Self-Speculative Decoding" (Zhang et al. 2024,
arXiv 2309.08168): sections 3.2 (skipping), 3.3 (search), 3.4 (a draft ends where the drafter is unsure, by a threshold
that adapts). The score is ours; theirs is measured speed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from ridgeway.core.arrays import BoolArray
from ridgeway.core.method import Workbench
from ridgeway.core.query import Answer, Commit, Query
from ridgeway.core.sequence import Sequence
from ridgeway.methods.model_drafter import ModelDrafter
from ridgeway.methods.verify import Speculative

_DEEPEST = 8


class SkipSet(NamedTuple):
    """sublayers: (layers, 2) which run. agreement: how often it says what the whole model says. speed: predicted,
    over plain decoding, at drafts of `depth` tokens."""

    sublayers: BoolArray
    agreement: float
    speed: float
    depth: int

    @property
    def words(self) -> str:
        skipped, all_of_them = int((~self.sublayers).sum()), self.sublayers.size
        return (
            f"drafts skip {skipped} of {all_of_them} sublayers and agree on {100 * self.agreement:.0f} % of a sample: "
            f"{self.speed:.2f}x predicted at {self.depth} drafts a step"
        )


def predicted_speed(agreement: float, draft: float, verify: Callable[[int], float], plain: float) -> tuple[float, int]:
    """Speed over plain decoding at the best number of drafts, and that number.

    draft: seconds of a draft stream; verify: of a stream over that many rows; plain: of one over a single row.
    """
    best = (0.0, 1)
    for depth in range(1, _DEEPEST + 1):
        tokens = sum(agreement**step for step in range(depth + 1))
        best = max(best, (tokens * plain / (depth * draft + verify(depth + 1)), depth))
    return best


def search(workbench: Workbench, trials: int, seed: int = 0) -> SkipSet:
    """The set with the highest predicted speed among `trials`: regular ones, then changes of the best so far."""
    layers, generator = workbench.layers, np.random.default_rng(seed)
    inner = [(layer, part) for layer in range(1, layers - 1) for part in (0, 1)] or [(layers - 1, 1)]
    plain = workbench.seconds(1)
    verify = {rows: workbench.seconds(rows) for rows in range(1, _DEEPEST + 2)}

    def judged(sublayers: BoolArray) -> SkipSet:
        agreement = workbench.agreement(sublayers)
        draft = workbench.seconds(1, sublayers)
        speed, depth = predicted_speed(agreement, draft, verify.__getitem__, plain)
        return SkipSet(sublayers, agreement, speed, depth)

    best: SkipSet | None = None
    for trial in range(trials):
        if best is None or trial < 4:  # evenly spread, a fifth to two thirds of the inner sublayers
            sublayers = np.ones((layers, 2), dtype=np.bool_)
            share = (0.2, 0.35, 0.5, 0.65)[trial % 4]
            for place in np.linspace(0, len(inner) - 1, max(1, round(share * len(inner)))).astype(int):
                sublayers[inner[place]] = False
        else:
            sublayers = best.sublayers.copy()
            for place in generator.choice(len(inner), size=min(len(inner), 1 + trial % 3), replace=False):
                sublayers[inner[place]] ^= True
        found = judged(sublayers)
        if best is None or found.speed > best.speed:
            best = found
    assert best is not None
    return best


class SkippingDrafter(ModelDrafter):
    """threshold: where a draft ends, adapted for each sequence so that nine of ten drafted tokens are accepted."""

    def __init__(self, threshold: float) -> None:
        super().__init__(threshold=threshold)
        self.skip_set: SkipSet | None = None
        self.adapted: WeakKeyDictionary[Sequence, tuple[float, float]] = WeakKeyDictionary()  # threshold, acceptance

    def use(self, skip_set: SkipSet) -> None:
        self.skip_set, self.sublayers = skip_set, skip_set.sublayers

    def threshold_of(self, sequence: Sequence) -> float:
        return self.adapted.get(sequence, (self.threshold, 0.9))[0]

    def observe(self, sequence: Sequence, query: Query, answer: Answer, commit: Commit) -> None:
        """The paper's rule: a hundredth up where too few are accepted, down where enough are, both smoothed."""
        drafted = len(query.read) - 1
        if drafted < 1 or not self.threshold:
            return
        threshold, acceptance = self.adapted.get(sequence, (self.threshold, 0.9))
        acceptance = 0.5 * acceptance + 0.5 * (len(commit.tokens) - 1) / drafted
        goal = threshold + 0.01 if acceptance < 0.9 else threshold - 0.01
        self.adapted[sequence] = (min(1.0, max(0.0, 0.9 * threshold + 0.1 * goal)), acceptance)


@dataclass(frozen=True)
class SelfSpeculative(Speculative):
    """The model drafts for itself with sublayers skipped; which ones is searched for once for each model."""

    name = "self-speculative"
    depth: int = 4
    confidence: float = 0.6
    trials: int = 64

    def __post_init__(self) -> None:
        if self.depth < 1 or self.trials < 1 or not 0 <= self.confidence <= 1:
            raise ValueError("depth and trials are at least 1, confidence from 0 to 1")

    @cached_property
    def drafter(self) -> SkippingDrafter:  # type: ignore[override]
        return self.make_drafter()

    def make_drafter(self) -> SkippingDrafter:
        return SkippingDrafter(self.confidence)

    @property
    def most(self) -> int:
        return self.depth

    def prepare(self, workbench: Workbench) -> None:
        name = f"skip-set-{self.trials}"
        saved = workbench.load(name)
        if saved is not None:
            sublayers = np.asarray(saved["sublayers"], dtype=np.bool_)
            if sublayers.shape == (workbench.layers, 2):
                self.drafter.use(SkipSet(sublayers, saved["agreement"], saved["speed"], saved["depth"]))
                return
        found = search(workbench, self.trials)
        self.drafter.use(found)
        workbench.save(name, found._asdict() | {"sublayers": found.sublayers.astype(int).tolist()})

    def explain(self, sequence: Sequence) -> tuple[str, ...]:
        return () if self.drafter.skip_set is None else (self.drafter.skip_set.words,)
