"""Judging weight streams by the cost model, several at once.

To count what a stream moved, how long it should have taken and what is to be learned from it is Python that takes
0.15 ms in caches that the weights have swept, and a third of that right after another stream was judged; and nobody
waits for the result. So short streams are noted down as they end, and judged together.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

from ridgeway.core.query import Batch
from ridgeway.engine.draft_models import DraftModel, Weights
from ridgeway.engine.streams import HeadWork
from ridgeway.roofline.report import StepReport

TOGETHER = 0.03  # seconds that streams which are judged together took: so long the first may wait
MOST = 16  # of them, however short


@dataclass
class Gain:
    """What a weight stream brought: tokens that became final, positions that became known, rows of prompts."""

    committed: int = 0
    revealed: int = 0
    prefill_rows: int = 0


@dataclass(frozen=True)
class Streamed:
    """A weight stream that was run. weights: of which model; seconds: from the batch to its answers; pool_fraction:
    share of the K/V pool that was in use.
    """

    weights: Weights
    batch: Batch
    seconds: float
    pool_fraction: float
    gain: Gain = field(default_factory=Gain)


class Judge:
    """Streams that were run, and their reports, in the order of the streams.

    target: the model that answers requests. draft_models: those that draft for it, by name.
    """

    def __init__(self, target: Weights, draft_models: Mapping[str, DraftModel]) -> None:
        self._target = target
        self._draft_models = draft_models
        self._waiting: list[Streamed | HeadWork] = []
        self._seconds = 0.0  # that they took

    def note(self, stream: Streamed | HeadWork) -> None:
        """A stream, or a draft head's work, has ended; it is judged sometime."""
        self._waiting.append(stream)
        self._seconds += stream.seconds

    def reports(self, of_all: bool) -> list[StepReport]:
        """The reports of the streams that were noted, once they have waited long enough; of_all: at once.

        A stream that cannot be judged has none; that is a fault of the cost model, and no request's: a warning.
        """
        if not of_all and self._seconds < TOGETHER and len(self._waiting) < MOST:
            return []
        waiting, self._waiting, self._seconds = self._waiting, [], 0.0
        reports = []
        for stream in waiting:
            try:
                reports.append(self._of_drafts(stream) if isinstance(stream, HeadWork) else self._report(stream))
            except Exception as fault:
                said = f"a weight stream could not be judged: {type(fault).__name__}: {fault}"
                warnings.warn(said, stacklevel=2)
        return reports

    def _of_drafts(self, work: HeadWork) -> StepReport:
        return StepReport.of_drafts(self._target.cost_model, work.cost, work.sequences, work.seconds)

    def _report(self, stream: Streamed) -> StepReport:
        """Judge a stream by the cost model of its model, and let the cost model learn from it."""
        cost_model, batch, gain = stream.weights.cost_model, stream.batch, stream.gain
        cost = cost_model.count_batch(batch)
        report = StepReport.of(
            cost_model,
            cost,
            rows=batch.rows,
            reads=batch.reads,
            requests=len(batch.entries),
            prefill_rows=gain.prefill_rows,
            committed=gain.committed,
            revealed=gain.revealed,
            seconds=stream.seconds,
            pool_fraction=stream.pool_fraction,
        )
        exceeded = cost_model.observe(cost, stream.seconds)
        if exceeded is not None:
            machine = cost_model.raise_ceilings(exceeded)
            for one in (self._target, *self._draft_models.values()):
                one.cost_model.machine = machine
        return report
