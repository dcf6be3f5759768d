"""Judging weight streams by the cost model, out of the way of the next one.

To count what a stream moved, how long it should have taken and what is to be learned from it takes 0.15 ms of Python in
caches that the weights have swept, and a third of that when the stream before was just judged; and nobody waits for the
result. So streams are noted down as they end, and some of them judged together while another one runs, by a thread that
is free for a moment; or by the owner, if no such thread came.
"""

import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock

from ridgeway.core.query import Batch
from ridgeway.engine.draft_models import DraftModel, Weights
from ridgeway.roofline.report import StepReport

TOGETHER = 0.03  # seconds that streams to be judged took together: shorter ones wait for each other
MOST = 16  # of them, however short


@dataclass
class Gain:
    """What a weight stream brought: tokens that became final, positions that became known, rows of prompts."""

    committed: int = 0
    revealed: int = 0
    prefill_rows: int = 0


@dataclass(frozen=True)
class Streamed:
    """A weight stream that was run. weights: of which model; pool_fraction: share of the K/V pool that was in use.

    seconds: from the batch to its answers. A helper that judges an earlier stream meanwhile comes so much later to this
    one, and what that costs is a part of it; time that the engine waits for judgements after the answers is not.
    """

    weights: Weights
    batch: Batch
    seconds: float
    pool_fraction: float
    gain: Gain = field(default_factory=Gain)


class Judge:
    """Streams that were run, and their reports, in the order of the streams.

    target: the model that answers requests. draft_models: those that draft for it, by name.

    The cost models learn here and are asked by the engine's thread, so only one of both may be at it: others judge
    only what `judging` lent them, and no longer than until the owner takes the `reports`.
    """

    def __init__(self, target: Weights, draft_models: Mapping[str, DraftModel]) -> None:
        self._target = target
        self._draft_models = draft_models
        self._waiting: deque[Streamed] = deque()
        self._seconds = 0.0  # that they took
        self._reports: list[StepReport] = []
        self._faults: list[Exception] = []
        self._lock = Lock()
        self._lent = False

    def note(self, stream: Streamed) -> None:
        """A stream has ended; it is judged later."""
        self._waiting.append(stream)
        self._seconds += stream.seconds

    def judging(self) -> Callable[[], None]:
        """Judges what has waited long enough, in any thread, until `reports` is called; it never raises."""
        self._lent = True
        return self._help

    def reports(self, of_all: bool) -> list[StepReport]:
        """The reports of the streams that were judged since the last call; of_all: those that wait are judged now.

        A stream that could not be judged has none; that is a fault of the cost model, and no request's: a warning.
        """
        with self._lock:  # whoever has begun to judge is waited for; it is Python, and short
            self._lent = False
            if of_all or self._due:
                self._judge()
        reports, self._reports = self._reports, []
        faults, self._faults = self._faults, []
        for fault in faults:
            warnings.warn(f"a weight stream could not be judged: {type(fault).__name__}: {fault}", stacklevel=2)
        return reports

    def _help(self) -> None:
        if self._lock.acquire(blocking=False):  # else somebody is at it
            try:
                if self._lent and self._due:
                    self._judge()
            finally:
                self._lock.release()

    @property
    def _due(self) -> bool:
        return self._seconds >= TOGETHER or len(self._waiting) >= MOST

    def _judge(self) -> None:
        self._seconds = 0.0
        while self._waiting:
            stream = self._waiting.popleft()
            try:
                self._reports.append(self._report(stream))
            except Exception as fault:
                self._faults.append(fault)

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
