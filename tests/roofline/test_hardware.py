"""The table of accelerators: known by name, dense rates, sources for every figure."""

import pytest

from ridgeway.core.errors import MachineError
from ridgeway.roofline import hardware
from ridgeway.roofline.hardware import machine, machine_from_file, machine_names
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


def test_what_has_no_source_is_left_empty_and_not_invented() -> None:
    assert not machine("epyc-9654").peaks  # no rate was read
    assert machine("epyc-9654").memory_bytes == 0  # nor a size
    assert machine("l40").cache_bytes == 0  # two are printed for one die
    assert (machine("h100").cache_bytes, machine("h100").year) == (50_000_000, 2022)
    for name, row in hardware._table().items():
        assert "cache" not in row or row["cache_source"], name
        assert "link" not in row or row["link"]["source"], name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[memory]\nbandwidth = 800\n", r"\[peaks\] is missing"),
        ("[memory]\n[peaks]\nbf16 = 100\n", "memory.bandwidth is missing"),
        ("[memory]\nbandwidth = -1\n[peaks]\nbf16 = 100\n", "memory.bandwidth is -1"),
        ("[memory]\nbandwidth = 800\n[peaks]\nbf16 = 'fast'\n", "peaks.bf16"),
        ("[memory]\nbandwidth = 800\n[peaks]\nbf16 = {value = 9, dense = false}\n", "sparse"),
        ("memory = 3\n", r"expected a section \[memory\]"),
        ("][", "is not TOML"),
    ],
)
def test_a_machine_file_that_is_wrong_says_where(tmp_path, text: str, says: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(MachineError, match=says):
        machine_from_file(tmp_path / "mine.toml")


def test_a_machine_file_needs_little(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[memory]\nphysical = 24\nbandwidth = 800\n[peaks]\nbf16 = 100\n")
    mine = machine_from_file(path)
    assert (mine.name, mine.memory_bandwidth, mine.compute("bf16")) == ("mine", 800e9, 100e12)
    assert mine.usable_bytes == mine.memory_bytes == 24 * 2**30
