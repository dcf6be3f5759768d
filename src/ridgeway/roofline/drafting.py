"""Whether a draft is calibrated: how many tokens to propose, and what too many or too weak ones cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ridgeway.roofline.decoding import Autoregressive, Speculative
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.prediction import Prediction
from ridgeway.roofline.workload import Workload

Verdict = Literal["good", "too long", "too short", "too weak"]
LONGEST = 16  # drafted tokens that are tried
_NEAR = 0.95  # of the best speed-up: as good as the best


@dataclass(frozen=True)
class Drafting:
    """tokens: expected of a pass. speedup: over plain decoding of the same workload, estimated; floor_speedup: at the
    floors. best_length, best_speedup: of drafts with the same acceptance and cost; 0 and 1 if plain decoding is faster.
    prediction: of this draft.
    """

    tokens: float
    speedup: float
    floor_speedup: float
    best_length: int
    best_speedup: float
    verdict: Verdict
    prediction: Prediction


def drafting(predictor: Predictor, workload: Workload, method: Speculative) -> Drafting:
    """Judge a draft, and find the best length for this batch."""
    tried = sorted({*range(1, LONGEST + 1), method.draft_length})
    return draftings(predictor, workload, method, tried)[tried.index(method.draft_length)]


def draftings(
    predictor: Predictor, workload: Workload, method: Speculative, lengths: Sequence[int] = range(1, LONGEST + 1)
) -> list[Drafting]:
    """Drafts of these lengths, of `method`'s acceptance and cost, each judged by the best of them up to `LONGEST`."""
    plain = predictor.predict(workload, Autoregressive())
    found = [replace(method, draft_length=length) for length in lengths]
    predictions = [predictor.predict(workload, draft) for draft in found]
    speedups = [plain.estimate.per_token / prediction.estimate.per_token for prediction in predictions]
    best_length, best = 0, 1.0
    for length, speedup in zip(lengths, speedups, strict=True):
        if speedup > best and length <= LONGEST:
            best_length, best = length, speedup
    return [
        Drafting(
            tokens=draft.tokens,
            speedup=speedup,
            floor_speedup=plain.floor.per_token / prediction.floor.per_token,
            best_length=best_length,
            best_speedup=best,
            verdict=_verdict(speedup, best, draft.draft_length, best_length),
            prediction=prediction,
        )
        for draft, prediction, speedup in zip(found, predictions, speedups, strict=True)
    ]


def _verdict(speedup: float, best: float, length: int, best_length: int) -> Verdict:
    if best_length == 0:
        return "too weak"
    if speedup >= _NEAR * best:
        return "good"
    return "too long" if length > best_length else "too short"
