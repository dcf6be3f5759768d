"""How well the estimate predicts steps by rows and context length: each step is judged before it is observed.

    python benchmarks/estimate.py [-m MODEL] [--executor cpu] [--rounds 20] [--taught 10] [--json FILE]

A first process runs `taught` rounds and ends; this one starts with what is remembered and runs `rounds` more. A round
has every number of rows behind every number of cached tokens once, in an order of its own, all rows of one query, all
of them read. "Recalled" is the error of what was expected before this process began, "learning" that of the estimate at
each step.
"""

import argparse
import json
import subprocess
import sys
from random import Random
from statistics import median
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rows import batch_of

from ridgeway import LLM, SamplingParams
from ridgeway.core.query import Batch
from ridgeway.roofline.cost import CostModel, Estimate

ROWS = (1, 2, 4, 8, 16, 32)
CONTEXTS = (16, 128, 512, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="smollm2-135m")
    parser.add_argument("--executor", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--taught", type=int, default=10, help="Rounds of a process before; 0: only what is there.")
    parser.add_argument("--only-teach", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.taught and not options.only_teach:
        subprocess.run([sys.executable, *sys.argv, "--only-teach"], check=True)

    llm = LLM(options.model, executor=options.executor, threads=options.threads, slots=max(CONTEXTS) + max(ROWS) + 512)
    llm.generate([[5] * 600], SamplingParams(temperature=0, max_tokens=2))  # what is compiled or touched only once
    fresh = llm.cost_model.as_recalled()
    settings = [(rows, context) for context in CONTEXTS for rows in ROWS]
    batches = {setting: batch_of(*setting, llm.traits.vocab_size) for setting in settings}
    errors: dict[tuple[int, int], list[tuple[float, float]]] = {setting: [] for setting in settings}
    inside = beaten = steps = 0
    console = Console(stderr=True)
    order = Random(0)
    for _ in track(range(options.taught if options.only_teach else options.rounds), "measuring", console=console):
        order.shuffle(settings)
        for setting in settings:
            seconds, before, now, floor = _step(llm, fresh, batches[setting])
            errors[setting].append((before / seconds - 1, now.seconds / seconds - 1))
            steps += 1
            inside += now.low <= seconds <= now.high
            beaten += seconds < floor * (1 - 1e-9)
    llm.save_learned()
    if options.only_teach:
        return

    title = f"{llm.title}, {llm.executor.name} executor, {llm.executor.threads} threads, {llm.machine.name}"
    table = Table("rows", *(f"{context} cached" for context in CONTEXTS), title=title)
    for rows in ROWS:
        found = [np.median(np.abs(errors[rows, context]), axis=0) for context in CONTEXTS]
        table.add_row(str(rows), *(f"{100 * learning:.1f} % ({100 * before:.1f} %)" for before, learning in found))
    Console().print(table)
    every = np.array([error for listed in errors.values() for error in listed])  # (steps, recalled or learning)
    before, learning = np.median(np.abs(every), axis=0)
    Console().print(
        f"median error of {steps} steps: {100 * learning:.1f} % learning, {100 * before:.1f} % recalled (in brackets; "
        f"from {fresh.calibration.recalled} steps of earlier processes)\n"
        f"{100 * inside / steps:.0f} % inside their intervals; {beaten} beat the floor"
    )
    if options.json:
        plain = {
            "title": title,
            "recalled_steps": fresh.calibration.recalled,
            "median_error": {"learning": learning, "recalled": before},
            "inside": inside / steps,
            "beat_the_floor": beaten,
            "settings": [
                {
                    "rows": rows,
                    "context": context,
                    "recalled": median(abs(error) for error, _ in listed),
                    "learning": median(abs(error) for _, error in listed),
                }
                for (rows, context), listed in errors.items()
            ],
        }
        with open(options.json, "w") as file:
            json.dump(plain, file, indent=1)


def _step(llm: LLM, fresh: CostModel, batch: Batch) -> tuple[float, float, Estimate, float]:
    """Seconds that it took; what was expected before this process and before this step; and the floor."""
    model = llm.cost_model
    cost = model.count_batch(batch)
    before, now, floor = fresh.estimate(cost).seconds, model.estimate(cost), model.floor(cost)
    start = perf_counter()
    llm.executor.forward(batch)
    seconds = perf_counter() - start
    exceeded = model.observe(cost, seconds)
    if exceeded is not None:
        model.raise_ceilings(exceeded)
    return seconds, before, now, floor


if __name__ == "__main__":
    main()
