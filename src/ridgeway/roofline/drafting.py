"""Whether a draft is calibrated: how many tokens to propose, and what too many or too weak ones cost."""

from dataclasses import dataclass, replace
from typing import Literal

from ridgeway.roofline.decoding import Autoregressive, Speculative
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.workload import Workload

Verdict = Literal["good", "too long", "too short", "too weak"]
_LONGEST = 16
_NEAR = 0.95  # of the best speed-up: as good as the best


@dataclass(frozen=True)
class Drafting:
    """tokens: expected of a pass. speedup: over plain decoding of the same workload, estimated; floor_speedup: at the
    floors. best_length, best_speedup: of drafts with the same acceptance and cost; 0 and 1 if plain decoding is faster.
    """

    tokens: float
    speedup: float
    floor_speedup: float
    best_length: int
    best_speedup: float
    verdict: Verdict


def drafting(predictor: Predictor, workload: Workload, method: Speculative) -> Drafting:
    """Judge a draft, and find the best length for this batch."""
    plain = predictor.predict(workload, Autoregressive())
    found = predictor.predict(workload, method)
    speedup = plain.estimate.per_token / found.estimate.per_token
    best_length, best = 0, 1.0
    for length in range(1, _LONGEST + 1):
        other = predictor.predict(workload, replace(method, draft_length=length))
        gain = plain.estimate.per_token / other.estimate.per_token
        if gain > best:
            best_length, best = length, gain
    return Drafting(
        tokens=method.tokens,
        speedup=speedup,
        floor_speedup=plain.floor.per_token / found.floor.per_token,
        best_length=best_length,
        best_speedup=best,
        verdict=_verdict(speedup, best, method.draft_length, best_length),
    )


def _verdict(speedup: float, best: float, length: int, best_length: int) -> Verdict:
    if best_length == 0:
        return "too weak"
    if speedup >= _NEAR * best:
        return "good"
    return "too long" if length > best_length else "too short"
