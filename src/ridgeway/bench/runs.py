"""Everyone in turn: what makes figures of one run comparable on a machine whose speed drifts.

A repeat gives every group of every batch size to every contender; the order rotates from repeat to repeat, so that
nobody always follows the same neighbour.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from ridgeway.bench.contenders import Contender, ContenderError
from ridgeway.bench.timeline import Timeline
from ridgeway.bench.workload import Workload

_WARM_TOKENS = 16


@dataclass(frozen=True)
class Plan:
    """batches: sizes, each measured on the whole workload. max_tokens: of every answer, exactly."""

    workload: Workload
    batches: tuple[int, ...]
    max_tokens: int
    repeats: int

    @property
    def warm_tokens(self) -> int:
        return min(_WARM_TOKENS, self.max_tokens)

    def first_group(self, batch: int) -> list[tuple[int, ...]]:
        return self.prompts(self.workload.groups(batch)[0])

    def prompts(self, group: Sequence[int]) -> list[tuple[int, ...]]:
        return [self.workload.prompts[number] for number in group]


@dataclass
class Cell:
    """What was measured of one contender at one batch size.

    repeats: of each repeat, the timelines of the groups in order. fault: why there is nothing, or why what there is
    must not be compared, as the end of a sentence. pace: expected seconds of a repeat, from the unmeasured run.
    """

    repeats: list[list[Timeline]] = field(default_factory=list)
    fault: str | None = None
    pace: float = 0.0


Cells = dict[tuple[str, int], Cell]
Progress = Callable[[str, float], None]  # what begins now, and the share of the work that is done


def prepare(plan: Plan, contenders: Sequence[Contender], progress: Progress) -> Cells:
    """Start everyone and run each batch size once, unmeasured; a contender that fails is left out from here on."""
    cells: Cells = {(contender.name, batch): Cell() for contender in contenders for batch in plan.batches}
    rounds = len(contenders) * (1 + len(plan.batches))
    done = 0
    for contender in contenders:
        progress(f"starting {contender.name}", done / rounds)
        done += 1
        try:
            contender.start()
        except ContenderError as error:
            _leave_out(cells, contender, str(error))
            done += len(plan.batches)
            continue
        for batch in plan.batches:
            cell = cells[contender.name, batch]
            progress(f"preparing {contender.name}, batch {batch}", done / rounds)
            done += 1
            try:
                warm = contender.prepare(plan.first_group(batch), plan.warm_tokens)
            except ContenderError as error:
                cell.fault = str(error)
                continue
            steps = (plan.max_tokens - 1) / max(1, plan.warm_tokens - 1)
            cell.pace = (warm.prefill_seconds + steps * warm.decode_seconds) * len(plan.workload.groups(batch))
        if any(cells[contender.name, batch].fault is None for batch in plan.batches):
            try:
                contender.settle()
            except ContenderError as error:
                _leave_out(cells, contender, str(error))
    progress("ready", 1.0)
    return cells


def expected_seconds(plan: Plan, cells: Cells) -> float:
    """How long `measure` will take, about."""
    return plan.repeats * sum(cell.pace for cell in cells.values() if cell.fault is None)


def measure(
    plan: Plan,
    contenders: Sequence[Contender],
    cells: Cells,
    progress: Progress,
    bus: Callable[[], float] | None = None,
) -> Mapping[int, tuple[float, ...]]:
    """Fill `cells`. A contender that fails at a batch size is not asked for that one again.

    bus: reads memory's present rate, bytes/s; it is asked before every contender's turn. Returns by batch size what it
    said in each repeat, the median over the turns.
    """
    whole = max(expected_seconds(plan, cells), 1e-9)
    done = 0.0
    rates: dict[int, list[float]] = {batch: [] for batch in plan.batches}
    for repeat in range(plan.repeats):
        turn = repeat % max(1, len(contenders))
        for batch in plan.batches:
            now: list[float] = []
            for contender in [*contenders[turn:], *contenders[:turn]]:
                cell = cells[contender.name, batch]
                if cell.fault is not None:
                    continue
                if bus is not None:
                    now.append(bus())
                progress(
                    f"repeat {repeat + 1} of {plan.repeats}: {contender.name}, batch {batch}", min(1, done / whole)
                )
                cell.fault = _measure_cell(plan, contender, batch, cell)
                done += cell.pace
            if now:
                rates[batch].append(median(now))
    progress("measured", 1.0)
    return {batch: tuple(values) for batch, values in rates.items()}


def _measure_cell(plan: Plan, contender: Contender, batch: int, cell: Cell) -> str | None:
    """One repeat of one contender at one batch size; returns what went wrong."""
    timelines = []
    for group in plan.workload.groups(batch):
        try:
            timeline = contender.measure(plan.prompts(group), plan.max_tokens)
        except ContenderError as error:
            return str(error)
        timelines.append(timeline)
        wrong = timeline.wrong_count(plan.max_tokens)
        if wrong is not None:
            return wrong
    cell.repeats.append(timelines)
    return None


def _leave_out(cells: Cells, contender: Contender, reason: str) -> None:
    for (name, _), cell in cells.items():
        if name == contender.name:
            cell.fault = reason
