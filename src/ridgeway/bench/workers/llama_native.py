"""llama.cpp by its own benchmark programs: `llama-batched-bench`, or `llama-bench` where only one row is asked for.

They measure prompts of random tokens of a given length and do not sample, which flatters them a little; a group is
measured at the mean length of its prompts.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

VARIABLE = "RIDGEWAY_LLAMA_BENCH"
_BATCHED, _SINGLE = "llama-batched-bench", "llama-bench"


def find_program() -> Path | None:
    """The program that `RIDGEWAY_LLAMA_BENCH` names, else one on PATH; of two side by side, the batched one."""
    named = os.environ.get(VARIABLE)
    found = named or shutil.which(_BATCHED) or shutil.which(_SINGLE)
    if not found:
        return None
    path = Path(found).expanduser()
    beside = path.with_name(path.name.replace(_SINGLE, _BATCHED))
    return beside if beside.is_file() else path


class Adapter:
    def __init__(self, model: str, context: int, batches: list[int]) -> None:
        if not model.endswith(".gguf"):
            raise ValueError("llama.cpp reads .gguf files only")
        program = find_program()
        if program is None or not program.is_file():
            raise ValueError(f"{VARIABLE}={os.environ.get(VARIABLE)}: there is no such program")
        self._program, self._model = program, model
        self._batched = "batched" in program.name
        self._threads = 1
        self.title = f"llama.cpp's {program.name}, random tokens of the same lengths, no sampling"

    def settings(self, threads: Sequence[int]) -> list[Mapping[str, Any]]:
        return [{"threads": number} for number in threads]

    def use(self, setting: Mapping[str, Any], batch: int) -> None:
        if batch > 1 and not self._batched:
            raise ValueError(f"{self._program.name} measures one row only; {_BATCHED} measures more")
        self._threads = setting["threads"]

    def keep(self, settings: Sequence[Mapping[str, Any]]) -> None:
        pass

    def generate(self, prompts: list[list[int]], max_tokens: int) -> tuple[None, list[list[float]]]:
        length = round(sum(map(len, prompts)) / len(prompts))
        measure = self._measure_batched if self._batched else self._measure_single
        prefill, decode = measure(length, max_tokens - 1, len(prompts))  # the prompt's pass yields the first token
        times = [prefill + decode * done / (max_tokens - 1) for done in range(max_tokens)]
        return None, [list(times) for _ in prompts]

    def _measure_batched(self, length: int, new: int, batch: int) -> tuple[float, float]:
        """Seconds of the prompts, and of `new` steps after them."""
        context = batch * (-(-(length + new) // 256) * 256)
        lines = self._run(
            *("-c", context, "-b", 2048, "-ub", 512, "-npp", length, "-ntg", new, "-npl", batch),
            *("-t", self._threads, "-tb", self._threads, "-ngl", 0, "--output-format", "jsonl"),
        )
        measured = next(line for line in lines if "t_tg" in line)
        return measured["t_pp"], measured["t_tg"]

    def _measure_single(self, length: int, new: int, batch: int) -> tuple[float, float]:
        """The same; the steps are measured behind a prompt of that length."""
        lines = self._run(
            *("-p", length, "-n", new, "-d", f"0,{length}", "-r", 1, "-t", self._threads, "-ngl", 0, "-o", "jsonl")
        )
        seconds = {(line["n_gen"] > 0, line["n_depth"] > 0): line["avg_ns"] / 1e9 for line in lines}
        return seconds[False, False], seconds[True, True]

    def _run(self, *options: object) -> list[dict[str, Any]]:
        """The JSON objects among the lines that the program prints."""
        command = [str(self._program), "-m", self._model, *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise RuntimeError(f"{self._program.name} ended with {done.returncode}: {said[-1] if said else 'silent'}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
