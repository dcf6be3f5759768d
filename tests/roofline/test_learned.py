"""What steps taught is there in the next process, for the same model in the same executor on the same machine."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from ridgeway import LLM, SamplingParams
from ridgeway.engine import engine
from ridgeway.executors.reference import ReferenceExecutor
from ridgeway.models.model import Model
from ridgeway.roofline import stored
from ridgeway.roofline.calibration import Calibration, Kind
from ridgeway.roofline.cost import CostModel, QueryShape
from ridgeway.roofline.hardware import machine as machine_named
from ridgeway.roofline.host import hardware_key
from ridgeway.roofline.learned import Learned
from ridgeway.roofline.machine import BandwidthPoint, Machine, Peak
from ridgeway.roofline.this_machine import remember
from ridgeway.testing.toy import toy_config, toy_model

GOLDEN = Path(__file__).parents[1] / "golden" / "llama_tied"
MACHINE = Machine(
    name="2-core Example",
    source="measured",
    bandwidths=(BandwidthPoint(1 << 20, 2, 30e9, 28e9),),
    peaks={"fp32": Peak(200e9, 180e9)},
    step_overhead=1e-7,
    layer_overhead=1e-8,
    memory_bytes=1 << 34,
    usable_bytes=1 << 34,
    key=hardware_key(),
)
ONE, MANY = QueryShape(1, cached=20), QueryShape(300)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIDGEWAY_HOME", str(tmp_path))
    return tmp_path


def stored_files(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


def from_file(model: Model | None = None, source: str = "somewhere.gguf") -> Model:
    return replace(model or toy_model(), source=source)


class Process:
    """A model in an executor as a new process finds it."""

    def __init__(self, model: Model | None = None, threads: int = 1, machine: Machine = MACHINE) -> None:
        self.model = model or from_file()
        executor = ReferenceExecutor(self.model, threads)
        self.cost_model = CostModel.of(self.model.config, executor, machine)
        self.learned = Learned.of(self.model, executor, self.cost_model)

    def run(self, slowness: float, steps: int = 40, shape: QueryShape = ONE, spread: float = 0.02) -> None:
        """Steps that take `slowness` times what the machine's typical rates say."""
        cost = self.cost_model.count([shape])
        fresh = self.cost_model.holding(self.cost_model.held_bytes).estimate(cost).seconds
        noise = np.random.default_rng(0).standard_normal(steps)
        for number in range(steps):
            self.cost_model.observe(cost, fresh * slowness * float(np.exp(spread * noise[number])))
        if self.learned is not None:
            self.learned.save()

    def expects(self, shape: QueryShape = ONE) -> float:
        """How much slower than typical rates say."""
        cost = self.cost_model.count([shape])
        fresh = self.cost_model.holding(self.cost_model.held_bytes).estimate(cost).seconds
        return self.cost_model.estimate(cost).seconds / fresh


def test_the_next_process_expects_what_the_last_one_saw() -> None:
    Process().run(1.7)
    again = Process()
    assert again.expects() == pytest.approx(1.7, rel=0.03)
    low, high = (again.cost_model.estimate(again.cost_model.count([ONE]))[n] for n in (1, 2))
    assert high / low < 1.15


def test_the_floor_is_never_corrected() -> None:
    before, again = Process(), Process()
    before.run(3.0)
    again = Process()
    cost = again.cost_model.count([ONE])
    assert again.cost_model.floor(cost) == before.cost_model.floor(cost)


def test_where_the_model_lies_does_not_matter_but_its_sizes_threads_and_formats_do() -> None:
    Process().run(1.7)
    assert Process(from_file(source="elsewhere.gguf")).expects() == pytest.approx(1.7, rel=0.03)
    assert Process(from_file(toy_model(toy_config(hidden=64)))).expects() == 1
    assert Process(threads=2).expects() == 1


def test_a_new_state_of_the_machine_is_learned_within_ten_steps() -> None:
    Process().run(1.2)
    again = Process()
    again.run(1.8, steps=10)
    assert again.expects() == pytest.approx(1.8, rel=0.03)


def test_what_is_kept_follows_the_last_run_and_its_interval_tells_of_those_before() -> None:
    for slowness in (1.2, 1.2, 1.5):
        Process().run(slowness)
    again = Process()
    seconds, low, high = again.cost_model.estimate(again.cost_model.count([ONE]))
    assert again.expects() == pytest.approx(1.5, rel=0.03)
    assert low / seconds < 1.25 / 1.5
    for _ in range(4):
        Process().run(1.5)
    again = Process()
    seconds, low, high = again.cost_model.estimate(again.cost_model.count([ONE]))
    assert low / seconds > 0.9  # long past
    assert high / seconds < 1.1


def test_a_prediction_before_a_run_rests_on_earlier_ones_alone() -> None:
    Process().run(1.7)
    again = Process()
    cost = again.cost_model.count([ONE])
    before = again.cost_model.estimate(cost)
    again.run(2.5)
    assert again.cost_model.estimate(cost).seconds > 1.3 * before.seconds
    assert again.cost_model.as_recalled().estimate(cost) == before


