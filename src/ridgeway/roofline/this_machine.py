"""The machine at hand: measured once, remembered under its hardware's name, and raised when a run beats it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ridgeway.models.cache_folder import cache_folder
from ridgeway.roofline.host import hardware_key
from ridgeway.roofline.machine import Machine
from ridgeway.roofline.stored import write_json


def this_machine(
    measure: bool = False,
    progress: bool = True,
    contributions: Mapping[str, Callable[[], float]] | None = None,
) -> Machine:
    """The machine at hand: measured once, in under ten seconds, and remembered under its hardware's name.

    measure: measure anew even if remembered. progress: a bar on standard error meanwhile. contributions:
    arithmetic type -> a function that runs an executor's own matrix kernel once and returns its operations/s;
    types that the remembered machine lacks are measured and added.
    """
    known = None if measure else _recall(hardware_key())
    if known is None:
        from ridgeway.roofline.measure import measure_machine  # loads a compiler, which most runs do without

        known = measure_machine(progress=progress)
        remember(known)
    missing = {name: run for name, run in (contributions or {}).items() if name not in known.peaks}
    for arithmetic, run in missing.items():
        from ridgeway.roofline.measure import measure_peak

        known = known.with_peak(arithmetic, measure_peak(run, source="the executor's own kernel"))
    if missing:
        remember(known)
    return known


def remember(machine: Machine) -> None:
    """Store a measured machine for the next process; data sheets are not stored."""
    if not machine.key:
        return
    write_json(_stored_at(machine.key), machine.as_json(), indent=1)


def _recall(key: str) -> Machine | None:
    try:
        return Machine.from_json(json.loads(_stored_at(key).read_text()))
    except (OSError, ValueError):  # not there, cut short, or another version: measuring anew repairs it
        return None


def _stored_at(key: str) -> Path:
    return cache_folder("machines") / f"{key}.json"
