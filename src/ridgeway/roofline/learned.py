"""What weight streams taught is remembered beside the machine's ceilings, so that the next process predicts well from
its first step on.

A file holds what was learned of one model in one executor with so many threads. Only the estimate rests on it: a file
that is lost, cut short or of another version costs some steps of learning.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any, Self

from ridgeway.core.executor import Executor
from ridgeway.models.cache_folder import cache_folder
from ridgeway.models.model import Model
from ridgeway.roofline.calibration import Kind
from ridgeway.roofline.cost import CostModel
from ridgeway.roofline.stored import write_json

_VERSION = 1  # of the stored form; what another one stored is learned anew
_WORTH_SAVING = 8  # steps
_DIGITS = 4  # of a log ratio


class Learned:
    """The calibration of a cost model, kept from process to process. Made by `of`, which recalls it."""

    def __init__(self, path: Path, cost_model: CostModel) -> None:
        self._path = path
        self._rates = _rates(cost_model)
        self._calibration = cost_model.calibration
        self._saved = self._calibration.observations
        self._calibration.recall(self._stored())

    @classmethod
    def of(cls, model: Model, executor: Executor, cost_model: CostModel) -> Self | None:
        """What is known of `model` as this executor holds it; None, as nothing is kept, of a machine from a data sheet
        and of a model that was made up in memory.
        """
        key = cost_model.machine.key
        if not (key and model.source):
            return None
        return cls(cache_folder("machines", key) / f"{fingerprint(model, executor)}.json", cost_model)

    def save(self) -> None:
        """Keep what was learned since, if it is worth a file."""
        if self._calibration.observations - self._saved < _WORTH_SAVING:
            return
        self._saved = self._calibration.observations
        kept = self._calibration.to_keep(self._stored())
        ratios = [[*kind, [round(ratio, _DIGITS) for ratio in logs]] for kind, logs in kept.items()]
        try:
            write_json(self._path, {"version": _VERSION, "rates": self._rates, "ratios": ratios})
        except OSError:  # no room, or no right to write: the next process learns for itself
            return

    def _stored(self) -> Mapping[Kind, list[float]]:
        """Nothing if the file is not there or cut short, or was learned by another version or under other ceilings."""
        try:
            plain = json.loads(self._path.read_text())
            if plain["version"] != _VERSION or plain["rates"] != self._rates:
                return {}
            return {Kind(str(b), int(size), int(share)): _finite(logs) for b, size, share, logs in plain["ratios"]}
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def fingerprint(model: Model, executor: Executor) -> str:
    """Names what the time of a step depends on beside the machine: the model's sizes, the formats of its tensors, how
    the executor holds them, and with how many threads it computes. Where the model lies does not matter.
    """
    config = model.config
    told: dict[str, Any] = {
        "shapes": {name: list(shape) for name, shape in config.tensor_shapes().items()},
        "heads": [config.heads, config.kv_heads, config.head_dim],
        "windows": list(config.windows),
        "formats": {name: tensor.format.name for name, tensor in model.tensors.items()},
        "held": dict(executor.held_bytes),
        "items": [executor.kv_itemsize, executor.activation_itemsize, executor.arithmetic],
        "executor": [executor.name, executor.threads],
    }
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _rates(cost_model: CostModel) -> list[float]:
    """What uncorrected estimates rest on: ratios to others would say nothing."""
    machine, reach = cost_model.machine, cost_model.reach
    points = [float(number) for point in machine.bandwidths for number in (point.working_set, point.median)]
    return [*points, machine.peak(cost_model.arithmetic).median, cost_model.overhead, reach.memory, reach.compute]


def _finite(logs: list[Any]) -> list[float]:
    """Raises ValueError if one of them is not a number."""
    if not all(isfinite(ratio) for ratio in logs):
        raise ValueError("a ratio is not finite")
    return [float(ratio) for ratio in logs]
