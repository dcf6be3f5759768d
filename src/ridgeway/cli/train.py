"""`ridgeway train`: a recipe, followed; a model that `ridgeway run` reads."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ridgeway.core.errors import RidgewayError


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (toy-diffusion), or the path of a TOML file.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the model, the loss curve, and the state to go on from.")
    ],
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Stop after this many steps; run again to go on.")
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="Of the saved weights: bfloat16 or float32.")
    ] = "bfloat16",
) -> None:
    """Train a diffusion model, or turn an autoregressive one into one; goes on where it was interrupted."""
    if precision not in ("bfloat16", "float32"):
        raise RidgewayError(f"--precision {precision}: expected bfloat16 or float32")
    if find_spec("torch") is None:
        raise RidgewayError("training needs torch: pip install 'ridgeway[train]'")
    from rich.console import Console

    from ridgeway.cli.training import follow
    from ridgeway.training.recipe import read_recipe
    from ridgeway.training.trainer import Trainer

    console = Console(stderr=True, highlight=False)
    trainer = Trainer(read_recipe(recipe), out)
    follow(trainer, console, steps)
    target = trainer.save("float32" if precision == "float32" else "bfloat16")
    left = trainer.recipe.schedule.steps - trainer.done
    if left:
        console.print(f"{left} steps are left; run the same command again to go on")
    console.print(f"model in {target}; try: ridgeway run -m {target}", soft_wrap=True)
