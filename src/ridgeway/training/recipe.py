"""A recipe: everything that a training depends on, as a TOML file. The same recipe gives the same weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeway.core.traits import Attention, LogitShift
from ridgeway.models.fields import Fields
from ridgeway.training.draft_head_recipe import DraftHeadRecipe, draft_head_recipe_of
from ridgeway.training.objective import Objective
from ridgeway.training.recipe_file import SCHEDULE_KEYS, Schedule, read_toml, schedule_of, sections

_ATTENTION: Mapping[str, Attention] = {
    "block": "block",
    "causal-block": "causal-block",
    "bidirectional": "bidirectional",
}
_SHIFTS = {"in place": LogitShift.IN_PLACE, "next": LogitShift.NEXT}
_SIZES = ("hidden", "layers", "heads", "kv_heads", "head_dim", "intermediate")
_KEYS = {
    "": {"seed", "model", "data", "objective", "training"},
    "model": {*_SIZES, "tied_head", "rope_theta", "from", "mask_token", "lora_rank", "lora_scale"},
    "data": {"source", "length"},
    "objective": {
        "attention",
        "block_size",
        "also",
        "logit_shift",
        "times",
        "complementary",
        "causal_weight",
    },
    "training": SCHEDULE_KEYS,
}


@dataclass(frozen=True)
class Start:
    """Which model is trained. sizes: of a new one that reads bytes; or source: of one that there is already.

    mask_token: its text; added to the vocabulary if it is not in it. lora_rank: of low-rank changes; 0: all weights.
    """

    sizes: Mapping[str, int]
    tied_head: bool
    rope_theta: float
    source: str | None
    mask_token: str
    lora_rank: int
    lora_scale: float


@dataclass(frozen=True)
class Reading:
    """How the trained model reads: what its configuration will say, and what else it learns besides.

    attention: `block`, `causal-block` (clean rows see causally) or `bidirectional`. also: further block sizes, None for
    the whole text; every step takes the next of all of them. times: bounds of t.
    """

    attention: Attention
    block_size: int | None
    also: tuple[int | None, ...]
    logit_shift: LogitShift
    times: tuple[float, float]
    complementary: bool
    causal_weight: float

    def objectives(self, mask_id: int) -> tuple[Objective, ...]:
        """One for each block size. Blocks of one token are always masked: nothing else could be learned from them."""
        return tuple(
            Objective(
                block_size=size,
                mask_id=mask_id,
                logit_shift=self.logit_shift,
                between=(1.0, 1.0) if size == 1 else self.times,
                complementary=self.complementary and size != 1,
                causal_clean=self.attention == "causal-block" and size is not None,
                causal_weight=self.causal_weight if size == 1 or (self.attention == "causal-block" and size) else 0.0,
            )
            for size in (self.block_size, *self.also)
        )


@dataclass(frozen=True)
class Recipe:
    """Of a diffusion model. text: the file, to be kept with what comes of it."""

    start: Start
    source: str
    length: int
    reading: Reading
    schedule: Schedule
    seed: int
    text: str


def read_recipe(name: str | Path) -> Recipe | DraftHeadRecipe:
    """A recipe by the name of one that comes with Ridgeway, or by its path. Raises RequestError or ModelError."""
    fields, text = read_toml(name)
    return draft_head_recipe_of(fields, text) if "draft_head" in fields else recipe_of(fields, text)


def recipe_of(fields: Fields, text: str) -> Recipe:
    """The recipe of a diffusion model that a TOML file holds."""
    section = sections(fields, _KEYS)
    return Recipe(
        start=_start(section["model"]),
        source=section["data"].text("source"),
        length=section["data"].integer("length", least=2),
        reading=_reading(section["objective"]),
        schedule=schedule_of(section["training"]),
        seed=fields.integer("seed", 0, least=0),
        text=text,
    )


def _start(fields: Fields) -> Start:
    source = fields.text("from", "") or None
    sizes = {} if source else {name: fields.integer(name) for name in _SIZES}
    rank = fields.integer("lora_rank", 0, least=0)
    if rank and source is None:
        raise fields.wrong("lora_rank", "no low-rank training of a new model: there is nothing to be changed")
    return Start(
        sizes=sizes,
        tied_head=fields.flag("tied_head", False),
        rope_theta=fields.number("rope_theta", 10000.0),
        source=source,
        mask_token=fields.text("mask_token", "<|mask|>"),
        lora_rank=rank,
        lora_scale=fields.number("lora_scale", 2.0),
    )


def _reading(fields: Fields) -> Reading:
    stated = fields.text("attention", "block")
    if stated not in _ATTENTION:
        raise fields.wrong("attention", f"one of {', '.join(_ATTENTION)}")
    attention = _ATTENTION[stated]
    size = None if attention == "bidirectional" else fields.integer("block_size")
    also = fields.values.get("also", [])
    if not isinstance(also, list) or not all(item == "whole" or _is_size(item) for item in also):
        raise fields.wrong("also", 'a list of block sizes, "whole" for the whole text')
    shift = fields.text("logit_shift", "in place")
    if shift not in _SHIFTS:
        raise fields.wrong("logit_shift", " or ".join(_SHIFTS))
    times = fields.values.get("times", [1e-3, 1.0])
    if not isinstance(times, list) or len(times) != 2 or not all(isinstance(t, int | float) for t in times):
        raise fields.wrong("times", "the least and the most share of tokens to be masked, such as [0.05, 0.95]")
    weight = fields.values.get("causal_weight", 0.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or weight < 0:
        raise fields.wrong("causal_weight", "0 or a positive number")
    if weight and attention != "causal-block" and 1 not in (size, *also):
        raise fields.wrong("causal_weight", "0, as no clean rows see causally: attention causal-block, or blocks of 1")
    return Reading(
        attention=attention,
        block_size=size,
        also=tuple(None if item == "whole" else item for item in also),
        logit_shift=_SHIFTS[shift],
        times=(float(times[0]), float(times[1])),
        complementary=fields.flag("complementary", False),
        causal_weight=float(weight),
    )


def _is_size(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool) and item > 0
