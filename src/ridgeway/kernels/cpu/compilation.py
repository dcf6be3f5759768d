"""Compiled once per machine: kernels as C functions, their machine code kept on disk.

A kernel is a Python function over numbers and addresses, compiled to a C callback: it can be called from another kernel
by its address and from Python with the interpreter unlocked. The key of a stored kernel holds everything that its code
depends on: the source of all kernels, the processor with its features, and the versions of Numba and of this package.
"""

import ctypes
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from shutil import rmtree
from typing import Any

from numba import types
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.ccallback import CFunc
from numba.core.registry import cpu_target

Progress = Callable[[str], None]

_KEPT = 8  # states of the sources


@cache
def source_digest() -> str:
    """What the kernels' sources hash to; Numba looks at one file only and would miss a change in another."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Locator(_CacheLocator):
    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._py_file = __file__

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return source_digest()

    def get_disambiguator(self) -> str:
        return self._name


class _Cache(FunctionCache):
    """Numba's cache with our place and our key."""

    def __init__(self, function: Any, folder: Path, name: str) -> None:
        locator = _Locator(folder, name)

        class Located(CompileResultCacheImpl):
            def __init__(self, py_func: Any) -> None:
                self._lineno = 0
                self._locator = locator
                self._filename_base = name

        self._impl_class = Located
        self._kernel_name = name
        super().__init__(function)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return sig, codegen.magic_tuple(), self._kernel_name


class Kernel:
    """A compiled kernel. address: of its C function. Call it with integers; the interpreter is unlocked meanwhile."""

    def __init__(self, compiled: CFunc, arguments: int) -> None:
        self._compiled = compiled  # owns the machine code
        self.address = int(compiled.address or 0)
        self._function = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * arguments)(self.address)

    def __call__(self, *arguments: int) -> None:
        self._function(*arguments)


def _remove_oldest(folder: Path) -> None:
    """Of the states of the sources whose machine code is kept in `folder`, leave the newest."""
    with suppress(OSError):  # another process may be at the same
        states = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
        for path in states[:-_KEPT]:
            rmtree(path, ignore_errors=True)


class Compiler:
    """Compiles kernels, or loads what was compiled before.

    folder: where machine code is kept, for each state of the sources in a folder of its own, so that several checkouts
    do not take it from each other; the oldest are removed. progress: is told, before the first kernel that is not
    there yet, that compilation takes a while.
    """

    def __init__(self, folder: Path, progress: Progress | None = None) -> None:
        self._folder = folder / source_digest()[:12]
        self._progress = progress
        self._kernels: dict[str, Kernel] = {}
        self.compiled: list[str] = []  # names of kernels that were not on disk

    def kernel(self, name: str, function: Callable[..., None], arguments: Sequence[str]) -> Kernel:
        """`function`, whose `arguments` are all 64-bit integers, under a `name` that says all that it depends on."""
        if name not in self._kernels:
            self._kernels[name] = self._load(name, function, len(arguments))
        return self._kernels[name]

    def _load(self, name: str, function: Callable[..., None], arguments: int) -> Kernel:
        # Numba names machine code after the function and a number that counts within a process. Two kernels of one
        # template, kept by different processes, could have the same name, and calls of one would end in the other.
        function.__qualname__ = name.replace("-", "_")
        signature = ((types.int64,) * arguments, types.void)
        compiled: Any = CFunc(function, signature, {}, {"error_model": "numpy", "no_cfunc_wrapper": False})
        compiled._cache = _Cache(function, self._folder, name)
        if self._progress is not None and not self.compiled and not self._stored(compiled, signature):
            self._progress("compiling kernels for this processor (once, less than a minute)")
        compiled.compile()
        if not compiled.cache_hits:
            if not self.compiled:
                _remove_oldest(self._folder.parent)
            self.compiled.append(name)
        return Kernel(compiled, arguments)

    def _stored(self, compiled: Any, signature: Any) -> bool:
        cache = compiled._cache
        key = cache._index_key(compiled._sig, cpu_target.target_context.codegen())
        return cache._cache_file.load(key) is not None
