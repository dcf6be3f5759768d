"""Other engines, each in a process of its own: their threads, their allocators and their crashes stay there."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ridgeway.bench.contenders import ContenderError, Prompts
from ridgeway.bench.timeline import Timeline
from ridgeway.bench.workers.llama_native import find_program
from ridgeway.core.errors import RidgewayError, did_you_mean

PYTHON_VARIABLE = "RIDGEWAY_PEERS_PYTHON"
_WORKERS = Path(__file__).with_name("workers")
_PATIENCE_SECONDS = 900.0


@dataclass(frozen=True)
class PeerKind:
    """adapter: file in `workers`. install: what pip installs for it."""

    adapter: str
    install: str


PEERS: Mapping[str, PeerKind] = {
    "llama.cpp": PeerKind("llama_binding", "llama-cpp-python"),
    "llama-cpp-python": PeerKind("llama_binding", "llama-cpp-python"),
    "openvino": PeerKind("openvino", "openvino-genai"),
    "transformers": PeerKind("torch_transformers", "torch transformers accelerate gguf"),
}


def peer_named(name: str, model: str, context: int, threads: Sequence[int], batches: Sequence[int]) -> "Peer":
    """The peer `name`, not yet started. `llama.cpp` is its native benchmark where there is one, else its binding.

    model: the file or folder that Ridgeway runs. context: tokens of the longest sequence, answer included. threads:
    numbers of threads to try. Raises RidgewayError for unknown names.
    """
    if name not in PEERS:
        raise RidgewayError(f"there is no peer {name!r}: {did_you_mean(name, PEERS)}")
    kind = PEERS[name]
    native = name == "llama.cpp" and find_program() is not None
    python = sys.executable if native else os.environ.get(PYTHON_VARIABLE) or sys.executable
    adapter = "llama_native" if native else kind.adapter
    return Peer(
        name,
        [python, str(_WORKERS / "worker.py"), adapter],
        {"model": model, "context": context, "threads": list(threads), "batches": list(batches)},
        install=kind.install,
    )


def thread_counts(most: int) -> list[int]:
    """What peers try: all, and half (one thread a core where two share one); the likeliest first."""
    return sorted({most, max(1, most // 2)}, reverse=True)


class Peer:
    """A contender behind a pipe: one JSON object a line there, one back. `workers/worker.py` is the other end.

    command: starts the process. load: what its `load` message holds. install: what pip would install for it.
    """

    kind: Literal["method", "peer"] = "peer"
    lossless = False

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        load: Mapping[str, Any],
        *,
        install: str = "",
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        self.name = name
        self.title = ""
        self.settings: dict[int, Mapping[str, Any]] = {}  # by batch size
        self.tried: dict[int, list[Mapping[str, Any]]] = {}
        self._command = list(command)
        self._load = dict(load)
        self._install = install
        self._patience = patience
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._complaints = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115

    @property
    def detail(self) -> str:
        chosen = {batch: ", ".join(f"{key} {value}" for key, value in s.items()) for batch, s in self.settings.items()}
        if len(set(chosen.values())) > 1:
            said = "; ".join(f"batch {batch}: {setting}" for batch, setting in chosen.items())
        else:
            said = next(iter(chosen.values()), "")
        return ", ".join(filter(None, (self.title, said)))

    def start(self) -> None:
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "CUDA_VISIBLE_DEVICES": "",
        }
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                text=True,
                encoding="utf-8",
                env=environment,
            )
        except OSError as error:
            raise ContenderError(f"cannot be started: {self._command[0]}: {error.strerror}") from error
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        self.title = self._ask({"do": "load", **self._load})["title"]

    def prepare(self, prompts: Prompts, max_tokens: int) -> Timeline:
        """Have it try its settings on this group, and run once with the best."""
        found = self._ask({"do": "tune", "prompts": _plain(prompts), "max_tokens": max_tokens})
        self.settings[len(prompts)] = found["setting"]
        self.tried[len(prompts)] = found["tried"]
        return self.measure(prompts, max_tokens)

    def settle(self) -> None:
        self._ask({"do": "settle"})

    def measure(self, prompts: Prompts, max_tokens: int) -> Timeline:
        found = self._ask({"do": "generate", "prompts": _plain(prompts), "max_tokens": max_tokens})
        arrivals = found["arrivals"]
        if len(arrivals) != len(prompts) or not all(arrivals):
            raise ContenderError(f"answered {sum(map(bool, arrivals))} of {len(prompts)} prompts")
        return Timeline.of(prompts, arrivals, found["token_ids"])

    def close(self) -> None:
        """End the process: by the end of its input, and if it does not mind that, by force."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        try:
            process.stdin.close()
            process.wait(timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()
        self._complaints.close()

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process
        if process is None:
            raise ContenderError("is not running")
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
            line = self._lines.get(timeout=self._patience)
        except OSError:
            line = None
        except queue.Empty:
            process.kill()
            raise ContenderError(f"did not answer within {self._patience:.0f} s") from None
        if line is None:
            raise ContenderError(self._died(process))
        try:
            reply = json.loads(line)
            assert isinstance(reply, dict)
        except (ValueError, AssertionError):
            raise ContenderError(f"answered with something that is not a JSON object: {line[:80]!r}") from None
        if "missing" in reply:
            python = self._command[0]
            raise ContenderError(
                f"has no package {reply['missing']} in {python}: `{python} -m pip install {self._install}`"
            )
        if "error" in reply:
            raise ContenderError(f"failed: {reply['error']}")
        return reply

    def _died(self, process: "subprocess.Popen[str]") -> str:
        try:
            code = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        self._complaints.seek(0)
        said = [line for line in self._complaints.read().splitlines() if line.strip()]
        return f"ended with code {code}" + (f": {said[-1].strip()[:200]}" if said else "")


def _plain(prompts: Prompts) -> list[list[int]]:
    return [[int(token) for token in prompt] for prompt in prompts]
