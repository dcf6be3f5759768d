"""The recipe of a draft head: which model, which texts, how large a head, and how it is trained."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from ridgeway.models.fields import Fields
from ridgeway.training.recipe_file import SCHEDULE_KEYS, Schedule, schedule_of, sections

_KEYS: Mapping[str, Set[str]] = {
    "": {"seed", "model", "data", "draft_head", "training"},
    "model": {"from"},
    "data": {"answers", "length", "temperatures", "prompts"},
    "draft_head": {"vocabulary", "inner", "layer", "depth", "precision"},
    "training": SCHEDULE_KEYS,
}
_PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class TextsRecipe:
    """answers: how many texts, each from its own prompt. length: tokens of an answer at most. temperatures: taken in
    turn. prompts: a .jsonl file of {"prompt": ...}; None: the model writes them itself.
    """

    answers: int
    length: int
    temperatures: tuple[float, ...]
    prompts: str | None


@dataclass(frozen=True)
class DraftHeadRecipe:
    """source: the model. vocabulary: how many tokens the head knows. inner, depth: see `training.draft_head.Network`
    and `unrolled_loss`. layer: whose K/V it looks at, counted from 0; None: it does not look back. bfloat16: whether
    products of the training are. text: the file, kept with what comes of it.
    """

    source: str
    texts: TextsRecipe
    vocabulary: int
    inner: int
    layer: int | None
    depth: int
    bfloat16: bool
    schedule: Schedule
    seed: int
    text: str


def draft_head_recipe_of(fields: Fields, text: str) -> DraftHeadRecipe:
    """The recipe that a TOML file holds. Raises ModelError."""
    section = sections(fields, _KEYS)
    head = section["draft_head"]
    precision = head.text("precision", "float32")
    if precision not in _PRECISIONS:
        raise head.wrong("precision", " or ".join(_PRECISIONS))
    return DraftHeadRecipe(
        source=section["model"].text("from"),
        texts=_texts(section["data"]),
        vocabulary=head.integer("vocabulary"),
        inner=head.integer("inner"),
        layer=head.integer("layer", least=0) if "layer" in head else None,
        depth=head.integer("depth", 3),
        bfloat16=precision == "bfloat16",
        schedule=schedule_of(section["training"]),
        seed=fields.integer("seed", 0, least=0),
        text=text,
    )


def _texts(fields: Fields) -> TextsRecipe:
    temperatures = fields.values.get("temperatures", [0.0, 0.7])
    if not isinstance(temperatures, list) or not temperatures or not all(map(_is_temperature, temperatures)):
        raise fields.wrong("temperatures", "a list of temperatures, 0 or from 0.01 to 100, such as [0.0, 0.7]")
    return TextsRecipe(
        answers=fields.integer("answers"),
        length=fields.integer("length", least=2),
        temperatures=tuple(float(temperature) for temperature in temperatures),
        prompts=fields.text("prompts", "") or None,
    )


def _is_temperature(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and (value == 0 or 0.01 <= value <= 100)
