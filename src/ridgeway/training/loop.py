"""The training loop: a loss, a step; and what is kept of it on the way.

The folder that it fills holds `state.safetensors` to go on from, `loss.jsonl` with a line for every step, and
`loss.svg`.
"""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ridgeway.training.checkpoint import load_state, save_state
from ridgeway.training.curves import curves_svg
from ridgeway.training.recipe_file import Schedule

_SMOOTHED = 0.95  # share of the curve so far in an exponential average


@dataclass(frozen=True)
class Step:
    """One step that was done. loss: nats per token. reading: which of the losses that take turns. gradient: its
    length.
    """

    step: int
    reading: str
    loss: float
    rate: float
    gradient: float
    seconds: float

    def line(self) -> str:
        return json.dumps({name: _rounded(value) for name, value in vars(self).items()})


class Loop(ABC):
    """Steps of an optimizer on a network; its folder is made, and what is in it of an earlier run of the recipe is gone
    on from. recipe: its text. Raises RequestError for a state of another one.

    unit: of the losses, for people.
    """

    unit: ClassVar[str]

    def __init__(
        self, folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule, recipe: str
    ) -> None:
        self.folder = folder
        self.schedule = schedule
        self.done = 0
        self._network = network
        self._optimizer = optimizer
        self._recipe = recipe
        folder.mkdir(parents=True, exist_ok=True)
        self._state = folder / "state.safetensors"
        self._log = folder / "loss.jsonl"
        if self._state.is_file():
            self.done = load_state(self._state, network, optimizer, recipe)
        lines = self._log.read_text().splitlines() if self._log.is_file() else []
        self._log.write_text("".join(f"{line}\n" for line in lines if json.loads(line)["step"] < self.done))

    @abstractmethod
    def loss(self, step: int) -> Tensor:
        """The loss of a step, counted from 0: a function of it, the recipe and the weights."""

    @abstractmethod
    def reading(self, step: int) -> str:
        """Which of the losses that take turns it is."""

    @property
    def trained(self) -> list[nn.Parameter]:
        return [weight for weight in self._network.parameters() if weight.requires_grad]

    @property
    def trained_parameters(self) -> int:
        return sum(weight.numel() for weight in self.trained)

    def run(self, until: int | None = None) -> Iterator[Step]:
        """Do the steps that are left, or those before `until`; the state is kept on the way and at the end."""
        schedule = self.schedule
        until = schedule.steps if until is None else min(until, schedule.steps)
        with _threads(schedule.threads), self._log.open("a") as log:
            while self.done < until:
                step = self._step(self.done)
                self.done += 1
                print(step.line(), file=log, flush=True)
                if self.done % schedule.checkpoint_every == 0 or self.done == until:
                    save_state(self._state, self.done, self._network, self._optimizer, self._recipe)
                yield step

    def draw_losses(self) -> None:
        """`loss.svg`: for each reading an exponential average."""
        series: dict[str, list[tuple[float, float]]] = {}
        for line in self._log.read_text().splitlines():
            item: dict[str, Any] = json.loads(line)
            points = series.setdefault(item["reading"], [])
            loss = item["loss"] if not points else _SMOOTHED * points[-1][1] + (1 - _SMOOTHED) * item["loss"]
            points.append((item["step"], loss))
        svg = curves_svg("Training loss", "step", f"{self.unit} (smoothed)", series, bottom=0.0)
        (self.folder / "loss.svg").write_text(svg)

    def _step(self, step: int) -> Step:
        started = time.perf_counter()
        rate = self.schedule.rate(step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        loss = self.loss(step)
        loss.backward()  # type: ignore[no-untyped-call]
        gradient = torch.nn.utils.clip_grad_norm_(self.trained, self.schedule.clip)
        self._optimizer.step()
        return Step(step, self.reading(step), loss.item(), rate, float(gradient), time.perf_counter() - started)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """The sums of a product depend on how many threads share it, so the recipe says how many."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
