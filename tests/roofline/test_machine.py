"""Ceilings: which rate counts for which size, how they are stored, raised and measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeway.core.errors import MachineError
from ridgeway.roofline import host, measure
from ridgeway.roofline.machine import BandwidthPoint, Machine, Peak
from ridgeway.roofline.this_machine import remember, this_machine


def machine(**changes: object) -> Machine:
    plain: dict[str, object] = {
        "name": "example",
        "source": "measured",
        "bandwidths": (
            BandwidthPoint(4_000, 1, 40.0, 30.0),
            BandwidthPoint(1_000, 1, 50.0, 45.0),
            BandwidthPoint(1_000, 2, 90.0, 80.0),
            BandwidthPoint(4_000, 2, 60.0, 50.0),
            BandwidthPoint(16_000, 1, 10.0, 9.0),
            BandwidthPoint(16_000, 2, 20.0, 18.0),
        ),
        "peaks": {"fp32": Peak(1000.0, 900.0, "fp32", "products"), "int8": Peak(4000.0, 3500.0)},
        "step_overhead": 1e-5,
        "layer_overhead": 1e-6,
        "memory_bytes": 1 << 30,
        "usable_bytes": 1 << 29,
        "cores": 2,
        "threads": 2,
        "key": "example",
    }
    return Machine(**(plain | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("working_set", "rate"), [(1, 90), (1_000, 90), (3_999, 90), (4_000, 60), (15_999, 60), (16_000, 20), (10**9, 20)]
)
def test_a_size_between_two_measured_ones_has_the_rate_of_the_smaller(working_set: int, rate: float) -> None:
    assert machine().bandwidth(working_set) == rate


def test_a_rate_seen_over_a_larger_set_holds_for_a_smaller_one() -> None:
    noisy = machine(bandwidths=(BandwidthPoint(1_000, 1, 30.0, 30.0), BandwidthPoint(4_000, 1, 50.0, 40.0)))
    assert noisy.bandwidth(1_000) == 50


def test_the_typical_rate_lies_between_those_of_the_neighbours() -> None:
    assert machine().typical_bandwidth(1_000) == 80
    assert machine().typical_bandwidth(2_500) == pytest.approx(65)
    assert machine().typical_bandwidth(10**6) == 18
    assert machine().typical_bandwidth(16_000, threads=1) == 9


def test_the_ridge_is_where_both_ceilings_meet() -> None:
    assert machine().ridge("fp32") == 1000 / 20
    assert machine().ridge("int8", working_set=1_000) == pytest.approx(4000 / 90)


def test_an_arithmetic_that_was_not_measured_is_named_in_the_error() -> None:
    with pytest.raises(MachineError, match="example has no fp8 rate; it has: fp32, int8"):
        machine().compute("fp8")


def test_a_machine_survives_json() -> None:
    there_and_back = Machine.from_json(json.loads(json.dumps(machine().as_json())))
    assert there_and_back == machine()
    assert there_and_back.key == "example"


@pytest.mark.parametrize(
    "plain", [{}, {"version": 0}, {"version": 1, "bandwidths": 3}, {"version": 1, "bandwidths": []}]
)
def test_data_that_is_no_machine_is_refused(plain: dict[str, object]) -> None:
    with pytest.raises(MachineError):
        Machine.from_json(plain)


def test_a_rate_that_was_reached_raises_the_ceiling_of_its_size_and_no_larger_one() -> None:
    raised = machine().raised(working_set=5_000, bytes_per_second=70.0)
    assert raised.bandwidth(5_000) == 70
    assert raised.bandwidth(16_000) == 20
    assert raised.bandwidth(1_000) == 90
    assert raised.typical_bandwidth(4_000) == 50  # one lucky step does not change what is expected


def test_raising_to_less_than_was_seen_changes_nothing() -> None:
    same = machine().raised(working_set=5_000, bytes_per_second=55.0, arithmetic="fp32", operations_per_second=999.0)
    assert same == machine()


def test_arithmetic_is_raised_by_type() -> None:
    raised = machine().raised(arithmetic="fp32", operations_per_second=1500.0)
    assert (raised.compute("fp32"), raised.compute("int8")) == (1500, 4000)


@given(st.integers(0, 10**6), st.floats(1.0, 1e4), st.integers(0, 10**6))
def test_raising_bounds_what_was_reached_and_lowers_nothing(working_set: int, rate: float, other: int) -> None:
    raised = machine().raised(working_set=working_set, bytes_per_second=rate)
    assert raised.bandwidth(working_set) >= rate
    assert raised.bandwidth(other) >= machine().bandwidth(other)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_larger_set_is_never_read_faster(one: int, two: int) -> None:
    small, large = sorted((one, two))
    assert machine().bandwidth(small) >= machine().bandwidth(large)


def test_rates_are_above_zero() -> None:
    with pytest.raises(MachineError, match="above 0"):
        machine(bandwidths=(BandwidthPoint(1, 1, 0.0, 0.0),))
    with pytest.raises(MachineError, match="at least one bandwidth"):
        machine(bandwidths=())


def test_this_machine_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDGEWAY_HOME", str(tmp_path))
    first = this_machine(progress=False)
    monkeypatch.setattr(measure, "measure_machine", lambda **_: pytest.fail("measured again"))
    assert this_machine(progress=False) == first
    assert first.source == "measured"
    assert first.cores == host.allowed_cores()
    assert first.bandwidth(1) >= first.memory_bandwidth > 1e8
    assert first.compute("fp32") > 1e9
    assert first.bandwidths[-1].working_set > host.last_level_cache_bytes()
    assert all(point.median <= point.best for point in first.bandwidths)


def test_a_remembered_machine_loads_no_compiler(tmp_path: Path) -> None:
    program = """
