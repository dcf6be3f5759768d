"""What `run` and `chat` share: a loaded model, a streamed answer, the card."""

import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from types import FrameType
from typing import IO, Any, Self

from rich.console import Console

from ridgeway.core.errors import RidgewayError
from ridgeway.core.outputs import Delta, RequestOutput
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.llm import LLM
from ridgeway.methods.denoising import Denoising
from ridgeway.methods.registry import make_method
from ridgeway.models.shipped import SHIPPED
from ridgeway.roofline.card import Card
from ridgeway.roofline.report import RunReport

COMMANDS = ("ridgeway chat", "ridgeway bench", "ridgeway lab", "ridgeway roof MODEL --on h100")


def say(text: str) -> None:
    """A line for people; standard output is kept for text and data."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Generated:
    """An answer, and the card of the run."""

    output: RequestOutput
    card: Card
    interrupted: bool = False

    @property
    def report(self) -> RunReport:
        return self.card.report

    @property
    def text(self) -> str:
        return self.output.outputs[0].text


class Interrupt:
    """Ctrl-C asks for the end of the answer, so that the step at hand is finished and counted; twice, it is an end."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class Session:
    """A model that is ready, with the method, executor and sampling settings that the command line named.

    What the command line leaves open are the model's own settings.
    """

    def __init__(
        self,
        model: str,
        method: str | None,
        sampling: Mapping[str, Any],
        **loading: Any,
    ) -> None:
        """loading: executor, threads and how weights and K/V are stored; see `LLM`."""
        # What is wrong is told before anything is loaded.
        if method is not None:
            make_method(method)
        given = {name: value for name, value in sampling.items() if value is not None}
        SamplingParams(**given)
        self.llm = LLM(model, **loading)
        if model in SHIPPED:
            say(f"{model} is {SHIPPED[model].about}")
        self.method = self.llm.method(method)
        self.params = self.llm.default_sampling_params(**given)

    def prompt_ids(self, text: str, raw: bool) -> list[int]:
        """The prompt in the model's chat template if it has one; as it is if not, or if `raw`."""
        tokenizer = self.llm.tokenizer
        if raw or not tokenizer.has_chat_template:
            return tokenizer.encode(text)
        return self.llm.chat_prompt([{"role": "user", "content": text}])

    def generate(
        self,
        prompt: list[int],
        price: float | None = None,
        text_to_stderr: bool = False,
    ) -> Generated:
        """Stream the answer as it comes. Ctrl-C ends the answer, not the program."""
        out: IO[str] = sys.stderr if text_to_stderr else sys.stdout
        live = out.isatty() and isinstance(self.method, Denoising)
        with Interrupt() as interrupt:
            stream = self.llm.stream([prompt], self.params.but(trace=live), method=self.method)
            for delta in self._shown(stream, prompt, out) if live else stream:
                if not live:
                    out.write(delta.text)
                    out.flush()
                if interrupt.asked:
                    stream.close()
                    break
        output = self.llm.outputs[0]
        out.write(f"{output.outputs[0].text}\n" if live and not output.error else "\n")
        out.flush()
        if output.error is not None:
            raise RidgewayError(output.error)
        return Generated(output, self.llm.card(price, COMMANDS), interrupt.asked)

    def _shown(self, stream: Iterable[Delta], prompt: list[int], out: IO[str]) -> Iterable[Delta]:
        """Masks that become text, where there is a terminal to show them on."""
        from ridgeway.cli.live_reveal import Canvas, show_live

        return show_live(stream, Canvas(self.llm.tokenizer, prompt), Console(file=out, highlight=False))


def show_card(run: Generated) -> None:
    """How far the run was from the roof, and why."""
    Console(stderr=True, highlight=False).print(run.card)


def one_line(run: Generated) -> str:
    """The card of a turn of a conversation."""
    report = run.report
    return (
        f"[{report.tokens} tokens, {report.decode_tokens_per_second:.0f} tok/s, "
        f"{100 * report.main.roof_fraction:.0f} % of the roof ({report.main.bound}-bound) | first token "
        f"{1e3 * report.first_token_seconds:.0f} ms, {run.output.num_cached_tokens} of {report.prompt_tokens} "
        "prompt tokens from the cache]"
    )


def json_target(target: str | None) -> "IO[str] | None":
    """Where the line of JSON goes; opened before any work, so that a wrong path costs nothing."""
    if target is None:
        return None
    if target == "-":
        return sys.stdout
    try:
        return Path(target).open("w")
    except OSError as error:
        raise RidgewayError(f"--json {target}: cannot be written: {error.strerror}") from error


def write_json(report: RunReport, target: "IO[str] | None") -> None:
    """The report as one line of JSON."""
    if target is not None:
        print(dumps(report.as_json()), file=target, flush=True)
