"""Accelerators that need not be here: ceilings from data sheets, by name.

The table is `hardware.toml` beside this file; every figure there carries its source, and only rates of dense
matrices are let in, as sparse ones are the commonest way to be wrong by a factor of two.
"""

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from ridgeway.core.errors import MachineError, did_you_mean
from ridgeway.roofline.machine import BandwidthPoint, Machine, Peak

_GIGA, _GIBI, _TERA, _MICRO = 1e9, 2**30, 1e12, 1e-6


def machine(name: str) -> Machine:
    """The machine of that name or alias (`h100`, `RTX 4090`); case, blanks and dashes do not matter.

    Raises MachineError with the nearest names if there is none.
    """
    table = _table()
    by_alias = {_plain(alias): key for key, row in table.items() for alias in (key, row["name"], *row["aliases"])}
    key = by_alias.get(_plain(name))
    if key is None:
        raise MachineError(f"no machine is called {name!r}; {did_you_mean(name.lower(), table)}")
    return _machine(table[key])


def machine_names() -> tuple[str, ...]:
    """The names that `machine` knows, without the aliases."""
    return tuple(_table())


@cache
def _table() -> dict[str, dict[str, Any]]:
    return tomllib.loads((files("ridgeway.roofline") / "hardware.toml").read_text())


def _machine(row: dict[str, Any]) -> Machine:
    memory, overhead = row["memory"], row["overhead"]
    bandwidth = memory["bandwidth"] * _GIGA
    sparse = [arithmetic for arithmetic, peak in row["peaks"].items() if not peak["dense"]]
    assert not sparse, f"{row['name']}: rates of sparse matrices do not belong in the table: {sparse}"
    return Machine(
        name=row["name"],
        source="data sheet",
        bandwidths=(BandwidthPoint(0, 0, bandwidth, bandwidth),),
        peaks={arithmetic: _peak(peak) for arithmetic, peak in row["peaks"].items()},
        step_overhead=overhead["step"] * _MICRO,
        layer_overhead=overhead["layer"] * _MICRO,
        memory_bytes=round(memory["physical"] * _GIBI),
        usable_bytes=round(memory["usable"] * _GIBI),
        note=f"bandwidth: {memory['bandwidth_source']}; {row['note']}",
    )


def _peak(peak: dict[str, Any]) -> Peak:
    rate = peak["value"] * _TERA
    return Peak(rate, rate, peak["accumulate"], peak["source"])


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
