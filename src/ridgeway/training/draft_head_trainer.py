"""A draft head for a model that there is already, trained by its recipe: texts, states, steps.

    answers.jsonl            texts that the model wrote
    states.f16               the hidden states that it wrote them from
    kv-LAYER.f16             the K/V that it had of them, for a head that looks at them
    state.safetensors ...    what the loop keeps
    draft-head.safetensors   what a model drafts with that it lies beside

Each stage goes on where it was interrupted.
"""

from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from ridgeway.core.arrays import ints
from ridgeway.core.errors import RequestError
from ridgeway.executors.draft_heads import HasKV, make_unroller
from ridgeway.llm import LLM
from ridgeway.models.draft_head import FILE, load_draft_head
from ridgeway.training.distill_states import DistillStates
from ridgeway.training.distill_texts import DistillTexts
from ridgeway.training.draft_head import Fixed, Network, frequent_tokens, save_head, unrolled_loss
from ridgeway.training.draft_head_batches import Batches
from ridgeway.training.draft_head_material import Material, places_in, value_scale_of
from ridgeway.training.draft_head_quality import Quality, quality
from ridgeway.training.draft_head_recipe import DraftHeadRecipe
from ridgeway.training.loop import Loop

_HELD_OUT = 32  # one text of so many is kept for judging the head
_DEEPER = 0.15  # share of the steps after which one guess more is unrolled: later ones build on earlier ones


class DraftHeadTrainer(Loop):
    """A recipe on its way: exhaust `texts.write`, `states.compute` and `run` one after the other, then `save`.

    llm: of the recipe's model, if it is loaded already. Raises RequestError or ModelError, before any work, for a
    recipe that cannot be followed.
    """

    unit: ClassVar[str] = "nats per place, by guesses"

    def __init__(self, recipe: DraftHeadRecipe, folder: Path, llm: LLM | None = None) -> None:
        self.recipe = recipe
        self.llm = llm or LLM(recipe.source)
        self._check()
        config, schedule = self.llm.model.config, recipe.schedule
        width = 0 if recipe.layer is None else config.heads * config.head_dim
        self.network = Network(config.hidden, recipe.inner, torch.Generator().manual_seed(recipe.seed), width)
        optimizer = torch.optim.AdamW(
            self.network.parameters(), schedule.learning_rate, betas=(0.9, 0.95), weight_decay=schedule.weight_decay
        )
        super().__init__(folder, self.network, optimizer, schedule, recipe.text)
        answers = folder / "answers.jsonl"
        if not answers.is_file():
            DistillStates.forget(folder)
        self.texts = DistillTexts(recipe, self.llm, answers)

    @cached_property
    def states(self) -> DistillStates:
        """Of all texts, which must have been written."""
        texts = self.texts.read()
        if not texts:
            raise RequestError(f"{self.texts.path}: {self.llm.model.name} wrote no text to learn from")
        return DistillStates(self.llm, texts, self.folder, self.recipe.layer)

    @cached_property
    def material(self) -> Material:
        """The states must have been computed."""
        recipe, texts, model = self.recipe, self.states.texts, self.llm.model
        turns = len(recipe.texts.temperatures)
        held_out = np.array([text.number // turns % _HELD_OUT == 0 for text in texts])
        learned = [text for text, held in zip(texts, held_out, strict=True) if not held]
        places = ints(
            [0 if held else places_in(text, recipe.depth) for text, held in zip(texts, held_out, strict=True)]
        )
        if not places.any():
            raise RequestError(f"data.answers is {recipe.texts.answers}; too few to learn from, all are held out")
        known, kv = frequent_tokens(learned, recipe.vocabulary, model.config.vocab_size), self.states.read_kv()
        return Material(
            texts=texts,
            held_out=held_out,
            places=places,
            states=self.states.read(),
            kv=kv,
            fixed=Fixed(model, known, recipe.layer, 1.0 if kv is None else value_scale_of(kv)),
            config=model.config,
        )

    @cached_property
    def batches(self) -> Batches:
        """The states must have been computed."""
        material = self.material
        seen = material.places + ints([len(text.prompt) for text in material.texts])
        return Batches(material.places, seen, self.schedule.batch, self.recipe.seed)

    def depth(self, step: int) -> int:
        """How many guesses are unrolled."""
        return min(self.recipe.depth, 1 + int(step / (_DEEPER * self.schedule.steps)))

    def reading(self, step: int) -> str:
        depth = self.depth(step)
        return f"{depth} guess" if depth == 1 else f"{depth} guesses"

    def loss(self, step: int) -> torch.Tensor:
        given = self.material.batch(self.batches.of(step), self.depth(step))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.recipe.bfloat16):
            return unrolled_loss(self.network, self.material.fixed, given)

    def save(self) -> Path:
        """The head as it is now, and the curve."""
        self.draw_losses()
        return save_head(self.folder, self.network, self.material.fixed, self.recipe.text)

    def qualities(self) -> list[Quality]:
        """Of the saved head, on the texts that were held out, by temperature."""
        material = self.material
        unroller = make_unroller(self.llm.executor, load_draft_head(self.folder / FILE, self.llm.model))
        kept = [text for text, held in zip(material.texts, material.held_out, strict=True) if held]
        found = []
        for temperature in sorted(set(self.recipe.texts.temperatures)):
            texts = [text for text in kept if text.temperature == temperature]
            result = quality(self.llm, unroller, texts, self.recipe.depth)
            found += [] if result is None else [result]
        return found

    def _check(self) -> None:
        """Raises RequestError for a recipe that does not fit the model."""
        recipe, model = self.recipe, self.llm.model
        if not self.llm.traits.autoregressive:
            raise RequestError(f"model.from: {model.name} {self.llm.traits.words}; a draft head needs a causal model")
        if recipe.vocabulary > model.config.vocab_size:
            raise RequestError(
                f"draft_head.vocabulary is {recipe.vocabulary}; expected at most {model.config.vocab_size}, the model's"
            )
        if recipe.depth >= recipe.texts.length:
            raise RequestError(f"draft_head.depth is {recipe.depth}; expected less than data.length")
        if recipe.layer is None:
            return
        if recipe.layer >= model.config.layers:
            raise RequestError(
                f"draft_head.layer is {recipe.layer}; expected less than {model.config.layers}, the model's layers, "
                "counted from 0"
            )
        if not isinstance(self.llm.executor, HasKV):
            raise RequestError(f"draft_head.layer: the {self.llm.executor.name} executor does not show a layer's K/V")
