"""Fits the law of estimates anew, and shows what each of its choices is worth.

    python benchmarks/refit_law.py                       # writes src/ridgeway/roofline/coefficients.json
    python benchmarks/refit_law.py --sensitivity ROWS.csv

The coefficients are fitted to the rows that come with Ridgeway (`roofline/measured.csv`); their interval is what
devices that were left out show. `--sensitivity` judges the rows of a table as `ridgeway roof --validate` does, each
device by the others, with every prior moved and every expectation dropped in turn: a gate that only one choice passes
is luck.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ridgeway.roofline import law, reach, validation

STORED = Path(law.__file__).with_name("coefficients.json")


@contextmanager
def changed(module: object, name: str, value: object) -> Iterator[None]:
    """The module with another value for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def sensitivity(path: str) -> None:
    table = Table("change", "median", "90th percentile", "rows above 25 %", box=None)

    def judge(change: str) -> None:
        gate = validation.validate(path)
        above = sum(item.error > validation.GATE_P90 for item in gate.gated)
        assert gate.gate is not None, "no row of the table counts for the gate"
        table.add_row(change, f"{100 * gate.gate.median:.1f} %", f"{100 * gate.gate.p90:.1f} %", str(above))

    judge("none")
    for sharpness in (2, 4, 16):
        with changed(reach, "SHARPNESS", sharpness), changed(law, "SHARPNESS", sharpness):
            judge(f"reading and unpacking joined by a norm of {sharpness}")
    for factor in (0.5, 0.7, 1.4, 2.0):
        wider = {name: tuple(factor * spread for spread in spreads) for name, spreads in law._SPREAD.items()}
        with changed(law, "_SPREAD", wider):
            judge(f"all spreads x {factor}")
    for place, part in enumerate(law.PARTS):
        for factor in (0.7, 1.4):
            moved = law._PRIOR.copy()
            moved[place] += np.log(factor)
            with changed(law, "_PRIOR", moved):
                judge(f"prior of {part} x {factor}")
    for name in law._EXPECTED:
        if name != "attention:flash":  # without it every engine would read K/V again
            kept = {other: values for other, values in law._EXPECTED.items() if other != name}
            with changed(law, "_EXPECTED", kept):
                judge(f"nothing expected of {name}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sensitivity", metavar="ROWS.csv")
    arguments = parser.parse_args()
    if arguments.sensitivity:
        sensitivity(arguments.sensitivity)
        return
    STORED.write_text(json.dumps(validation.fit_shipped().as_json(), indent=1) + "\n")
    Console().print(f"wrote {STORED}")


if __name__ == "__main__":
    main()