import sys
from ridgeway.roofline.machine import BandwidthPoint, Machine
from ridgeway.roofline.host import hardware_key
from ridgeway.roofline.this_machine import remember, this_machine
remember(Machine("known", "measured", (BandwidthPoint(1, 1, 1.0, 1.0),), {}, 0, 0, 1, 1, key=hardware_key()))
assert this_machine().name == "known"
assert "numba" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"RIDGEWAY_HOME": str(tmp_path)})


def test_a_damaged_file_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDGEWAY_HOME", str(tmp_path))
    key = host.hardware_key()
    anew = machine(name="measured anew", key=key)
    monkeypatch.setattr(measure, "measure_machine", lambda **_: anew)
    remember(machine(key=key))
    assert this_machine().name == "example"
    (stored,) = (tmp_path / "machines").iterdir()
    stored.write_text(stored.read_text()[:50])
    assert this_machine() == anew
    assert this_machine(measure=True) == anew


def test_an_executor_contributes_the_rate_of_its_own_kernel_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIDGEWAY_HOME", str(tmp_path))
    key = host.hardware_key()
    remember(machine(key=key, peaks={"fp32": Peak(1.0, 1.0)}))
    rates = iter([1.0, 3.0, 5.0, 4.0, *[2.0] * 100_000])
    monkeypatch.setattr(measure, "perf_counter", iter(np.arange(1e6)).__next__)
    with_int8 = this_machine(contributions={"int8": lambda: next(rates)})
    assert with_int8.compute("int8") == 5  # the first run warms up
    assert this_machine(contributions={"int8": lambda: pytest.fail("measured again")}) == with_int8


def test_data_sheets_are_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDGEWAY_HOME", str(tmp_path))
    remember(machine(key="", source="data sheet"))
    assert not [name for _, _, names in os.walk(tmp_path) for name in names]


def test_the_reader_reads_every_word_of_every_pass() -> None:
    words = np.arange(64, dtype=np.int64)
    assert measure._read(words, 1) == words.sum()
    assert measure._read(words, 3) == sum(int((words ^ n).sum()) for n in range(3))
