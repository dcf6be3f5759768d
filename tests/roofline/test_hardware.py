"""The table of accelerators: known by name, dense rates, sources for every figure."""

import pytest

from ridgeway.core.errors import MachineError
from ridgeway.roofline import hardware
from ridgeway.roofline.hardware import machine, machine_names
from ridgeway.roofline.machine import Machine


def test_there_are_ninety_machines_and_each_loads() -> None:
    assert len(machine_names()) >= 90
    for name in machine_names():
        found = machine(name)
        assert found.source == "data sheet"
        assert found.usable_bytes <= found.memory_bytes
        assert Machine.from_json(found.as_json()) == found


@pytest.mark.parametrize("alias", ["h100", "H100", "H100 SXM", "h100-sxm", "H100 SXM 80GB"])
def test_case_blanks_and_dashes_do_not_matter(alias: str) -> None:
    assert machine(alias) == machine("h100")


def test_no_two_machines_share_an_alias() -> None:
    of_rows = [{key, row["name"], *row["aliases"]} for key, row in hardware._table().items()]
    aliases = [alias for names in of_rows for alias in {hardware._plain(name) for name in names}]
    assert len(aliases) == len(set(aliases))


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    with pytest.raises(MachineError, match="no machine is called 'h1000'; did you mean h100"):
        machine("h1000")


def test_every_figure_has_a_source_and_every_rate_is_dense() -> None:
    for name, row in hardware._table().items():
        assert row["memory"]["bandwidth_source"], name
        assert row["memory"].get("usable_source") or "physical" not in row["memory"], name
        assert row["overhead"]["source"], name
        for arithmetic, peak in row.get("peaks", {}).items():
            assert peak["source"], (name, arithmetic)
            assert peak["accumulate"], (name, arithmetic)
            assert peak["dense"] is True, (name, arithmetic)


def test_traps_of_the_data_sheets_are_not_stepped_into() -> None:
    assert machine("h100").compute("bf16") == 989e12  # not 1,979, which is sparse
    assert machine("b200").compute("bf16") == 2250e12
    assert machine("rtx 4090").compute("fp16") == 165e12  # summed in fp32; 330 is summed in fp16
    assert machine("mi300x").memory_bandwidth == 5.3e12
    assert machine("b200").usable_bytes < machine("b200").memory_bytes
