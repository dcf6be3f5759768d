"""Resident memory of a loaded model over the bare imports, and the time from a process's start to its first token.

    python benchmarks/footprint.py [-m MODEL] [--executor cpu] [--repeats 5]

Each figure is of a process of its own. Memory is what the operating system counts as resident after a short answer,
less what it counted after the imports, beside the size of the model's tensors in the file.
"""

import argparse
import subprocess
import sys
from statistics import median

MEMORY = """
import sys
import ridgeway.llm, numpy
from ridgeway import LLM, SamplingParams
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
model, executor = sys.argv[1:]
try:
    import ridgeway.executors.cpu.executor
except ImportError:
    pass
bare = resident()
llm = LLM(model, executor=executor, slots=2048)
llm.generate("The memory wall is", SamplingParams(temperature=0, max_tokens=16))
packed = sum(tensor.nbytes for tensor in llm.model.tensors.values())
print(bare, resident(), packed)
"""

FIRST_TOKEN = """
import sys, time
from ridgeway.cli import main
class Watch:
    def __init__(self, out): self.out = out
    def write(self, text):
        if text.strip():
            started = float(open("/proc/self/stat").read().split()[21]) / 100
            print(float(open("/proc/uptime").read().split()[0]) - started, file=sys.stderr)
            sys.stderr.flush()
            import os; os._exit(0)
    def flush(self): pass
    def __getattr__(self, name): return getattr(self.out, name)
model, executor = sys.argv[1:]
sys.argv = ["ridgeway", "run", "Hello!", "-m", model, "--executor", executor, "--max-tokens", "8"]
sys.stdout = Watch(sys.stdout)
main()
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="smollm2-135m")
    parser.add_argument("--executor", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    runs = [
        tuple(int(part) for part in run(MEMORY, options.model, options.executor).stdout.split())
        for _ in range(options.repeats)
    ]
    bare, full, packed = (median(figures) for figures in zip(*runs, strict=True))
    print(f"resident over bare imports: {(full - bare) / 1e6:.0f} MB = {(full - bare) / packed:.2f}x the tensors "
          f"({packed / 1e6:.0f} MB); {full / 1e6:.0f} MB in all, {bare / 1e6:.0f} MB of imports before")  # fmt: skip
    first = [
        float(run(FIRST_TOKEN, options.model, options.executor).stderr.split()[-1]) for _ in range(options.repeats)
    ]
    print(f"first token of a warm run, from the process's start: {median(first):.2f} s "
          f"({min(first):.2f} to {max(first):.2f})")  # fmt: skip


if __name__ == "__main__":
    main()
