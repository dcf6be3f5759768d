"""What would help a prediction most: the same cost model asked again with one thing changed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ridgeway.core.errors import RidgewayError
from ridgeway.models.outline import Outline
from ridgeway.roofline.decoding import Autoregressive, BlockDiffusion, Decoding, Speculative
from ridgeway.roofline.machine import Machine
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.prediction import Prediction
from ridgeway.roofline.workload import Workload

_MORE = 8
_WORTH_SAYING = 1.1


@dataclass(frozen=True)
class Improvement:
    """text: what to change. gain: times the tokens per second of all requests; per_request: of one of them. lossless:
    whether the text stays the same.
    """

    text: str
    gain: float
    per_request: float
    lossless: bool


def improvements(
    outline: Outline, machine: Machine, precision: str, workload: Workload, method: Decoding | None = None
) -> list[Improvement]:
    """Most helpful first; may be empty."""
    predictor = Predictor(outline.name, outline.config, machine, precision)
    now = predictor.predict(workload, method)
    found = [
        Improvement(
            text, then.estimate.total / now.estimate.total, then.estimate.per_request / now.estimate.per_request, exact
        )
        for text, then, exact in _changes(outline, predictor, now, workload, method)
    ]
    return sorted((item for item in found if item.gain >= _WORTH_SAYING), key=lambda item: -item.gain)


def _changes(
    outline: Outline, predictor: Predictor, now: Prediction, workload: Workload, method: Decoding | None
) -> Iterator[tuple[str, Prediction, bool]]:
    more = min(_MORE * workload.concurrency, now.capacity.largest_batch)
    if more > workload.concurrency:
        yield f"{more} requests at once", predictor.predict(replace(workload, concurrency=more), method), True
    for name in ("4-bit", "int8", "fp8"):
        if name == now.precision:
            continue
        try:
            packed = Predictor(outline.name, outline.config, predictor.machine, name)
        except RidgewayError:
            continue
        yield f"{name} weights", packed.predict(workload, method), False
    if method is None or isinstance(method, Autoregressive):
        guess = Speculative()
        said = f"speculative decoding ({guess.draft_length} drafts, acceptance {guess.acceptance:g})"
        yield said, predictor.predict(workload, guess), True
        blocks = BlockDiffusion()
        said = f"block diffusion ({blocks.tokens_per_step:g} tokens per step; another model)"
        yield said, predictor.predict(workload, blocks), False
