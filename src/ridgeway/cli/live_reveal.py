"""Denoising as it happens: masks that become letters, on a terminal."""

from collections.abc import Iterable, Sequence
from time import sleep

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ridgeway.core.outputs import Delta, StreamTrace
from ridgeway.models.tokenizer import Tokenizer

MASK = "░"
_LEAST_SECONDS = 0.06  # a step that is over sooner cannot be seen; the time between steps is nobody's rate


class Canvas:
    """What is known of an answer after each weight stream.

    Positions count from the prompt's first token. A token that is known is not shown before its canvas is: committed
    ones come in order, the others from the trace.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._prompt = len(prompt)
        self._known: dict[int, int] = dict(enumerate(prompt))
        self._stop = len(prompt)
        self._new: frozenset[int] = frozenset()

    def update(self, trace: StreamTrace) -> None:
        """One weight stream more."""
        for position in trace.remasked:
            self._known.pop(position, None)
        self._known |= dict(trace.revealed)
        self._known |= {trace.start + place: token for place, token in enumerate(trace.canvas) if token is not None}
        self._new = frozenset(position for position, _ in trace.revealed)
        self._stop = max(self._stop, trace.start + len(trace.canvas))

    def text(self) -> Text:
        """The answer: what was just revealed stands out, masks are shown as such. Ends where an end was revealed."""
        shown = Text()
        run: list[int] = []
        bright = False

        def flush() -> None:
            shown.append(self._tokenizer.decode(run), style="bold green" if bright else "")
            run.clear()

        for position in range(self._prompt, self._stop):
            token, new = self._known.get(position), position in self._new
            if token is None or new is not bright:
                flush()
                bright = new
            if token is None:
                shown.append(MASK, style="dim")
            else:
                run.append(token)
        flush()
        return shown


def show_live(deltas: Iterable[Delta], canvas: Canvas, console: Console) -> Iterable[Delta]:
    """The deltas, each shown as it passes; what is left on the terminal is the text."""
    with Live(canvas.text(), console=console, auto_refresh=False, transient=True) as live:
        for delta in deltas:
            if delta.trace is not None and delta.trace.canvas:
                canvas.update(delta.trace)
                live.update(canvas.text(), refresh=True)
                sleep(_LEAST_SECONDS)
            yield delta
