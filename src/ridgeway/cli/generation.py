"""What `run` and `chat` share: a loaded model, a streamed answer, the card."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from ridgeway.core.errors import RidgewayError
from ridgeway.core.outputs import RequestOutput
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.llm import LLM
from ridgeway.methods.registry import make_method
from ridgeway.roofline.card import Card
from ridgeway.roofline.report import RunReport

COMMANDS = ("ridgeway chat", "ridgeway machine", "ridgeway methods", "ridgeway run --help")


def say(text: str) -> None:
    """A line for people; standard output is kept for text and data."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Generated:
    """An answer, and the report of the run."""

    output: RequestOutput
    report: RunReport
    interrupted: bool = False

    @property
    def text(self) -> str:
        return self.output.outputs[0].text


class Session:
    """A model that is ready, with the method, executor and sampling settings that the command line named.

    What the command line leaves open are the model's own settings.
    """

    def __init__(
        self,
        model: str,
        executor: str,
        threads: int | None,
        method: str | None,
        sampling: Mapping[str, Any],
    ) -> None:
        # What is wrong is told before anything is loaded.
        make_method(method)
        given = {name: value for name, value in sampling.items() if value is not None}
        SamplingParams(**given)
        self.llm = LLM(model, executor=executor, threads=threads)
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
        stream = self.llm.stream(prompt, self.params, method=self.method)
        interrupted = False
        peak = 0.0
        try:
            for delta in stream:
                out.write(delta.text)
                out.flush()
                peak = max(peak, self.llm.engine.pool_fraction)
        except KeyboardInterrupt:
            interrupted = True
            stream.close()
        out.write("\n")
        out.flush()
        output = self.llm.outputs[0]
        if output.error is not None:
            raise RidgewayError(output.error)
        answer = output.outputs[0]
        drafts, why = answer.drafts, answer.explanation
        notes = [drafts.words] if drafts is not None and drafts.steps else []
        notes += [f"{self.method.name}: {why[-1]}"] if why else []
        report = RunReport.of(
            self.llm.steps,
            self.llm.cost_model,
            model=self.llm.title,
            method=self.method.name,
            prompt_tokens=len(prompt),
            token_ids=output.outputs[0].token_ids,
            text=output.outputs[0].text,
            kv_pool_fraction=peak,
            lossless=self.method.lossless,
            price=price,
            notes=notes,
            drafts=drafts,
            explanation=why,
        )
        return Generated(output, report, interrupted)


def show_card(session: Session, run: Generated) -> None:
    """How far the run was from the roof, and why."""
    model = session.llm.model
    packed = {name: tensor.nbytes for name, tensor in model.tensors.items()}
    Console(stderr=True, highlight=False).print(Card(run.report, session.llm.cost_model, packed, COMMANDS))


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
