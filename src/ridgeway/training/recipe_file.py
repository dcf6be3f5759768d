"""What all recipes share: a TOML file of sections with known keys, and the schedule of a training."""

import tomllib
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from ridgeway.core.errors import RequestError
from ridgeway.models.fields import Fields

RECIPES = Path(__file__).parent / "recipes"
SCHEDULE_KEYS = frozenset(
    {
        "steps",
        "batch",
        "learning_rate",
        "warmup",
        "decay",
        "weight_decay",
        "clip",
        "checkpoint_every",
        "threads",
    }
)


@dataclass(frozen=True)
class Schedule:
    """steps: of the optimizer, a batch each. The learning rate rises over `warmup` steps, stays, and falls to 0 over
    the last `decay` steps. clip: longest gradient. checkpoint_every: steps.
    """

    steps: int
    batch: int
    learning_rate: float
    warmup: int
    decay: int
    weight_decay: float
    clip: float
    checkpoint_every: int
    threads: int

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = min(1.0, (step + 1) / max(1, self.warmup))
        falling = min(1.0, (self.steps - step) / max(1, self.decay))
        return self.learning_rate * min(rising, falling)


def read_toml(name: str | Path) -> tuple[Fields, str]:
    """The values and the text of a recipe that comes with Ridgeway, by its name, or of one by its path."""
    path = RECIPES / f"{name}.toml"
    path = path if path.is_file() else Path(name)
    try:
        text = path.read_text(encoding="utf-8")
        return Fields(path, tomllib.loads(text)), text
    except OSError as error:
        known = ", ".join(sorted(item.stem for item in RECIPES.glob("*.toml")))
        raise RequestError(f"{name}: no such recipe ({known}) or file") from error
    except ValueError as error:
        raise RequestError(f"{path}: is no TOML ({error})") from error


def sections(fields: Fields, keys: Mapping[str, Set[str]]) -> Mapping[str, Fields]:
    """The sections of a recipe by name, empty where there is none. keys: those that each knows; of the file itself, ""
    and the names of the sections. Raises ModelError for any other.
    """
    found = {"": fields}
    _check_keys(fields, keys[""])
    for name in keys.keys() - {""}:
        found[name] = fields.section(name) or Fields(fields.source, {}, f"{name}.")
        _check_keys(found[name], keys[name])
    return found


def schedule_of(fields: Fields) -> Schedule:
    """The section `training`."""
    steps = fields.integer("steps")
    return Schedule(
        steps=steps,
        batch=fields.integer("batch"),
        learning_rate=fields.number("learning_rate"),
        warmup=fields.integer("warmup", max(1, steps // 20)),
        decay=fields.integer("decay", max(1, steps // 3)),
        weight_decay=fields.number("weight_decay", 0.1),
        clip=fields.number("clip", 1.0),
        checkpoint_every=fields.integer("checkpoint_every", max(1, steps // 10)),
        threads=fields.integer("threads", 2),
    )


def _check_keys(fields: Fields, known: Set[str]) -> None:
    strange = sorted(set(fields.values) - known)
    if strange:
        raise fields.wrong(strange[0], f"no such key; known are {', '.join(sorted(known))}")
