"""Compiled once per machine: kernels as C functions, their machine code kept on disk.

A kernel is a Python function over numbers and addresses, compiled to a C function: it can be called from another kernel
by its address and from Python with the interpreter unlocked. It raises nothing and knows nothing of Python, so its
machine code needs no runtime: Numba makes it, LLVM alone loads it again. What machine code depends on (the source of
all kernels, the processor with its features, the version of Numba) names the folder that keeps it.
"""

import ctypes
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from shutil import rmtree
from typing import Any

import llvmlite.binding as llvm

Progress = Callable[[str], None]
Function = Callable[..., None]

_KEPT = 8  # states of the sources
_DIGEST_BYTES = hashlib.sha256().digest_size
# Parts of a kernel may come to lie far apart in memory, and jumps of 64-bit ARM are short: llvmlite's own memory
# manager, of use there only, keeps them together.
_TOGETHER = platform.machine() in ("arm64", "aarch64")


@cache
def _processor() -> tuple[str, str, str]:
    """LLVM's names of the platform, of the processor and of its features."""
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@cache
def state_digest() -> str:
    """What kernels depend on beside their names, hashed: their sources, the processor, and what compiles them."""
    digest = hashlib.sha256(repr((*_processor(), version("numba"), version("llvmlite"))).encode())
    core = Path(__file__).parents[2] / "core"  # of which kernels compile constants in
    for path in (*sorted(Path(__file__).parent.glob("*.py")), core / "drafting.py", core / "noise.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _target_machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple, processor, features = _processor()
    target = llvm.Target.from_triple(triple)
    return target.create_target_machine(cpu=processor, features=features, opt=3, jit=True)


class Kernel:
    """A kernel in memory. address: of its C function. Call it with integers; the interpreter is unlocked meanwhile."""

    def __init__(self, name: str, code: bytes, arguments: int) -> None:
        machine = _target_machine()
        empty = llvm.parse_assembly("")
        empty.triple = machine.triple
        self._engine = llvm.create_mcjit_compiler(empty, machine, use_lmm=_TOGETHER)  # owns the machine code
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        self.address = int(self._engine.get_function_address(name))
        self._function = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * arguments)(self.address)

    def __call__(self, *arguments: int) -> None:
        self._function(*arguments)


class Compiler:
    """Compiles kernels, or loads what was compiled before.

    folder: where machine code is kept, for each state of the sources in a folder of its own, so that several checkouts
    do not take it from each other; the oldest are removed. progress: is told, before the first kernel that is not
    there yet, that compilation takes a while.
    """

    def __init__(self, folder: Path, progress: Progress | None = None) -> None:
        self._folder = folder / state_digest()[:12]
        self._progress = progress
        self._kernels: dict[str, Kernel] = {}
        self.compiled: list[str] = []  # names of kernels that were not on disk

    def kernel(self, name: str, make: Callable[[], Function], arguments: Sequence[str]) -> Kernel:
        """The kernel `name`, which says all that it depends on; its `arguments` are 64-bit integers.

        make: gives the function to compile; asked only if there is no machine code yet.
        """
        if name not in self._kernels:
            path = self._folder / f"{name}.o"
            code = _stored(path)
            if code is None:
                code = self._compile(name, make(), len(arguments))
                _store(path, code)
            self._kernels[name] = Kernel(name, code, len(arguments))
        return self._kernels[name]

    def _compile(self, name: str, function: Function, arguments: int) -> bytes:
        if not self.compiled:
            if self._progress is not None:
                self._progress("compiling kernels for this processor (once, less than a minute)")
            _remove_oldest(self._folder.parent)
        self.compiled.append(name)
        from ridgeway.kernels.cpu.lowering import lowered

        code: bytes = _target_machine().emit_object(lowered(name, function, arguments))
        return code


def _stored(path: Path) -> bytes | None:
    """The machine code kept at `path`; None if there is none, or not all of it."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def _store(path: Path, code: bytes) -> None:
    """Keeps `code` at `path`, whole or not at all: other processes may read and write there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(hashlib.sha256(code).digest() + code)
    os.replace(file.name, path)


def _remove_oldest(folder: Path) -> None:
    """Of the states whose machine code is kept in `folder`, leave the newest."""
    with suppress(OSError):  # another process may be at the same
        states = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
        for path in states[:-_KEPT]:
            rmtree(path, ignore_errors=True)
