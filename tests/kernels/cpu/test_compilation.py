"""Machine code: compiled once, kept whole or not at all, loaded without what compiled it."""

import subprocess
import sys

import numpy as np
import pytest

from ridgeway.kernels.cpu.compilation import Compiler

SUM = """
import sys
from pathlib import Path
from ridgeway.kernels.cpu.compilation import Compiler
import numpy as np
out = np.zeros(1, dtype=np.int64)
def make(): raise AssertionError("it is there")
Compiler(Path(sys.argv[1])).kernel("sum", make, ("a", "b", "out"))(2, 3, out.ctypes.data)
print(out[0], "numba" in sys.modules)
"""


def make_sum():
    from ridgeway.kernels.cpu.lanes import longs

    def add(a, b, out):
        longs(out)[0] = a + b

    return add


def summed(compiler):
    out = np.zeros(1, dtype=np.int64)
    compiler.kernel("sum", make_sum, ("a", "b", "out"))(2, 3, out.ctypes.data)
    return out[0]


@pytest.fixture
def filled(tmp_path):
    compiler = Compiler(tmp_path)
    assert summed(compiler) == 5
    assert compiler.compiled == ["sum"]
    return tmp_path


def test_another_process_loads_it_without_numba(filled):
    found = subprocess.run([sys.executable, "-c", SUM, str(filled)], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["5", "False"]


def test_what_is_not_whole_is_compiled_again(filled):
    (path,) = filled.glob("*/sum.o")
    path.write_bytes(path.read_bytes()[:-1])
    again = Compiler(filled)
    assert summed(again) == 5
    assert again.compiled == ["sum"]
    assert summed(Compiler(filled)) == 5
    assert [path] == list(path.parent.iterdir())


def test_only_the_kernel_can_be_seen_from_outside(tmp_path):
    """Numba names parts by a counter of the process: two kernels kept by two processes could take each other's."""
    from ridgeway.kernels.cpu.lowering import lowered

    module = lowered("sum", make_sum(), 3)
    parts = [*module.functions, *module.global_variables]
    assert [part.name for part in parts if not part.is_declaration and part.linkage.name != "internal"] == ["sum"]


def test_progress_is_told_once_and_only_if_something_is_compiled(tmp_path):
    told = []
    compiler = Compiler(tmp_path, told.append)
    compiler.kernel("one", make_sum, ("a", "b", "out"))
    compiler.kernel("two", make_sum, ("a", "b", "out"))
    Compiler(tmp_path, told.append).kernel("two", make_sum, ("a", "b", "out"))
    assert len(told) == 1


def test_a_model_whose_kernels_are_there_is_run_without_numba():
    code = (
        "import sys; from ridgeway.testing import toy_llm; llm = toy_llm(executor='cpu');"
        "llm.generate([[1, 2]]); print('numba' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)]
    assert runs[1] == "False"  # the first may have had to compile
