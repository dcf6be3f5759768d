"""Runs of the real engine for the page: each weight stream is told as it ends, and what was expected of it.

One run at a time: two would take each other's memory bandwidth, which is what the page is about.
"""

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any

from ridgeway.core.errors import RequestError, did_you_mean
from ridgeway.core.outputs import StreamTrace
from ridgeway.core.prompts import is_whole
from ridgeway.lab.table import rounded
from ridgeway.llm import LLM
from ridgeway.methods.autoregressive import Autoregressive
from ridgeway.models.default import BUILT_IN
from ridgeway.models.shipped import SHIPPED
from ridgeway.roofline.cost import CostModel
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.report import Phase, RunReport, StepReport

_LONGEST, _MOST = 256, 16  # tokens of an answer, requests at once
_END = "\N{END OF PROOF}"
_LONGEST_PROMPT = 8000  # characters


@dataclass(frozen=True)
class Runnable:
    """A model that the page offers to run. about: for people; prompt: what it is asked if nothing else is said. open:
    loads it.
    """

    about: str
    prompt: str
    open: Callable[[], LLM]


def runnable_models() -> dict[str, Runnable]:
    """By name: what can be had without asking where from."""
    prompt = "Explain in three sentences why the sky is blue."
    found = {name: Runnable(name, prompt, partial(LLM, name, progress=False)) for name in BUILT_IN}
    for name, toy in SHIPPED.items():
        found[name] = Runnable(toy.about, toy.prompt, partial(LLM, name, progress=False))
    return found


@dataclass(frozen=True)
class RunRequest:
    """What a page asks for. prompt: empty: one that suits the model. batch: as many requests with that prompt, other
    seeds. trace: tell of the first one what each stream revealed, and where. Raises RequestError.
    """

    model: str
    method: str = Autoregressive.name
    prompt: str = ""
    max_tokens: int = 48
    batch: int = 1
    trace: bool = False

    def __post_init__(self) -> None:
        for name, value, most in (("max_tokens", self.max_tokens, _LONGEST), ("batch", self.batch, _MOST)):
            if not is_whole(value) or not 1 <= value <= most:
                raise RequestError(f"{name}={value}: expected 1 to {most}")
        for name in ("model", "method", "prompt"):
            if not isinstance(getattr(self, name), str):
                raise RequestError(f"{name}={getattr(self, name)}: expected text")
        if len(self.prompt) > _LONGEST_PROMPT:
            raise RequestError(f"a prompt of {len(self.prompt)} characters: expected at most {_LONGEST_PROMPT:,}")
        if ".py" in self.method:
            raise RequestError(
                "a method of one's own, FILE.py:CLASS, is run from the command line: ridgeway run --method"
            )


@dataclass
class Runner:
    """Keeps loaded models, and a point of every run for the roofline."""

    points: list[dict[str, Any]] = field(default_factory=list)
    models: Mapping[str, Runnable] = field(default_factory=runnable_models)
    _loaded: dict[str, LLM] = field(default_factory=dict)
    _predictors: dict[str, Predictor] = field(default_factory=dict)
    _plain: dict[str, float] = field(default_factory=dict)
    _loading: Lock = field(default_factory=Lock)
    _busy: Lock = field(default_factory=Lock)

    def described(self) -> list[dict[str, str]]:
        """For the page."""
        return [{"name": name, "about": model.about} for name, model in self.models.items()]

    def run(self, asked: RunRequest) -> Generator[dict[str, Any], None, None]:
        """`start`, `step` for each weight stream, with what it revealed if asked for, and `end`. Raises RequestError
        if a run is on already, and what the engine refuses, before the first event.
        """
        if not self._busy.acquire(blocking=False):
            raise RequestError("a run is on already; wait for its end, or stop it")
        try:
            yield from self._run(asked)
        finally:
            self._busy.release()

    def _run(self, asked: RunRequest) -> Generator[dict[str, Any], None, None]:
        llm = self._llm(asked.model)
        prompt = _prompt(llm, asked.prompt or self.models[asked.model].prompt)
        plain = llm.default_sampling_params(max_tokens=asked.max_tokens, trace=asked.trace)
        params = [replace(plain, seed=(plain.seed or 0) + number) for number in range(asked.batch)]
        stream = llm.stream([prompt] * asked.batch, params, method=asked.method)
        fresh = llm.cost_model.as_recalled()  # as it was before these steps taught it
        told = 0
        try:
            yield {
                "event": "start",
                "model": llm.title,
                "machine": llm.machine.name,
                "prompt_tokens": len(prompt),
                "max_tokens": asked.max_tokens,
            }
            for delta in stream:
                first = delta.request_id.endswith("-0") and delta.index == 0
                for step in llm.steps[told:]:
                    yield _step(step, fresh)
                told = len(llm.steps)
                if first and delta.text:
                    yield {"event": "text", "text": delta.text}
                if first and delta.trace is not None:
                    yield _revealed(delta.trace, len(prompt), llm)
        finally:
            stream.close()
        error = next((output.error for output in llm.outputs if output.error), None)
        if error is not None:
            raise RequestError(error)
        report = llm.report()
        if (asked.method, asked.batch) == (Autoregressive.name, 1) and report.decode_tokens_per_second:
            self._plain[asked.model] = report.decode_tokens_per_second
        points = _points(report, fresh, asked, self._plain.get(asked.model))
        self.points.extend(points)
        yield {"event": "end", "report": _summary(report), "points": points}

    def predictor(self, model: str) -> Predictor:
        """Predictions of a model as the executor here holds it. Raises RequestError if it is not to be run here."""
        llm = self._llm(model)
        if model not in self._predictors:
            fresh = llm.cost_model.as_recalled()
            self._predictors[model] = Predictor.of(llm.model.name, fresh, f"{llm.model.precision}, as run")
        return self._predictors[model]

    def _llm(self, name: str) -> LLM:
        if name not in self.models:
            raise RequestError(f"no model {name!r} to run here; {did_you_mean(name, self.models)}")
        with self._loading:
            if name not in self._loaded:
                self._loaded[name] = self.models[name].open()
            return self._loaded[name]


