"""What a method may try on a model before the first request; results are saved in the user's cache folder."""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ridgeway.cache.pages import PageTable
from ridgeway.core.arrays import BoolArray, IntArray, ints
from ridgeway.core.query import Batch, Entry, Query, Readout
from ridgeway.engine.engine import Engine
from ridgeway.engine.sampling import plain_selection
from ridgeway.models.cache_folder import cache_folder
from ridgeway.roofline.shape import QueryShape

_SAMPLE = 64  # tokens of the model's own text
_CONTEXT = 256  # cached tokens of the sequence that estimates are made for


class EngineWorkbench:
    """The `Workbench` of an engine that is idle. model: its name; prompt: what its sample of text begins with."""

    def __init__(self, engine: Engine, model: str, prompt: Sequence[int]) -> None:
        self._engine = engine
        self._model = model
        self._prompt = list(prompt)
        self._sample: list[int] = []

    @property
    def layers(self) -> int:
        return self._engine.cost_model.config.layers

    def seconds(self, rows: int, sublayers: BoolArray | None = None) -> float:
        model = self._engine.cost_model
        return model.estimate(model.count([QueryShape(rows, _CONTEXT, rows)], sublayers)).seconds

    def agreement(self, sublayers: BoolArray) -> float:
        if not self._sample:
            self._sample = list(self._prompt)
            while len(self._sample) < len(self._prompt) + min(_SAMPLE, self._engine.capacity // 4):
                self._sample.append(int(self._argmax(self._sample, None)[-1]))
        said = self._argmax(self._sample[:-1], sublayers)[len(self._prompt) - 1 :]
        return float((said == ints(self._sample[len(self._prompt) :])).mean())

    def load(self, name: str) -> Any:
        try:
            return json.loads(self._path(name).read_text())
        except (OSError, ValueError):
            return None

    def save(self, name: str, value: Any) -> None:
        self._path(name).write_text(json.dumps(value))

    def _path(self, name: str) -> Path:
        """One file for each model as this executor holds it."""
        engine = self._engine
        held = repr((self._model, engine.executor.name, sorted(engine.executor.held_bytes.items())))
        return cache_folder("methods", sha256(held.encode()).hexdigest()[:16]) / f"{name}.json"

    def _argmax(self, tokens: list[int], sublayers: BoolArray | None) -> IntArray:
        """The likeliest token after each of `tokens`, in one weight stream."""
        engine, rows = self._engine, len(tokens)
        table = PageTable(("workbench",))
        assert engine.cache.reserve(table, rows), "the engine is idle, and the sample a part of its capacity"
        try:
            read = Readout.of(np.arange(rows), np.arange(rows) + 1, sampled=False)
            query = Query(ints(tokens), np.arange(rows, dtype=np.int64), read=read)
            entry = Entry(query, 0, engine.cache.slots(table, rows))
            return engine.executor.forward(Batch((entry,), plain_selection(rows), sublayers)).answers[0].tokens
        finally:
            engine.cache.release(table)