def test_a_handful_of_steps_is_not_worth_a_file_until_there_are_more(home: Path) -> None:
    process = Process()
    process.run(1.5, steps=5)
    assert not stored_files(home)
    process.run(1.5, steps=5)
    assert len(stored_files(home)) == 1


def test_many_runs_in_one_process_count_as_one() -> None:
    Process().run(1.2)
    long = Process()
    for _ in range(10):
        long.run(1.5)
    again = Process()
    _, low, _ = again.cost_model.estimate(again.cost_model.count([ONE]))
    assert low < long.cost_model.estimate(again.cost_model.count([ONE])).low / 1.1  # the run before it is not lost


def test_processes_at_the_same_time_do_not_undo_each_other() -> None:
    one, other = Process(), Process()
    one.run(1.4, shape=ONE)
    other.run(2.2, shape=MANY)
    again = Process()
    assert again.expects(ONE) == pytest.approx(1.4, rel=0.03)
    assert again.expects(MANY) == pytest.approx(2.2, rel=0.03)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"version": 1', '"version": 2'),
        lambda text: json.dumps({**json.loads(text), "ratios": [["memory", 1]]}),
        lambda text: json.dumps({**json.loads(text), "ratios": [["memory", 1, 0, [float("nan")]]]}),
        lambda text: json.dumps({**json.loads(text), "ratios": [["memory", 1, 0, ["fast"]]]}),
        lambda text: json.dumps({**json.loads(text), "ratios": 3}),
    ],
)
def test_a_damaged_file_is_as_none_and_is_replaced(home: Path, damage) -> None:
    Process().run(1.7)
    (path,) = stored_files(home)
    path.write_text(damage(path.read_text()))
    again = Process()
    assert again.expects() == 1
    again.run(1.3)
    assert Process().expects() == pytest.approx(1.3, rel=0.03)


def test_under_other_typical_rates_what_was_learned_means_nothing() -> None:
    Process().run(1.7)
    measured_anew = replace(MACHINE, bandwidths=(BandwidthPoint(1 << 20, 2, 30e9, 20e9),))
    assert Process(machine=measured_anew).expects() == 1
    raised = MACHINE.raised(bytes_per_second=40e9)
    assert Process(machine=raised).expects() == pytest.approx(1.7, rel=0.03)


def test_a_write_that_fails_leaves_what_was_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Process().run(1.7)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(stored.os, "replace", full)
        Process().run(3.0)
    assert len(stored_files(home)) == 1
    assert Process().expects() == pytest.approx(1.7, rel=0.03)


def test_readers_find_a_whole_file_while_others_write(home: Path) -> None:
    path = home / "one.json"
    stored.write_json(path, [0] * 1000)

    def write(number: int) -> None:
        for _ in range(20):
            stored.write_json(path, [number] * 1000)

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, number) for number in range(3)]
        while not all(writer.done() for writer in writers):
            assert len(set(json.loads(path.read_text()))) == 1
        for writer in writers:
            writer.result()
    assert os.listdir(home) == ["one.json"]


def test_of_data_sheets_and_of_models_made_up_in_memory_nothing_is_kept(home: Path) -> None:
    Process(machine=replace(machine_named("h100"), peaks={"fp32": Peak(1e12, 1e12)})).run(1.7)
    Process(toy_model()).run(1.7)
    assert not stored_files(home)


def test_what_is_kept_is_bounded_and_the_latest_stays() -> None:
    calibration = Calibration()
    for rows in range(1, 5000):
        for attention in (0.0, 0.3, 0.6, 0.9):
            calibration.observe(Kind.of("memory", rows, attention), 1.5)
    for _ in range(100):
        calibration.observe(Kind.of("compute", 1, 0.0), 2.0)
    kept = calibration.to_keep({Kind("overhead", number, 0): [0.1] for number in range(1000)})
    assert len(kept) <= 300
    assert all(len(logs) <= 32 for logs in kept.values())
    assert Kind.of("compute", 1, 0.0) in kept


def test_an_llm_keeps_what_its_steps_took_and_roof_predicts_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from ridgeway.cli.roof_tables import Asked, _as_run
    from ridgeway.models.known import find_outline
    from ridgeway.roofline.workload import Workload

    remember(MACHINE)
    ticks = count()
    monkeypatch.setattr(engine, "perf_counter", lambda: 0.25 * next(ticks))
    params = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
    first = LLM(GOLDEN, slots=256)
    first.generate([[1, 2, 3]], params)
    second = LLM(GOLDEN, slots=256)
    again = second.cost_model.estimate(first.steps[-1].cost)
    assert first.steps[0].estimate.seconds < 0.1 * first.steps[0].seconds
    assert again.seconds == pytest.approx(first.steps[-1].seconds, rel=0.2)

    workload = Workload(3, 40, 1, None)
    asked = Asked(find_outline(GOLDEN), workload, [MACHINE], [], [], "", 2, None, True, None, str(GOLDEN))
    predictor = _as_run(asked, MACHINE)
    assert predictor is not None
    assert predictor.predict(workload).estimate.per_token == pytest.approx(again.seconds, rel=0.2)
