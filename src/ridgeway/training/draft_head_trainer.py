"""A draft head for a model that there is already, trained by its recipe: texts, states, steps.

    answers.jsonl            texts that the model wrote
    states.f16               the hidden states that it wrote them from
    state.safetensors ...    what the loop keeps
    draft-head.safetensors   what a model drafts with that it lies beside

Each stage goes on where it was interrupted.
"""

from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from ridgeway.core.arrays import BoolArray, IntArray
from ridgeway.core.errors import RequestError
from ridgeway.executors.draft_heads import make_unroller
from ridgeway.llm import LLM
from ridgeway.models.draft_head import FILE, load_draft_head
from ridgeway.training.distill_states import DistillStates
from ridgeway.training.distill_texts import DistillTexts, Text
from ridgeway.training.draft_head import (
    Fixed,
    Network,
    Unrolled,
    before_loop,
    frequent_tokens,
    places_of,
    save_head,
    unrolled_loss,
)
from ridgeway.training.draft_head_quality import Quality, quality
from ridgeway.training.draft_head_recipe import DraftHeadRecipe
from ridgeway.training.loop import Loop

_HELD_OUT = 32  # one text of so many is kept for judging the head
_DEEPER = 0.15  # share of the steps after which one guess more is unrolled: later ones build on earlier ones


class Material(NamedTuple):
    """What is learned from. states: (tokens, hidden). tokens: (tokens,) drawn from them. held_out: (texts,)."""

    texts: list[Text]
    held_out: BoolArray
    states: np.ndarray
    tokens: IntArray
    places: IntArray
    fixed: Fixed

    @property
    def words(self) -> str:
        """For people."""
        kept = sum(before_loop(text.answer) for text in self.texts)
        known = np.isin(self.tokens, self.fixed.tokens).mean()
        return (
            f"{len(self.texts):,} answers of {len(self.tokens):,} tokens, {kept:,} before they loop; "
            f"the head knows {len(self.fixed.tokens):,} tokens, {100 * known:.1f} % of what was said"
        )


class DraftHeadTrainer(Loop):
    """A recipe on its way: exhaust `texts.write`, `states.compute` and `run` one after the other, then `save`.

    llm: of the recipe's model, if it is loaded already. Raises RequestError or ModelError, before any work, for a
    recipe that cannot be followed.
    """

    unit: ClassVar[str] = "nats per place, by guesses"

    def __init__(self, recipe: DraftHeadRecipe, folder: Path, llm: LLM | None = None) -> None:
        self.recipe = recipe
        self.llm = llm or LLM(recipe.source)
        config, traits = self.llm.model.config, self.llm.traits
        if not traits.autoregressive:
            raise RequestError(f"model.from: {self.llm.model.name} {traits.words}; a draft head needs a causal model")
        if recipe.vocabulary > config.vocab_size:
            raise RequestError(
                f"draft_head.vocabulary is {recipe.vocabulary}; expected at most {config.vocab_size}, the model's"
            )
        if recipe.depth >= recipe.texts.length:
            raise RequestError(f"draft_head.depth is {recipe.depth}; expected less than data.length")
        self.network = Network(config.hidden, recipe.inner, torch.Generator().manual_seed(recipe.seed))
        schedule = recipe.schedule
        optimizer = torch.optim.AdamW(
            self.network.parameters(), schedule.learning_rate, betas=(0.9, 0.95), weight_decay=schedule.weight_decay
        )
        super().__init__(folder, self.network, optimizer, schedule, recipe.text)
        answers, self._states = folder / "answers.jsonl", folder / "states.f16"
        if not answers.is_file():
            self._states.unlink(missing_ok=True)
        self.texts = DistillTexts(recipe, self.llm, answers)
        self._permutation = lru_cache(maxsize=1)(self._permuted)

    @cached_property
    def states(self) -> DistillStates:
        """Of all texts, which must have been written."""
        texts = self.texts.read()
        if not texts:
            raise RequestError(f"{self.texts.path}: {self.llm.model.name} wrote no text to learn from")
        return DistillStates(self.llm, texts, self._states)

    @cached_property
    def material(self) -> Material:
        """The states must have been computed."""
        texts, turns = self.states.texts, len(self.recipe.texts.temperatures)
        held_out = np.array([text.number // turns % _HELD_OUT == 0 for text in texts])
        learned = [text for text, held in zip(texts, held_out, strict=True) if not held]
        places = places_of(texts, ~held_out, self.recipe.depth)
        if not len(places):
            raise RequestError(f"data.answers is {self.recipe.texts.answers}; too few to learn from, all are held out")
        return Material(
            texts=list(texts),
            held_out=held_out,
            states=self.states.read(),
            tokens=np.concatenate([text.answer for text in texts]),
            places=places,
            fixed=Fixed(
                self.llm.model, frequent_tokens(learned, self.recipe.vocabulary, self.llm.model.config.vocab_size)
            ),
        )

    def depth(self, step: int) -> int:
        """How many guesses are unrolled."""
        return min(self.recipe.depth, 1 + int(step / (_DEEPER * self.schedule.steps)))

    def reading(self, step: int) -> str:
        depth = self.depth(step)
        return f"{depth} guess" if depth == 1 else f"{depth} guesses"

    def loss(self, step: int) -> torch.Tensor:
        places, depth = self._batch(step), self.depth(step)
        rows = places[:, None] + np.arange(depth + 1)
        states = torch.from_numpy(np.asarray(self.material.states[rows]))
        unrolled = Unrolled(states, torch.from_numpy(self.material.tokens[rows[:, :-1]]))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.recipe.bfloat16):
            return unrolled_loss(self.network, self.material.fixed, unrolled)

    def save(self) -> Path:
        """The head as it is now, and the curve."""
        self.draw_losses()
        return save_head(self.folder, self.network, self.material.fixed, self.recipe.text)

    def qualities(self) -> list[Quality]:
        """Of the saved head, on the texts that were held out, by temperature."""
        material, found = self.material, []
        head = load_draft_head(self.folder / FILE, self.llm.model)
        unroller = make_unroller(self.llm.executor, head)
        lengths = [len(text.answer) for text in material.texts]
        temperatures = np.array([text.temperature for text in material.texts])
        for temperature in sorted(set(self.recipe.texts.temperatures)):
            chosen = material.held_out & (temperatures == temperature)
            rows = np.repeat(chosen, lengths)
            texts = [text for text, take in zip(material.texts, chosen, strict=True) if take]
            states, tokens = np.asarray(material.states[rows]), material.tokens[rows]
            result = quality(unroller, texts, states, tokens, self.recipe.depth)
            found += [] if result is None else [result]
        return found

    def _batch(self, step: int) -> IntArray:
        """Every place once, in an order that is another in each epoch; then again."""
        size = min(self.schedule.batch, len(self.material.places))
        epoch, turn = divmod(step, len(self.material.places) // size)
        return self._permutation(epoch)[turn * size : (turn + 1) * size]

    def _permuted(self, epoch: int) -> IntArray:
        return np.random.default_rng([self.recipe.seed, epoch]).permutation(self.material.places)
