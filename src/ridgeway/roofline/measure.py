"""Measures the ceilings of the machine at hand in a few seconds.

Reading is what decoding does, so bandwidth is measured by reading alone: a compiled loop sums a buffer, each
thread its part, over buffers from the first-level cache's size to beyond the last level's. (A copy or a triad
writes too and would understate it.) Matrix rates are those of the library that NumPy calls. Everything is
repeated: the best of the repetitions bounds what a run can reach, the median is what it may expect on a
machine that does other things too.
"""

import statistics
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from time import perf_counter
from typing import Any

import numpy as np
from numba import njit

from ridgeway.core.arrays import IntArray
from ridgeway.roofline.host import allowed_cores, cpu_name, hardware_key, last_level_cache_bytes, memory_bytes
from ridgeway.roofline.machine import BandwidthPoint, Machine, Peak

KIB, MIB = 1024, 1024**2
_ROUNDS = 3  # apart in time, so that a busy moment spoils no size's figures alone
_REPETITIONS = 5
_ENOUGH_SECONDS = 6.0
_SAMPLE_BYTES = 64 * MIB  # read by one repetition at least, so that starting the threads weighs little
_MATRIX_SIZES = (1024, 1536, 2048)
_CALLS_PER_LAYER = 20  # a decoder layer in NumPy: norms, seven products, rotation, attention, activation
_CALLS_PER_STEP = 20  # embedding, final norm, head, choice of tokens


@njit(nogil=True, cache=True)
def _read(words: IntArray, passes: int) -> int:
    """Sums a buffer `passes` times as four streams, which keeps more cache lines in flight than one does.

    The number of the pass goes into the sum, or the compiler would read once and multiply.
    """
    quarter = words.shape[0] // 4
    a = b = c = d = np.int64(0)
    for number in range(passes):
        for i in range(quarter):
            a += words[i] ^ number
            b += words[quarter + i] ^ number
            c += words[2 * quarter + i] ^ number
            d += words[3 * quarter + i] ^ number
    return int(a + b + c + d)


