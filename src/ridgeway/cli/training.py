"""The progress of a training, for people."""

from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ridgeway.training.draft_head_trainer import DraftHeadTrainer
from ridgeway.training.loop import Loop
from ridgeway.training.trainer import Trainer

_LINES = 20  # how often a log that is no terminal is told


def follow(trainer: Trainer, console: Console, until: int | None = None) -> None:
    """Train a diffusion model, with a bar on a terminal and a line now and then elsewhere. Ctrl-C keeps what is done
    so far.
    """
    config, schedule = trainer.config, trainer.schedule
    console.print(
        f"{config.parameters / 1e6:.2f}M parameters, {trainer.trained_parameters / 1e6:.2f}M of them trained; "
        f"step {trainer.done} of {_last(trainer, until)}, {schedule.batch} texts of {trainer.recipe.length} tokens each"
    )
    _steps(trainer, console, until)


def follow_draft_head(trainer: DraftHeadTrainer, console: Console, until: int | None = None) -> None:
    """Write texts, compute their states, train a draft head; as `follow`."""
    _stage("texts", trainer.texts.write(), trainer.recipe.texts.answers, console)
    _stage("states", trainer.states.compute(), len(trainer.states.texts), console)
    console.print(trainer.material.words, soft_wrap=True)
    console.print(
        f"{trainer.trained_parameters / 1e6:.2f}M parameters; step {trainer.done} of {_last(trainer, until)}, "
        f"about {trainer.schedule.batch:,} places each"
    )
    _steps(trainer, console, until)


def _stage(name: str, counts: Iterator[int], total: int, console: Console) -> None:
    """counts: how many are done, every now and then."""
    said = 0
    with _bar(console) as progress:
        task = progress.add_task(name, total=total, loss="")
        for count in counts:
            progress.update(task, completed=count)
            if not console.is_terminal and count * _LINES // total > said:
                said = count * _LINES // total
                console.print(f"{name}: {count:,} of {total:,}")


def _steps(loop: Loop, console: Console, until: int | None) -> None:
    last = _last(loop, until)
    losses: dict[str, float] = {}
    with _bar(console) as progress:
        task = progress.add_task("training", total=last, completed=loop.done, loss="")
        for step in loop.run(until):
            losses[step.reading] = 0.9 * losses.get(step.reading, step.loss) + 0.1 * step.loss
            said = "  ".join(f"{reading}: {loss:.3f}" for reading, loss in losses.items())
            progress.update(task, completed=step.step + 1, loss=said)
            if not console.is_terminal and (step.step + 1) % max(1, last // _LINES) == 0:
                console.print(f"step {step.step + 1}: {loop.unit}  {said}", soft_wrap=True)


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _last(loop: Loop, until: int | None) -> int:
    return min(loop.schedule.steps, until or loop.schedule.steps)
