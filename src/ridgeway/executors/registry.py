"""Executors by name."""

import os
import sys
from collections.abc import Callable, Mapping

from ridgeway.core.errors import RidgewayError, did_you_mean
from ridgeway.core.executor import Executor
from ridgeway.executors.coverage import missing_in_cpu
from ridgeway.executors.reference import ReferenceExecutor
from ridgeway.models.model import Model


def _cpu(model: Model, threads: int) -> Executor:
    from ridgeway.executors.cpu import CpuExecutor  # Numba takes half a second to import

    return CpuExecutor(model, threads, progress=lambda text: print(f"ridgeway: {text} ...", file=sys.stderr))


EXECUTORS: Mapping[str, Callable[[Model, int], Executor]] = {"cpu": _cpu, "reference": ReferenceExecutor}

# BLAS threads wait for each other by spinning, so that one busy core beside them makes every product of a row ten
# times slower; a second thread gains little where memory is the limit.
_DEFAULT_THREADS = {"reference": 1}


def usable_cores() -> int:
    """Cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every platform
        return os.cpu_count() or 1


def measured_by(executor: Executor) -> Mapping[str, Callable[[], float]]:
    """Rates that only the executor's own kernels can reach: arithmetic type -> one measurement, operations/s."""
    measure = getattr(executor, "measure_arithmetic", None)
    return {} if measure is None or executor.arithmetic != "int8" else {"int8": measure}


def make_executor(name: str, model: Model, threads: int | None = None) -> Executor:
    """The executor `name` holding `model`. Raises RidgewayError.

    `auto` takes the fastest that runs the model, but for weights in float32 the reference: whoever keeps it wants it
    throughout, and the CPU executor keeps K/V in fp16.
    """
    cores = usable_cores()
    if threads is not None and threads < 1:
        raise RidgewayError(f"threads={threads}: expected at least 1")
    if name == "auto":
        name = "reference" if model.precision == "F32" or missing_in_cpu(model.config) else "cpu"
    if name in ("cpu", "torch") and name not in EXECUTORS:
        raise RidgewayError(f"executor {name!r} is not part of this version; it has: {', '.join(EXECUTORS)}")
    if name not in EXECUTORS:
        raise RidgewayError(f"there is no executor {name!r} here: {did_you_mean(name, ['auto', *EXECUTORS])}")
    if threads is None:
        threads = _DEFAULT_THREADS.get(name, cores)
    return EXECUTORS[name](model, min(threads, cores))
