"""The progress of a training, for people."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ridgeway.training.trainer import Trainer

_LINES = 20  # how often a log that is no terminal is told


def follow(trainer: Trainer, console: Console, until: int | None = None) -> None:
    """Run it, with a bar on a terminal and a line now and then elsewhere. Ctrl-C keeps what is done so far."""
    config, schedule = trainer.config, trainer.recipe.schedule
    last = min(schedule.steps, until or schedule.steps)
    console.print(
        f"{config.parameters / 1e6:.2f}M parameters, {trainer.trained_parameters / 1e6:.2f}M of them trained; "
        f"step {trainer.done} of {last}, {schedule.batch} texts of {trainer.recipe.length} tokens each"
    )
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    losses: dict[str, float] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("training", total=last, completed=trainer.done, loss="")
        for step in trainer.run(until):
            losses[step.reading] = 0.9 * losses.get(step.reading, step.loss) + 0.1 * step.loss
            said = "  ".join(f"{reading}: {loss:.3f}" for reading, loss in losses.items())
            progress.update(task, completed=step.step + 1, loss=said)
            if not console.is_terminal and (step.step + 1) % max(1, last // _LINES) == 0:
                console.print(f"step {step.step + 1}: nats per token by block size  {said}", soft_wrap=True)
