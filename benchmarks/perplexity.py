"""Perplexity of a text by executor: what packed weights, integer products and attention in bf16 cost in quality.

    python benchmarks/perplexity.py TEXT.txt [-m MODEL] [--executors cpu,reference] [--tokens 2048] [--window 512]

The text is cut into independent windows; every token after a window's first is predicted from those before it. The
first executor of the list is compared with the last.
"""

import argparse
import json
from math import exp
from pathlib import Path

import numpy as np
from rich.progress import track

from ridgeway import LLM
from ridgeway.core.arrays import ints
from ridgeway.core.query import Batch, Entry, Query, Readout
from ridgeway.engine.sampling import plain_selection


def negative_log_likelihoods(llm: LLM, windows: list[list[int]]) -> list[float]:
    """Mean over each window's tokens after the first, in nats."""
    found = []
    for tokens in track(windows, f"{llm.executor.name}"):
        rows = np.arange(len(tokens))
        read = Readout.of(rows[:-1], rows[1:], sampled=False, given=tokens[1:])
        batch = Batch((Entry(Query(ints(tokens), rows, read=read), 0, rows),), plain_selection(len(rows) - 1))
        given = llm.executor.forward(batch).answers[0].given
        assert given is not None
        found.append(-float(given.mean()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("-m", "--model", default="smollm2-135m")
    parser.add_argument("--executors", default="cpu,reference")
    parser.add_argument("--kv-cache")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--json")
    options = parser.parse_args()
    results = {}
    for name in options.executors.split(","):
        kv_cache = options.kv_cache if name == "cpu" else None
        llm = LLM(options.model, executor=name, kv_cache=kv_cache, slots=options.window, max_rows=options.window)
        ids = llm.tokenizer.encode(Path(options.text).read_text(encoding="utf-8"))[: options.tokens]
        windows = [ids[start : start + options.window] for start in range(0, len(ids), options.window)]
        windows = [window for window in windows if len(window) > 1]
        means = negative_log_likelihoods(llm, windows)
        weights = [len(window) - 1 for window in windows]
        results[name] = exp(float(np.average(means, weights=weights)))
        print(f"{llm.title}, {name}: perplexity {results[name]:.3f} over {sum(weights)} tokens", flush=True)
    first, *_, last = [*results, *results]
    if first != last:
        print(f"{first} over {last}: {100 * (results[first] / results[last] - 1):+.2f} %")
    if options.json:
        Path(options.json).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