def measure_machine(progress: bool = True) -> Machine:
    """This machine's ceilings; takes less than ten seconds. progress: show a bar on standard error."""
    cores = allowed_cores()
    physical, usable = memory_bytes()
    sizes = _working_sets(last_level_cache_bytes(), usable)
    threads = _thread_counts(cores)
    settings = [(size, count) for size in sizes for count in threads]
    work = _ROUNDS * (len(settings) + len(_MATRIX_SIZES)) + 2
    with _bar(work, progress) as advance:
        words = np.ones(sizes[-1] // 8, dtype=np.int64)  # written, so that every page is there
        _read(words[:64], 1)
        advance("compiled")
        reads: dict[tuple[int, int], list[float]] = defaultdict(list)
        products: list[float] = []
        start = perf_counter()
        for done in range(_ROUNDS):
            if done and (perf_counter() - start) * (done + 1) / done > _ENOUGH_SECONDS:
                break  # a busy or a large machine: fewer rounds rather than a long wait
            for size, count in settings:
                passes = max(1, _SAMPLE_BYTES // size)
                reads[size, count] += [_read_rate(words[: size // 8], count, passes) for _ in range(_REPETITIONS)]
                advance(f"reading {_size(size)}")
            for n in _MATRIX_SIZES:
                products += _matrix_rates(n)
                advance("multiplying in fp32")
        call = _call_seconds()
        advance("calling")
    points = tuple(BandwidthPoint(*setting, max(rates), statistics.median(rates)) for setting, rates in reads.items())
    largest = [point for point in points if point.working_set == sizes[-1]]
    blas = Peak(max(products), _upper_median(products), "fp32", f"{_MATRIX_SIZES[-1]}-wide products in NumPy")
    return Machine(
        name=f"{cores}-core {cpu_name()}",
        source="measured",
        bandwidths=points,
        peaks={"fp32": blas},
        step_overhead=_CALLS_PER_STEP * call,
        layer_overhead=_CALLS_PER_LAYER * call,
        memory_bytes=physical,
        usable_bytes=usable,
        cores=cores,
        threads=max(largest, key=lambda point: point.best).threads,
        note=f"reads of {_size(sizes[0])} to {_size(sizes[-1])} by a compiled loop; products by NumPy",
        measured_on=date.today().isoformat(),
        key=hardware_key(),
    )


class MemoryBus:
    """What memory delivers at this moment: on a shared machine it drifts, so a run is compared with its neighbours.

    threads: that read together. The buffer is larger than the caches and stays allocated.
    """

    def __init__(self, threads: int) -> None:
        _, usable = memory_bytes()
        self._threads = threads
        self._words = np.ones(_working_sets(last_level_cache_bytes(), usable)[-1] // 8, dtype=np.int64)
        _read(self._words[:64], 1)

    def rate(self) -> float:
        """Bytes/s: the median of a few readings, some tens of milliseconds."""
        return statistics.median(_read_rate(self._words, self._threads, 1) for _ in range(_REPETITIONS))


def measure_peak(run: Callable[[], float], source: str, seconds: float = 0.5) -> Peak:
    """A peak from repeated calls of `run`, which does one matrix product and returns its operations/s."""
    run()
    rates: list[float] = []
    end = perf_counter() + seconds
    while len(rates) < 3 or perf_counter() < end:
        rates.append(run())
    return Peak(max(rates), statistics.median(rates), source=source)


def _working_sets(cache_bytes: int, usable: int) -> list[int]:
    """From a first-level cache's size to four times the last level's, which no cache holds."""
    largest = max(256 * MIB, 4 * cache_bytes)
    largest = min(largest, max(32 * MIB, usable // 8))
    sizes = [size for size in (64 * KIB * 4**n for n in range(6)) if size < largest // 2]
    return [*sizes, largest // 2, largest]


def _thread_counts(cores: int) -> list[int]:
    """1, 2, 4, ... and all."""
    return sorted({*(2**n for n in range(cores.bit_length()) if 2**n <= cores), cores})


def _read_rate(words: IntArray, threads: int, passes: int) -> float:
    """Bytes/s of threads that each read their part `passes` times, from the first start to the last end."""
    parts = np.array_split(words, threads)
    ready = threading.Barrier(threads)
    spans: list[tuple[float, float]] = []

    def work(part: IntArray) -> None:
        ready.wait()
        start = perf_counter()
        _read(part, passes)
        spans.append((start, perf_counter()))

    workers = [threading.Thread(target=work, args=(part,)) for part in parts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    taken = max(end for _, end in spans) - min(start for start, _ in spans)
    return sum(part.size // 4 * 32 for part in parts) * passes / taken


def _matrix_rates(n: int) -> list[float]:
    """FLOP/s of products of two (n, n) float32 matrices, several times."""
    left = np.full((n, n), 0.5, dtype=np.float32)
    right = np.full((n, n), 0.25, dtype=np.float32)
    out = np.empty_like(left)
    np.matmul(left, right, out=out)
    rates: list[float] = []
    for _ in range(3):
        start = perf_counter()
        np.matmul(left, right, out=out)
        rates.append(2 * n**3 / (perf_counter() - start))
    return rates


def _upper_median(rates: list[float]) -> float:
    """Median of the better half: small products are slower for reasons that a large one does not have."""
    return statistics.median(sorted(rates)[len(rates) // 2 :])


def _call_seconds() -> float:
    """Seconds of one NumPy call that has nothing to do: an operation before it reads or multiplies."""
    one, weight = np.ones((1, 1), dtype=np.float32), np.ones((1, 1), dtype=np.float32)
    times = []
    for _ in range(50):
        start = perf_counter()
        for _ in range(20):
            np.matmul(one, weight)
        times.append((perf_counter() - start) / 20)
    return statistics.median(times)


@contextmanager
def _bar(work: int, shown: bool) -> Iterator[Callable[[str], None]]:
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns: tuple[Any, ...] = (
        TextColumn("Measuring this machine, once"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("compiling", total=work)
        yield lambda done: bar.update(task, advance=1, description=done)


def _size(working_set: int) -> str:
    return f"{working_set // MIB} MiB" if working_set >= MIB else f"{working_set // KIB} KiB"
