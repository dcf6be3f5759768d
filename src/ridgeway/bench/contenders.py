"""Who is measured: anyone who turns a group of prompts into a timeline. Ridgeway's own methods are contenders here."""

from collections.abc import Sequence
from time import perf_counter
from typing import Literal, Protocol

from ridgeway.bench.timeline import Timeline
from ridgeway.core.errors import MethodError, RidgewayError
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.llm import LLM
from ridgeway.methods.registry import make_method
from ridgeway.roofline.report import RunReport

Prompts = Sequence[Sequence[int]]


class ContenderError(RidgewayError):
    """Why a contender could not be measured, as the end of a sentence that begins with its name."""


class Contender(Protocol):
    """name: the row of the table. kind: how its figures are known. detail: one line of what exactly it is.

    Every call may raise ContenderError. prepare: be ready for groups of `batch` prompts, with the settings that suit
    them best; untimed. measure: greedy, end tokens ignored, exactly `max_tokens` tokens a prompt. An idle contender
    uses no processor time.
    """

    name: str
    kind: Literal["method", "peer"]
    lossless: bool

    @property
    def detail(self) -> str: ...
    def start(self) -> None: ...
    def prepare(self, prompts: Prompts, max_tokens: int) -> Timeline: ...
    def settle(self) -> None: ...
    def measure(self, prompts: Prompts, max_tokens: int) -> Timeline: ...
    def close(self) -> None: ...


class OwnMethod:
    """A decoding method of Ridgeway, in this process; all of them share one `LLM`, without prefix cache."""

    kind: Literal["method", "peer"] = "method"

    def __init__(self, llm: LLM, spec: str) -> None:
        self.name = spec
        self._llm = llm
        method = make_method(spec)
        refusal = method.refusal(llm.traits)
        if refusal is not None:
            raise MethodError(f"method {spec!r} cannot run this model: {refusal}")
        self.lossless = method.lossless

    @property
    def detail(self) -> str:
        return "" if self.lossless else "its own tokens, not those of plain decoding"

    def start(self) -> None:
        pass

    def prepare(self, prompts: Prompts, max_tokens: int) -> Timeline:
        """Once unmeasured: the first run of a shape may compile, and the cost model learns from it."""
        return self.measure(prompts, max_tokens)

    def settle(self) -> None:
        pass

    def measure(self, prompts: Prompts, max_tokens: int) -> Timeline:
        llm = self._llm
        greedy = SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)
        # A method that learns from what it saw would know the prompts of the last repeat: a new one each time.
        method = make_method(self.name)
        arrivals: list[list[float]] = [[] for _ in prompts]
        token_ids: list[list[int]] = [[] for _ in prompts]
        start = perf_counter()
        for delta in llm.stream([list(prompt) for prompt in prompts], greedy, method=method):
            now = perf_counter() - start
            place = int(delta.request_id.rpartition("-")[2])
            arrivals[place] += [now] * len(delta.token_ids)
            token_ids[place] += delta.token_ids
        failed = next((output.error for output in llm.outputs if output.error is not None), None)
        if failed is not None:
            raise ContenderError(f"failed: {failed}")
        report = RunReport.of(
            llm.steps,
            llm.cost_model,
            model=llm.title,
            method=self.name,
            prompt_tokens=sum(map(len, prompts)),
            token_ids=[token for ids in token_ids for token in ids],
        )
        return Timeline.of(prompts, arrivals, token_ids, report.prefill, report.decode)

    def close(self) -> None:
        pass


def split_specs(text: str) -> list[str]:
    """Method specs out of `a,b:key=value,key=value,c`: a part that is only `key=value` belongs to the one before."""
    specs: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        head = part.partition("=")[0]
        if specs and "=" in part and ":" not in head:
            specs[-1] += f",{part}"
        else:
            specs.append(part)
    return list(dict.fromkeys(specs))
