"""Machines that need not be here: ceilings from data sheets, by name, or from a file of one's own.

The table is `hardware.toml` beside this file; every figure there carries its source, and only rates of dense
matrices are let in, as sparse ones are the commonest way to be wrong by a factor of two.
"""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ridgeway.core.errors import MachineError, did_you_mean
from ridgeway.roofline.machine import BandwidthPoint, Machine, Peak

_GIGA, _GIBI, _TERA, _MICRO, _MEGA = 1e9, 2**30, 1e12, 1e-6, 1e6


def machine(name: str) -> Machine:
    """The machine of that name or alias (`h100`, `RTX 4090`); case, blanks and dashes do not matter.

    Raises MachineError with the nearest names if there is none.
    """
    key = machine_key(name)
    if key is None:
        raise MachineError(f"no machine is called {name!r}; {did_you_mean(name.lower(), _table())}")
    return _machine(_table()[key])


def machine_key(name: str) -> str | None:
    """The key under which the table has the machine of that name or alias; None if it has none."""
    return _aliases().get(_plain(name))


def machine_names() -> tuple[str, ...]:
    """The names that `machine` knows, without the aliases."""
    return tuple(_table())


def machine_from_file(path: str | Path) -> Machine:
    """A machine of one's own from TOML, in the words and units of the table; only bandwidth and a rate are needed:

        name = "my card"
        [memory]
        physical = 24        # GiB
        bandwidth = 800      # GB/s
        [peaks]
        bf16 = 100           # dense TFLOP/s

    Raises MachineError that names the field.
    """
    try:
        row = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise MachineError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MachineError(f"{path}: is not TOML: {error}") from error
    memory, peaks, overhead = (_section(path, row, name) for name in ("memory", "peaks", "overhead"))
    bandwidth = _number(path, "memory.bandwidth", memory.get("bandwidth"))
    whole = (
        {"physical": memory["physical"], "usable": memory.get("usable", memory["physical"])}
        if ("physical" in memory)
        else {}
    )
    for name, value in whole.items():
        _number(path, f"memory.{name}", value)
    rates: dict[str, dict[str, Any]] = {}
    for name, peak in peaks.items():
        given = peak if isinstance(peak, dict) else {"value": peak}
        if given.get("dense", True) is not True:
            raise MachineError(f"{path}: peaks.{name} is a rate of sparse matrices; expected that of dense ones")
        _number(path, f"peaks.{name}", given.get("value"))
        rates[name] = {"accumulate": "", "source": str(path), "dense": True} | given
    if not rates:
        raise MachineError(f"{path}: [peaks] is missing; expected a rate such as bf16 = 100 (dense TFLOP/s)")
    defaults = {"step": 20, "layer": 27} | overhead
    for name, value in defaults.items():
        _number(path, f"overhead.{name}", value, least=0)
    return _machine(
        {
            "name": str(row.get("name", Path(path).stem)),
            "note": str(row.get("note", "")),
            "memory": whole | {"bandwidth": bandwidth, "bandwidth_source": str(path)},
            "overhead": defaults,
            "peaks": rates,
            "link": _section(path, row, "link"),
        }
    )


@cache
def _table() -> dict[str, dict[str, Any]]:
    return tomllib.loads((files("ridgeway.roofline") / "hardware.toml").read_text())


@cache
def _aliases() -> dict[str, str]:
    return {_plain(alias): key for key, row in _table().items() for alias in (key, row["name"], *row["aliases"])}


def _machine(row: Mapping[str, Any]) -> Machine:
    memory, overhead = row["memory"], row["overhead"]
    bandwidth = memory["bandwidth"] * _GIGA
    peaks = row.get("peaks", {})
    sparse = [arithmetic for arithmetic, peak in peaks.items() if not peak["dense"]]
    assert not sparse, f"{row['name']}: rates of sparse matrices do not belong in the table: {sparse}"
    note = f"; {row['note']}" if row["note"] else ""
    return Machine(
        name=row["name"],
        source="data sheet",
        bandwidths=(BandwidthPoint(0, 0, bandwidth, bandwidth),),
        peaks={arithmetic: _peak(peak) for arithmetic, peak in peaks.items()},
        step_overhead=overhead["step"] * _MICRO,
        layer_overhead=overhead["layer"] * _MICRO,
        memory_bytes=round(memory.get("physical", 0) * _GIBI),
        usable_bytes=round(memory.get("usable", 0) * _GIBI),
        cache_bytes=round(row.get("cache", 0) * _MEGA),
        link_bandwidth=row.get("link", {}).get("bandwidth", 0) * _GIGA,
        kind=row.get("class", ""),
        year=row.get("year", 0),
        dual_issue=row.get("dual_issue", False),
        note=f"bandwidth: {memory['bandwidth_source']}{note}",
    )


def _peak(peak: Mapping[str, Any]) -> Peak:
    rate = peak["value"] * _TERA
    return Peak(rate, rate, peak["accumulate"], peak["source"])


def _section(path: str | Path, row: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = row.get(name, {})
    if not isinstance(section, dict):
        raise MachineError(f"{path}: {name} is {section!r}; expected a section [{name}]")
    return section


def _number(path: str | Path, name: str, value: Any, least: float | None = None) -> float:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    if not fits or (least is None and value == 0):
        shown = "missing" if value is None else f"{value!r}"
        raise MachineError(f"{path}: {name} is {shown}; expected a number above 0")
    return float(value)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
