"""A diffusion model, trained by its recipe.

Besides what the loop keeps, the folder gets in `model/` what the ordinary loader reads.
"""

from pathlib import Path
from typing import ClassVar

import torch

from ridgeway.models.config import ModelConfig
from ridgeway.training.loop import Loop
from ridgeway.training.objective import Objective
from ridgeway.training.recipe import Recipe
from ridgeway.training.saving import Precision, save_model
from ridgeway.training.start import begin
from ridgeway.training.texts import open_corpus


class Trainer(Loop):
    """A recipe on its way.

    Raises RequestError or ModelError, before any work, for a recipe that cannot be followed.
    """

    unit: ClassVar[str] = "nats per token, by block size"

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe = recipe
        self.model = begin(recipe)
        self.corpus = open_corpus(recipe.source, self.model.tokenizer, recipe.length, self.config.end_ids[0])
        self.objectives = recipe.reading.objectives(self.model.mask_id)
        optimizer = _optimizer(self.model.decoder, recipe)
        super().__init__(folder, self.model.decoder, optimizer, recipe.schedule, recipe.text)

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    def save(self, precision: Precision = "bfloat16") -> Path:
        """The model as it is now, and the curve; the folder that the loader reads."""
        target = self.folder / "model"
        save_model(target, self.model, precision, self.recipe.text)
        self.draw_losses()
        return target

    def objective(self, step: int) -> Objective:
        """Each step takes the next."""
        return self.objectives[step % len(self.objectives)]

    def loss(self, step: int) -> torch.Tensor:
        seed = self.recipe.seed
        texts = self.corpus.batch(self.schedule.batch, seed, step)
        noise = torch.Generator().manual_seed((seed << 32) + step)
        return self.objective(step).loss(self.model.decoder, texts, noise)

    def reading(self, step: int) -> str:
        size = self.objective(step).block_size
        return "whole" if size is None else str(size)


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
