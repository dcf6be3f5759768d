"""The other engine's end of the pipe: one JSON object a line, one answer to each, and silence in between.

    python worker.py ADAPTER

`load` makes the engine ready; `tune` tries its settings on a group of prompts and remembers the fastest for that
batch size; `settle` lets go of what no batch size uses; `generate` is what is measured. A process that waits for its
next line uses no processor time. It ends when its standard input does.
"""

import importlib.util
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

Setting = Mapping[str, Any]
TokenIds = list[list[int]]
Arrivals = list[list[float]]


class Adapter(Protocol):
    """An engine. It is made with `(model, context, batches)`: the path of the model, how many tokens the longest
    sequence has with its answer, and the batch sizes to come; a wrong model raises ValueError.

    title: name and version. settings: what is worth trying with these numbers of threads, the likeliest first. use:
    get ready for groups of `batch` prompts, untimed. keep: only these are used from now on. generate: greedy, end
    tokens ignored; token ids of each prompt's answer (None if they are not known), and when each token was there, in
    seconds since the call.
    """

    title: str

    def settings(self, threads: Sequence[int]) -> list[Setting]: ...
    def use(self, setting: Setting, batch: int) -> None: ...
    def keep(self, settings: Sequence[Setting]) -> None: ...
    def generate(self, prompts: TokenIds, max_tokens: int) -> tuple[TokenIds | None, Arrivals]: ...


class Worker:
    """Answers messages with an adapter."""

    def __init__(self, adapter: str) -> None:
        self._adapter_name = adapter
        self._adapter: Adapter | None = None
        self._threads: list[int] = []
        self._chosen: dict[int, Setting] = {}  # by batch size

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        match message["do"]:
            case "load":
                self._threads = message["threads"]
                make = adapter_class(self._adapter_name)
                self._adapter = make(message["model"], message["context"], message["batches"])
                return {"title": self._adapter.title}
            case "tune":
                return self._tune(message["prompts"], message["max_tokens"])
            case "settle":
                self.adapter.keep(list(self._chosen.values()))
                return {}
            case "generate":
                prompts = message["prompts"]
                self.adapter.use(self._chosen[len(prompts)], len(prompts))
                token_ids, arrivals = self.adapter.generate(prompts, message["max_tokens"])
                return {"token_ids": token_ids, "arrivals": arrivals}
            case unknown:
                raise ValueError(f"unknown message {unknown!r}")

    @property
    def adapter(self) -> Adapter:
        if self._adapter is None:
            raise ValueError("nothing is loaded yet")
        return self._adapter

    def _tune(self, prompts: TokenIds, max_tokens: int) -> dict[str, Any]:
        """Every setting once unmeasured, as that allocates; then in turn, and the best run of each decides."""
        batch = len(prompts)
        settings = self.adapter.settings(self._threads)
        best = [float("inf")] * len(settings)
        for measured in (False, True, True):
            for place, setting in enumerate(settings):
                self.adapter.use(setting, batch)
                _, arrivals = self.adapter.generate(prompts, max_tokens)
                if measured:
                    best[place] = min(best[place], max(times[-1] for times in arrivals))
        tried = list(zip(best, settings, strict=True))
        self._chosen[batch] = min(tried, key=lambda pair: pair[0])[1]
        return {
            "setting": self._chosen[batch],
            "tried": [{"setting": setting, "seconds": seconds} for seconds, setting in tried],
        }


def adapter_class(name: str) -> Any:
    """`Adapter` of the file `name`.py beside this one."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"adapter_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Adapter


def main() -> None:
    # Native libraries print to descriptor 1; answers have a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes our input
    # The folder of this script, which Python puts first, holds no module that an engine may import.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        try:
            reply = worker.answer(json.loads(line))
        except ModuleNotFoundError as error:
            reply = {"missing": error.name}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
