"""What a weight stream costs by its number of rows: the curve that decides what speculation and diffusion can gain.

    python benchmarks/rows.py [-m MODEL] [--executor cpu] [--rows 1,2,4,8,16,32] [--context 128] [--json FILE]

Each number of rows is one query behind `context` cached tokens; up to 64 rows all are read (as in the verification of
drafts), beyond that only the last (as in prefill). Sizes take turns within a repeat, so that a machine whose speed
drifts does so for all of them; figures are medians over the repeats, ratios are of the same repeat. "Of the bus now" is
what was moved over what memory delivered between the turns.
"""

import argparse
import json
from statistics import median, quantiles
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ridgeway import LLM
from ridgeway.core.query import Batch, Entry, Query, Readout
from ridgeway.engine.sampling import plain_selection
from ridgeway.roofline.measure import MemoryBus

ALL_READ_UP_TO = 64


def batch_of(rows: int, context: int, vocabulary: int) -> Batch:
    """One query of `rows` rows after `context` cached tokens."""
    positions = context + np.arange(rows, dtype=np.int64)
    read = np.arange(rows) if rows <= ALL_READ_UP_TO else np.array([rows - 1])
    query = Query(positions % vocabulary, positions, read=Readout.of(read, positions[read] + 1, sampled=False))
    return Batch((Entry(query, context, np.arange(context + rows)),), plain_selection(len(read)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="smollm2-135m")
    parser.add_argument("--executor", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rows", default="1,2,4,8,16,32,64,128,512")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json")
    options = parser.parse_args()
    sizes = [int(size) for size in options.rows.split(",")]

    llm = LLM(
        options.model, executor=options.executor, threads=options.threads, slots=options.context + max(sizes) + 16
    )
    batches = {size: batch_of(size, options.context, llm.traits.vocab_size) for size in sizes}
    for size in sizes:  # K/V of the context, and a first run of each shape
        llm.executor.forward(batches[size])
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    console = Console(stderr=True)
    bus, rates = MemoryBus(llm.executor.threads), []
    for _ in track(range(options.repeats), "measuring", console=console):
        rates.append(bus.rate())
        for size in sizes:
            start = perf_counter()
            llm.executor.forward(batches[size])
            seconds[size].append(perf_counter() - start)

    rows = []
    for size in sizes:
        cost = llm.cost_model.count_batch(batches[size])
        took = median(seconds[size])
        low, _, high = quantiles(seconds[size], n=4)
        rows.append(
            {
                "rows": size,
                "milliseconds": 1e3 * took,
                "quartiles": [1e3 * low, 1e3 * high],
                "over_one_row": median(a / b for a, b in zip(seconds[size], seconds[sizes[0]], strict=True)),
                "gigabytes_per_second": cost.bytes / took / 1e9,
                "gigaflops_per_second": cost.flops / took / 1e9,
                "roof_fraction": llm.cost_model.floor(cost) / took,
                "bus_fraction": median(cost.bytes / s / rate for s, rate in zip(seconds[size], rates, strict=True)),
                "bound": llm.cost_model.bound(cost),
            }
        )
    title = f"{llm.title}, {llm.executor.name} executor, {llm.executor.threads} threads, {llm.machine.name}"
    table = Table(
        "rows",
        "ms",
        "quartiles",
        "over 1 row",
        "GB/s",
        "GFLOP/s",
        "of the roof",
        "of the bus now",
        "bound",
        title=title,
    )
    for row in rows:
        table.add_row(
            str(row["rows"]),
            f"{row['milliseconds']:.2f}",
            "{:.2f}-{:.2f}".format(*row["quartiles"]),
            f"{row['over_one_row']:.2f}",
            f"{row['gigabytes_per_second']:.1f}",
            f"{row['gigaflops_per_second']:.0f}",
            f"{100 * row['roof_fraction']:.0f} %",
            f"{100 * row['bus_fraction']:.0f} %",
            str(row["bound"]),
        )
    Console().print(table)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"title": title, "context": options.context, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
