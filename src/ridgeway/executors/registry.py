"""Executors by name."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from ridgeway.core.errors import RidgewayError, did_you_mean
from ridgeway.core.executor import Executor
from ridgeway.executors.coverage import missing_in_cpu
from ridgeway.executors.reference import ReferenceExecutor
from ridgeway.models.model import Model
from ridgeway.quant.formats import FORMATS
from ridgeway.quant.quantize import QUANTIZATIONS

KV_FORMATS = ("bf16", "int8")


@dataclass(frozen=True)
class Storage:
    """How an executor shall hold what it reads at every step. Raises RidgewayError for what does not exist.

    quant: the format into which matrices of floats are quantized as they are loaded, one of `QUANTIZATIONS` in any
    case; None: they stay as they are. kv_cache: `bf16` or `int8` keys and values; None: what suits the executor.
    """

    quant: str | None = None
    kv_cache: str | None = None

    def __post_init__(self) -> None:
        for name, value, known in (("quant", self.quant, QUANTIZATIONS), ("kv_cache", self.kv_cache, KV_FORMATS)):
            if value is not None and value.lower() not in [one.lower() for one in known]:
                choices = ", ".join(one.lower() for one in known)
                raise RidgewayError(f"{name}={value!r}: expected one of {choices}")

    @property
    def asked(self) -> bool:
        return self.quant is not None or self.kv_cache is not None


AS_IT_IS = Storage()


def _cpu(model: Model, threads: int, storage: Storage) -> Executor:
    from ridgeway.executors.cpu import CpuExecutor  # it loads LLVM

    quant = storage.quant.upper() if storage.quant is not None else None
    if quant is not None and FORMATS[model.precision].block > 1:
        raise RidgewayError(
            f"quant={storage.quant}: {model.name} is {model.precision} already; only weights in F32, F16 or BF16 "
            "can be quantized as they are loaded"
        )
    kv: Literal["bf16", "int8"] = "int8" if storage.kv_cache == "int8" else "bf16"

    def progress(text: str) -> None:
        print(f"ridgeway: {text} ...", file=sys.stderr)

    return CpuExecutor(model, threads, kv=kv, quant=quant, progress=progress)


def _reference(model: Model, threads: int, storage: Storage) -> Executor:
    if storage.asked:
        raise RidgewayError(
            "the reference executor computes in float32 throughout; quant and kv_cache need the cpu one"
        )
    return ReferenceExecutor(model, threads)


EXECUTORS: Mapping[str, Callable[[Model, int, Storage], Executor]] = {"cpu": _cpu, "reference": _reference}

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


def make_executor(name: str, model: Model, threads: int | None = None, storage: Storage = AS_IT_IS) -> Executor:
    """The executor `name` holding `model`. Raises RidgewayError.

    `auto` takes the fastest that runs the model, but for weights in float32 the reference: whoever keeps it wants it
    throughout, and the CPU executor keeps K/V in bf16. Whoever asks for another `storage` does not keep it.
    """
    cores = usable_cores()
    if threads is not None and threads < 1:
        raise RidgewayError(f"threads={threads}: expected at least 1")
    if name == "auto":
        exact = model.precision == "F32" and not storage.asked
        name = "reference" if exact or missing_in_cpu(model.config) else "cpu"
    if name in ("cpu", "torch") and name not in EXECUTORS:
        raise RidgewayError(f"executor {name!r} is not part of this version; it has: {', '.join(EXECUTORS)}")
    if name not in EXECUTORS:
        raise RidgewayError(f"there is no executor {name!r} here: {did_you_mean(name, ['auto', *EXECUTORS])}")
    if threads is None:
        threads = _DEFAULT_THREADS.get(name, cores)
    return EXECUTORS[name](model, min(threads, cores), storage)
