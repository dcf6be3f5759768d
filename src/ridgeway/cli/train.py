"""`ridgeway train`: a recipe, followed; a model that `ridgeway run` reads, or a draft head for one."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ridgeway.core.errors import RidgewayError

if TYPE_CHECKING:
    from rich.console import Console

    from ridgeway.training.draft_head_recipe import DraftHeadRecipe
    from ridgeway.training.loop import Loop
    from ridgeway.training.recipe import Recipe


def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe's name (toy-diffusion, smollm2-draft-head), or the path of a TOML file.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for what is trained, the loss curve, and the state to go on from.")
    ],
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Stop after this many steps; run again to go on.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", help="Of a diffusion model's saved weights: bfloat16 (the default) or float32."),
    ] = None,
) -> None:
    """Train a diffusion model or a draft head, or turn an autoregressive model into a diffusion model; goes on where it
    was interrupted.
    """
    if precision not in (None, "bfloat16", "float32"):
        raise RidgewayError(f"--precision {precision}: expected bfloat16 or float32")
    if find_spec("torch") is None:
        raise RidgewayError("training needs torch: pip install 'ridgeway[train]'")
    from rich.console import Console

    from ridgeway.training.draft_head_recipe import DraftHeadRecipe
    from ridgeway.training.recipe import read_recipe

    console = Console(stderr=True, highlight=False)
    read = read_recipe(recipe)
    if not isinstance(read, DraftHeadRecipe):
        _train_model(read, out, steps, precision, console)
    elif precision is None:
        _train_draft_head(read, out, steps, console)
    else:
        raise RidgewayError(f"--precision {precision}: is for diffusion models; a draft head is saved in float16")


def _train_model(recipe: "Recipe", out: Path, steps: int | None, precision: str | None, console: "Console") -> None:
    from ridgeway.cli.training import follow
    from ridgeway.training.trainer import Trainer

    trainer = Trainer(recipe, out)
    follow(trainer, console, steps)
    target = trainer.save("float32" if precision == "float32" else "bfloat16")
    _say_what_is_left(trainer, console)
    console.print(f"model in {target}; try: ridgeway run -m {target}", soft_wrap=True)


def _train_draft_head(recipe: "DraftHeadRecipe", out: Path, steps: int | None, console: "Console") -> None:
    from ridgeway.cli.training import follow_draft_head
    from ridgeway.models.draft_head import place_beside
    from ridgeway.training.draft_head_trainer import DraftHeadTrainer

    trainer = DraftHeadTrainer(recipe, out)
    follow_draft_head(trainer, console, steps)
    target = trainer.save()
    for quality in trainer.qualities():
        console.print(quality.words, soft_wrap=True)
    _say_what_is_left(trainer, console)
    place = place_beside(trainer.llm.model)
    console.print(f"draft head in {target}; to draft with it: cp {target} {place}", soft_wrap=True)


def _say_what_is_left(loop: "Loop", console: "Console") -> None:
    left = loop.schedule.steps - loop.done
    if left:
        console.print(f"{left} steps are left; run the same command again to go on")