def _prompt(llm: LLM, text: str) -> list[int]:
    if llm.tokenizer.has_chat_template:
        return llm.chat_prompt([{"role": "user", "content": text}])
    return llm.tokenizer.encode(text)


def _revealed(trace: StreamTrace, prompt: int, llm: LLM) -> dict[str, Any]:
    """What a stream did to the answer: places count from its first token."""
    ends, text = llm.traits.end_ids, llm.tokenizer.token_text
    return {
        "event": "revealed",
        "rows": trace.rows,
        "tokens": [[place - prompt, _END if token in ends else text(token)] for place, token in trace.revealed],
        "computed": [place - prompt for place in trace.masked],
        "hidden": [place - prompt for place in trace.remasked],
        "in_vain": trace.in_vain,
    }


def _step(step: StepReport, fresh: CostModel) -> dict[str, Any]:
    """A weight stream: what it was, how long it took, what was allowed and expected."""
    told: dict[str, Any] = rounded(
        {
            "event": "step",
            "rows": step.rows,
            "committed": step.committed,
            "requests": step.requests,
            "prefill": step.prefill_rows > 0,
            "seconds": step.seconds,
            "floor": step.floor,
            "expected": fresh.estimate(step.cost).seconds,
            "bytes": step.cost.bytes,
            "intensity": step.cost.intensity,
            "bound": step.bound,
        }
    )
    return told


def _points(report: RunReport, fresh: CostModel, asked: RunRequest, plain: float | None) -> list[dict[str, Any]]:
    """Where the run's phases stand on the roofline, and where they were expected. plain: tokens per second of plain
    decoding of one request, if that was run before.
    """
    found = []
    batch = f", {asked.batch} at once" if asked.batch > 1 else ""
    decoded = report.decode_tokens_per_second
    prompt, answer = report.prompt_tokens // asked.batch, report.tokens // asked.batch
    phases = (
        ("prefill", report.prefill, prompt, None),
        (asked.method + batch, report.decode, answer, decoded),
    )
    for name, phase, tokens, rate in phases:
        if phase.seconds > 0:
            named = {
                "label": name,
                "name": asked.model,
                "model": report.model,
                "machine": report.machine,
                "method": asked.method,
                "batch": asked.batch,
                "tokens": tokens,
                "tokens_per_second": rate,
                "gain": rate / plain if rate and plain else None,
            }
            found.append(rounded(named | _place(phase, fresh)))
    return found


def _place(phase: Phase, fresh: CostModel) -> dict[str, Any]:
    expected = sum(fresh.estimate(step.cost).seconds for step in phase.steps)
    return {
        "intensity": phase.cost.intensity,
        "flops_per_second": phase.flops_per_second,
        "expected_flops_per_second": phase.cost.flops / expected,
        "regime": phase.bound,
    }


def _summary(report: RunReport) -> dict[str, Any]:
    plain = report.as_json()
    names = ("tokens", "weight_streams", "tokens_per_forward", "seconds", "decode_tokens_per_second", "intensity")
    kept = {name: plain[name] for name in (*names, "ridge", "roof_fraction", "bound", "drafts", "explanation")}
    wall = report.main
    kept["by_memory"] = wall.tokens / wall.floor if wall.floor > 0 else 0.0
    kept["notes"] = list(report.notes)
    summary: dict[str, Any] = rounded(kept)
    return summary


def points_of_reports(lines: str, where: str) -> list[dict[str, Any]]:
    """Points of runs that `ridgeway run --json` wrote, one report a line. Raises RequestError."""
    found = []
    for number, line in enumerate(filter(str.strip, lines.splitlines()), 1):
        try:
            plain = json.loads(line)
            decode = plain["decode"]
            found.append(
                rounded(
                    {
                        "label": plain["method"],
                        "model": plain["model"],
                        "machine": plain["machine"],
                        "intensity": float(decode["intensity"]),
                        "flops_per_second": float(decode["achieved"]["flops_per_second"]),
                        "expected_flops_per_second": decode["flops"] / decode["estimated_seconds"]["seconds"],
                        "tokens_per_second": float(plain["decode_tokens_per_second"]),
                        "regime": plain["bound"],
                    }
                )
            )
        except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
            raise RequestError(
                f"{where}, line {number}: not a report of `ridgeway run --json`: {type(error).__name__} {error}"
            ) from None
    return found
