"""Runs of the real engine for the page: each weight stream is told as it ends, and what was expected of it.

One run at a time: two would take each other's memory bandwidth, which is what the page is about.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any

from ridgeway.core.errors import RequestError, did_you_mean
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.lab.table import rounded
from ridgeway.llm import LLM
from ridgeway.models.default import BUILT_IN
from ridgeway.roofline.cost import CostModel
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.report import Phase, RunReport, StepReport

_LONGEST, _MOST = 256, 16  # tokens of an answer, requests at once


@dataclass(frozen=True)
class RunRequest:
    """What a page asks for. prompt: empty: one that suits. batch: as many requests with that prompt, other seeds.

    Raises RequestError.
    """

    model: str
    method: str = "ar"
    prompt: str = ""
    max_tokens: int = 48
    batch: int = 1

    def __post_init__(self) -> None:
        for name, value, most in (("max_tokens", self.max_tokens, _LONGEST), ("batch", self.batch, _MOST)):
            if not 1 <= value <= most:
                raise RequestError(f"{name}={value}: expected 1 to {most}")
        if len(self.prompt) > 8000:
            raise RequestError(f"a prompt of {len(self.prompt)} characters: expected at most 8,000")
        _check_runnable(self.model)


@dataclass
class Runner:
    """Keeps loaded models, and a point of every run for the roofline."""

    points: list[dict[str, Any]] = field(default_factory=list)
    _loaded: dict[str, LLM] = field(default_factory=dict)
    _predictors: dict[str, Predictor] = field(default_factory=dict)
    _loading: Lock = field(default_factory=Lock)
    _busy: Lock = field(default_factory=Lock)

    @cached_property
    def runnable(self) -> list[str]:
        """Names of the models that can be run here."""
        return list(BUILT_IN)

    def run(self, asked: RunRequest) -> Generator[dict[str, Any], None, None]:
        """`start`, `step` for each weight stream, `end`. Raises RequestError if a run is on already, and what the
        engine refuses, before the first event.
        """
        if not self._busy.acquire(blocking=False):
            raise RequestError("a run is on already; wait for its end, or stop it")
        try:
            yield from self._run(asked)
        finally:
            self._busy.release()

    def _run(self, asked: RunRequest) -> Generator[dict[str, Any], None, None]:
        llm = self._llm(asked.model)
        prompt = _prompt(llm, asked.prompt or _PROMPT)
        plain = llm.default_sampling_params(max_tokens=asked.max_tokens)
        params = [_seeded(plain, number) for number in range(asked.batch)]
        stream = llm.stream([prompt] * asked.batch, params, method=asked.method)
        fresh = llm.cost_model.holding(llm.cost_model.held_bytes)  # as it was before any step taught it
        told = 0
        try:
            yield {
                "event": "start",
                "model": llm.title,
                "machine": llm.machine.name,
                "prompt_tokens": len(prompt),
                "method": asked.method,
                "batch": asked.batch,
                "weight_bytes": llm.cost_model.weight_bytes,
            }
            for delta in stream:
                steps = llm.steps[told:]
                told += len(steps)
                for number, step in enumerate(steps):
                    text = delta.text if delta.index == 0 and delta.request_id.endswith("-0") else ""
                    yield _step(step, fresh, text if number == len(steps) - 1 else "")
                if not steps and delta.text and delta.request_id.endswith("-0"):
                    yield {"event": "text", "text": delta.text}
        finally:
            stream.close()
        error = next((output.error for output in llm.outputs if output.error), None)
        if error is not None:
            raise RequestError(error)
        report = llm.report()
        points = _points(report, fresh, asked)
        self.points.extend(points)
        yield {"event": "end", "report": _summary(report), "points": points}

    def predictor(self, model: str) -> Predictor:
        """Predictions of a model as the executor here holds it. Raises RequestError if it is not to be run here."""
        if model not in self._predictors:
            _check_runnable(model)
            llm = self._llm(model)
            fresh = llm.cost_model.holding(llm.cost_model.held_bytes)
            self._predictors[model] = Predictor.of(llm.model.name, fresh, f"{llm.model.precision}, as run")
        return self._predictors[model]

    def _llm(self, name: str) -> LLM:
        with self._loading:
            if name not in self._loaded:
                self._loaded[name] = LLM(name, progress=False)
            return self._loaded[name]


def _check_runnable(model: str) -> None:
    if model not in BUILT_IN:
        raise RequestError(f"no model {model!r} to run here; {did_you_mean(model, BUILT_IN)}")


_PROMPT = "Explain in three sentences why the sky is blue."


def _prompt(llm: LLM, text: str) -> list[int]:
    if llm.tokenizer.has_chat_template:
        return llm.chat_prompt([{"role": "user", "content": text}])
    return llm.tokenizer.encode(text)


def _seeded(params: SamplingParams, number: int) -> SamplingParams:
    from dataclasses import replace

    return replace(params, seed=(params.seed or 0) + number)


def _step(step: StepReport, fresh: CostModel, text: str) -> dict[str, Any]:
    """A weight stream: what it was, how long it took, what was allowed and expected."""
    plain = {
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
    return {**rounded(plain), "text": text}


def _points(report: RunReport, fresh: CostModel, asked: RunRequest) -> list[dict[str, Any]]:
    """Where the run's phases stand on the roofline, and where they were expected."""
    found = []
    batch = f", {asked.batch} at once" if asked.batch > 1 else ""
    decoded = report.decode_tokens_per_second
    for name, phase, rate in (("prefill", report.prefill, None), (asked.method + batch, report.decode, decoded)):
        if phase.seconds > 0:
            named = {"label": name, "model": report.model, "machine": report.machine, "tokens_per_second": rate}
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


def points_of_reports(lines: str, where: str) -> list[Mapping[str, Any]]:
    """Points of runs that `ridgeway run --json` wrote, one report a line. Raises RequestError."""
    import json

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
