"""The training loop: a batch, a loss, a step; and what is kept of it on the way.

The folder that it fills holds `state.safetensors` to go on from, `loss.jsonl` with a line for every step, `loss.svg`,
and in `model/` what the ordinary loader reads.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ridgeway.models.config import ModelConfig
from ridgeway.training.checkpoint import load_state, save_state
from ridgeway.training.curves import curves_svg
from ridgeway.training.objective import Objective
from ridgeway.training.recipe import Recipe
from ridgeway.training.saving import Precision, save_model
from ridgeway.training.start import begin
from ridgeway.training.texts import open_corpus

_SMOOTHED = 0.95  # share of the curve so far in an exponential average


@dataclass(frozen=True)
class Step:
    """One step that was done. loss: nats per token. reading: the block size, or `whole`. gradient: its length."""

    step: int
    reading: str
    loss: float
    rate: float
    gradient: float
    seconds: float

    def line(self) -> str:
        return json.dumps({name: _rounded(value) for name, value in vars(self).items()})


class Trainer:
    """A recipe on its way; its folder is made, and what is in it of an earlier run of the recipe is gone on from.

    Raises RequestError or ModelError, before any work, for a recipe that cannot be followed.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe = recipe
        self.folder = folder
        self.model = begin(recipe)
        self.corpus = open_corpus(recipe.source, self.model.tokenizer, recipe.length, self.config.end_ids[0])
        self.objectives = recipe.reading.objectives(self.model.mask_id)
        self.optimizer = _optimizer(self.model.decoder, recipe)
        folder.mkdir(parents=True, exist_ok=True)
        self._state = folder / "state.safetensors"
        self._log = folder / "loss.jsonl"
        self.done = 0
        if self._state.is_file():
            self.done = load_state(self._state, self.model.decoder, self.optimizer, recipe.text)
        lines = self._log.read_text().splitlines() if self._log.is_file() else []
        self._log.write_text("".join(f"{line}\n" for line in lines if json.loads(line)["step"] < self.done))

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def trained_parameters(self) -> int:
        return sum(weight.numel() for weight in self.model.decoder.parameters() if weight.requires_grad)

    def run(self, until: int | None = None) -> Iterator[Step]:
        """Do the steps that are left, or those before `until`; the state is kept on the way and at the end."""
        schedule = self.recipe.schedule
        until = schedule.steps if until is None else min(until, schedule.steps)
        with _threads(schedule.threads), self._log.open("a") as log:
            while self.done < until:
                step = self._step(self.done)
                self.done += 1
                print(step.line(), file=log, flush=True)
                if self.done % schedule.checkpoint_every == 0 or self.done == until:
                    self._keep()
                yield step

    def save(self, precision: Precision = "bfloat16") -> Path:
        """The model as it is now, and the curve; the folder that the loader reads."""
        target = self.folder / "model"
        save_model(target, self.model, precision, self.recipe.text)
        (self.folder / "loss.svg").write_text(loss_svg(self._log))
        return target

    def objective(self, step: int) -> Objective:
        """Each step takes the next."""
        return self.objectives[step % len(self.objectives)]

    def _step(self, step: int) -> Step:
        started = time.perf_counter()
        schedule, seed = self.recipe.schedule, self.recipe.seed
        objective = self.objective(step)
        texts = self.corpus.batch(schedule.batch, seed, step)
        noise = torch.Generator().manual_seed((seed << 32) + step)
        rate = schedule.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss = objective.loss(self.model.decoder, texts, noise)
        loss.backward()  # type: ignore[no-untyped-call]
        trained = [weight for weight in self.model.decoder.parameters() if weight.requires_grad]
        gradient = torch.nn.utils.clip_grad_norm_(trained, schedule.clip)
        self.optimizer.step()
        reading = "whole" if objective.block_size is None else str(objective.block_size)
        return Step(step, reading, loss.item(), rate, float(gradient), time.perf_counter() - started)

    def _keep(self) -> None:
        save_state(self._state, self.done, self.model.decoder, self.optimizer, self.recipe.text)


def loss_svg(log: Path) -> str:
    """The curve of a `loss.jsonl`: for each block size an exponential average."""
    series: dict[str, list[tuple[float, float]]] = {}
    for line in log.read_text().splitlines():
        item: dict[str, Any] = json.loads(line)
        points = series.setdefault(item["reading"], [])
        loss = item["loss"] if not points else _SMOOTHED * points[-1][1] + (1 - _SMOOTHED) * item["loss"]
        points.append((item["step"], loss))
    named = {f"blocks of {name}" if name != "whole" else "whole text": points for name, points in series.items()}
    return curves_svg("Training loss", "step", "nats per token (smoothed)", named, bottom=0.0)


def _optimizer(decoder: torch.nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); only matrices of the layers decay."""
    trained = [(name, weight) for name, weight in decoder.named_parameters() if weight.requires_grad]
    decaying = [weight for name, weight in trained if weight.ndim > 1 and name not in ("embed", "head")]
    others = [weight for name, weight in trained if weight.ndim <= 1 or name in ("embed", "head")]
    groups = [
        {"params": decaying, "weight_decay": recipe.schedule.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.schedule.learning_rate, betas=(0.9, 0.95))


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
