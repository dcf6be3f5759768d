"""How good predictions are: published measurements, predicted by coefficients from other devices than theirs.

The gate was set before the first run: single-device dense decoding within 10 % in the median and 25 % in nine of ten
rows, for at least 90 % of the rows. Errors are of tokens per second, |predicted - measured| / measured. A row counts
as covered only if it was predicted, and every row that was not says why. A row that beats the floor is bad data, or
the floor is wrong; it is listed either way. Mixtures of experts and several devices are reported apart.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np

from ridgeway.core.errors import RidgewayError
from ridgeway.roofline.capacity import Capacity
from ridgeway.roofline.cost import CostModel
from ridgeway.roofline.law import Law, Sample, fit, groups
from ridgeway.roofline.measured_rows import Measurement, Refusal, read_rows
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.reach import TYPICAL, Parts
from ridgeway.roofline.shape import QueryShape
from ridgeway.roofline.speedups import ROUNDS, predicted_speedup
from ridgeway.roofline.workload import Workload

GATE_MEDIAN, GATE_P90, GATE_COVERAGE = 0.10, 0.25, 0.90
_FLOOR_SLACK = 1.005  # rounding of what was published


@dataclass(frozen=True)
class Judged:
    """A row and its prediction. rate: tokens/s as the row counts them; floor_rate: the most that physics allows;
    prompts_rate: the same if all prompts between the steps were computed, one after the other with the steps.
    """

    row: Measurement
    predicted: float
    floor_rate: float
    prompts_rate: float

    @property
    def error(self) -> float:
        """|predicted - measured| / measured, of tokens per second."""
        return abs(self.predicted / self.row.rate - 1)

    @property
    def beats_floor(self) -> bool:
        return self.row.rate > self.floor_rate * _FLOOR_SLACK

    @property
    def spared_prompts(self) -> bool:
        """Too fast for all of its prompts to have been computed: a prefix cache had them, or they waited in a queue."""
        return not self.beats_floor and self.row.rate > self.prompts_rate * _FLOOR_SLACK

    @property
    def gated(self) -> bool:
        """Plain decoding of a dense model on one device, with a known batch."""
        row = self.row
        return row.kind == "decode" and row.devices == 1 and not row.is_mixture and row.batch is not None


@dataclass(frozen=True)
class Group:
    """Errors of some rows. bias: median of predicted / measured - 1."""

    name: str
    rows: int
    median: float
    p90: float
    bias: float

    @classmethod
    def of(cls, name: str, judged: Sequence[Judged]) -> "Group":
        errors = [item.error for item in judged]
        bias = float(np.median([item.predicted / item.row.rate - 1 for item in judged]))
        return cls(name, len(judged), float(np.median(errors)), float(np.quantile(errors, 0.9)), bias)


@dataclass(frozen=True)
class Validation:
    """judged: what was predicted; refused: what was not, and why."""

    judged: tuple[Judged, ...]
    refused: tuple[Refusal, ...]

    @property
    def gated(self) -> tuple[Judged, ...]:
        return tuple(item for item in self.judged if item.gated)

    @property
    def coverage(self) -> float:
        """Of the rows that count for the gate."""
        refused = sum(item.gated for item in self.refused)
        return len(self.gated) / max(1, len(self.gated) + refused)

    @property
    def gate(self) -> Group | None:
        return Group.of("single-device dense decode", self.gated) if self.gated else None

    @property
    def spared_prompts(self) -> tuple[Judged, ...]:
        return tuple(item for item in self.judged if item.spared_prompts)

    @property
    def gate_without_spared(self) -> Group | None:
        """For the record: the gate is judged with all rows."""
        kept = [item for item in self.gated if not item.spared_prompts]
        return Group.of("single-device dense decode, prompts computed", kept) if kept else None

    @property
    def passes(self) -> bool:
        gate = self.gate
        return (
            gate is not None and gate.median <= GATE_MEDIAN and gate.p90 <= GATE_P90 and self.coverage >= GATE_COVERAGE
        )

    @property
    def reasons(self) -> Counter[str]:
        return Counter(item.reason for item in self.refused)

    @property
    def beat_floor(self) -> tuple[Judged, ...]:
        return tuple(item for item in self.judged if item.beats_floor)

    def worst(self, number: int = 10) -> list[Judged]:
        """Of the rows that count for the gate."""
        return sorted(self.gated, key=lambda item: -item.error)[:number]

    def folds(self) -> list[Group]:
        """The parts that are never mixed."""
        return _grouped(self.judged, _fold)

    def by(self, what: str) -> list[Group]:
        """what: method, hardware, precision, batch, parallelism, engine or source. Plain single-device dense decoding
        alone, but for method and parallelism.
        """
        name = _WAYS[what]
        return _grouped(self.judged if what in ("method", "parallelism") else self.gated, name)

    def as_json(self) -> dict[str, Any]:
        gate = self.gate
        return {
            "gate": {"median": GATE_MEDIAN, "p90": GATE_P90, "coverage": GATE_COVERAGE, "passes": self.passes},
            "result": None if gate is None else vars(gate) | {"coverage": self.coverage},
            "folds": [vars(group) for group in self.folds()],
            "by": {what: [vars(group) for group in self.by(what)] for what in _WAYS},
            "beat_floor": [item.row.id for item in self.beat_floor],
            "spared_prompts": [item.row.id for item in self.spared_prompts],
            "refused": dict(self.reasons),
            "worst": [
                {"id": item.row.id, "predicted": item.predicted, "measured": item.row.rate} for item in self.worst()
            ],
        }


def validate(path: str | Path) -> Validation:
    """Predict each row of a table with coefficients from rows of other devices, its own and those that come with
    Ridgeway. Raises RidgewayError if the table cannot be read.
    """
    found = read_rows(path)
    refused = [item for item in found if isinstance(item, Refusal)]
    cases: list[_Case | _SpeedUp] = []
    for row in found:
        if isinstance(row, Refusal):
            continue
        try:
            cases.append(_SpeedUp.of(row) if row.kind == "speedup" else _Case.of(row))
        except RidgewayError as error:
            refused.append(Refusal(row.id, str(error), _would_count(row)))
    known = _distinct(
        [*(case.sample() for case in cases if isinstance(case, _Case) and case.teaches), *shipped_samples()]
    )
    laws: dict[str, Law] = {}
    judged = []
    for case in cases:
        device = case.row.device
        if device not in laws:
            laws[device] = fit([sample for sample in known if sample.device != device])
        judged.append(case.judged(laws[device]))
    return Validation(tuple(judged), tuple(refused))


def shipped_samples() -> list[Sample]:
    """The published measurements that come with Ridgeway and that teach the law."""
    with as_file(files("ridgeway.roofline") / "measured.csv") as path:
        rows = [row for row in read_rows(path) if isinstance(row, Measurement)]
    samples = []
    for row in rows:
        try:
            case = _Case.of(row)
        except RidgewayError:  # a machine without a rate of products teaches nothing
            continue
        if case.teaches:
            samples.append(case.sample())
    return samples


def fit_shipped() -> Law:
    """The law of all rows that come with Ridgeway, with the interval that left-out devices show."""
    samples = shipped_samples()
    ratios = []
    for device in sorted({sample.device for sample in samples}):
        law = fit([sample for sample in samples if sample.device != device])
        ratios += [log(sample.seconds / law.seconds(sample)) for sample in samples if sample.device == device]
    low, high = np.quantile(ratios, [0.05, 0.95])
    return replace(fit(samples), low=exp(min(low, -0.02)), high=exp(max(high, 0.02)))


@dataclass(frozen=True)
class _Case:
    """A row with the streams that it consists of. parts: their share of `row.seconds`, before any law."""

    row: Measurement
    parts: Parts
    floor: float
    floor_of_all: float
    exchange: float
    names: tuple[str, ...]

    @classmethod
    def of(cls, row: Measurement) -> "_Case":
        model = _model(row)
        batch = row.batch or _largest_batch(row, model)
        prompt, context = max(1, row.prompt), row.prompt + row.output // 2
        prefill = (1, QueryShape(prompt, row.depth))
        if row.kind == "prefill":
            pieces = [(1.0, *prefill)]
        elif row.kind == "forward":
            pieces = [(1.0, batch, QueryShape(_BLOCK, context, reads=_BLOCK))]
        else:
            pieces = [(1.0, batch, QueryShape(1, context))]
            if row.kind == "served":
                pieces = [(1 / batch, batch, QueryShape(1, context)), (1 / row.output, *prefill)]
            elif row.interleaved:
                pieces.append((batch / row.output, *prefill))
        parts, floor, exchange = Parts(), 0.0, 0.0
        for times, queries, shape in pieces:
            cost = model.count([shape] * queries)
            parts = parts.plus(model.parts(cost), times)
            floor += times * model.floor(cost)
            exchange += times * model.exchange(cost)
        if row.batch is None:  # the floor of an unknown batch: all memory is full of half-finished answers
            most = _largest_batch(row, model, share=1.0, answer=0.5)
            step = model.count([QueryShape(1, context)] * most)
            floor = model.floor(step) / most + model.floor(model.count([prefill[1]])) / row.output
        whole = floor
        if row.interleaved:  # whether a prompt's time is counted between two tokens, tables do not say
            floor = model.floor(model.count([QueryShape(1, context)] * batch))
        names = groups(row.machine, row.weights, row.engine, row.flash, row.engine_name, row.is_mixture)
        return cls(row, parts, floor, max(floor, whole), exchange, names)

    @property
    def teaches(self) -> bool:
        """Dense, one device, and nothing about it is guessed."""
        row = self.row
        return row.devices == 1 and not row.is_mixture and row.batch is not None and row.kind != "forward"

    def sample(self) -> Sample:
        weight = 1.0 if self.row.kind == "decode" else 0.5
        return Sample(self.parts, self.names, self.row.seconds, self.row.device, weight)

    def judged(self, law: Law) -> Judged:
        seconds = max(self.floor, law.fitted(self.names).seconds(self.parts) + self.exchange)
        scale = self.row.rate * self.row.seconds  # tokens that the seconds stand for
        return Judged(self.row, scale / seconds, scale / self.floor, scale / self.floor_of_all)


@dataclass(frozen=True)
class _SpeedUp:
    """A row that says how much faster drafting is, and tokens per pass. Nothing can be faster than its tokens."""

    row: Measurement
    model: CostModel
    names: tuple[str, ...]

    @classmethod
    def of(cls, row: Measurement) -> "_SpeedUp":
        return cls(row, _model(row), groups(row.machine, row.weights, row.engine, row.flash, row.engine_name))

    def judged(self, law: Law) -> Judged:
        row = self.row
        drafted = ROUNDS[row.method.lower()]
        gain = predicted_speedup(self.model, law.fitted(self.names), drafted, row.tokens)
        return Judged(row, gain, row.tokens, row.tokens)


_BLOCK = 32  # positions of a diffusion forward, where the row does not say


def _model(row: Measurement) -> CostModel:
    machine, config = row.machine.times(row.devices), row.outline.config
    itemsize = row.kv_itemsize
    return Predictor(row.outline.name, config, machine, row.weights, kv_itemsize=itemsize, reach=TYPICAL).cost_model


def _largest_batch(row: Measurement, model: CostModel, share: float = 0.9, answer: float = 1.0) -> int:
    """answer: how much of an answer a request holds on average."""
    held = Workload(max(1, row.prompt), max(1, round(answer * row.output)), memory_share=share)
    found = Capacity.of(model, held).largest_batch
    if not found:
        raise RidgewayError("the model does not fit into the memory that the table knows of")
    return min(found, _MOST_REQUESTS)


_MOST_REQUESTS = 4096


def _distinct(samples: Iterable[Sample]) -> list[Sample]:
    """A row that comes with Ridgeway may stand in the table too."""
    return list({(s.parts, s.groups, s.device, round(s.seconds, 9)): s for s in samples}.values())


def _would_count(row: Measurement) -> bool:
    return row.kind == "decode" and row.devices == 1 and not row.is_mixture


def _fold(item: Judged) -> str:
    row = item.row
    what = "mixture of experts" if row.is_mixture else "dense"
    where = "one device" if row.devices == 1 else "several devices"
    kinds = {"served": "whole batches", "forward": "diffusion forward", "speedup": "speed-up of drafting"}
    return f"{kinds.get(row.kind, row.kind)}, {what}, {where}"


def _batch_class(item: Judged) -> str:
    batch = item.row.batch
    if batch is None:
        return "as large as fits"
    bounds = (1, 4, 16, 64, 256)
    upper = next((bound for bound in bounds if batch <= bound), None)
    if upper is None:
        return "above 256"
    return "1" if upper == 1 else f"{bounds[bounds.index(upper) - 1] + 1} to {upper}"


_WAYS: dict[str, Callable[[Judged], str]] = {
    "method": lambda item: item.row.method,
    "hardware": lambda item: item.row.device,
    "precision": lambda item: item.row.weights.name,
    "batch": _batch_class,
    "parallelism": lambda item: f"{item.row.devices} device" + ("s" if item.row.devices > 1 else ""),
    "engine": lambda item: item.row.engine or "not known",
    "source": lambda item: item.row.source.split(" id=")[0],
}


def _grouped(judged: Iterable[Judged], name: Callable[[Judged], str]) -> list[Group]:
    found: dict[str, list[Judged]] = {}
    for item in judged:
        found.setdefault(name(item), []).append(item)
    return [Group.of(key, found[key]) for key in sorted(found)]
