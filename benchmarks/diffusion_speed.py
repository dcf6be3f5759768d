"""What many tokens per weight stream buy in time: autoregressive, block-diffusion and masked-diffusion decoding.

    python benchmarks/diffusion_speed.py --quality results/diffusion_quality.json --out results

Two models, each read in all ways with the same weights, so that nothing but the decoding differs, at batch 1:

- `toy-diffusion`, every reading at the reveal threshold that has the most tokens per forward among those whose share of
  right sentences is within --within of autoregressive decoding's, as `diffusion_quality.py` measured it. A reading that
  never gets there reveals one token a step, and the table says so.
- random weights in the shape of SmolLM2-135M, where quality means nothing: two tokens a step for all, which is what
  published models do at equal quality.

Wall-clock is the median of passes in rotating order. Predicted is what the cost model expected of each weight stream
before it ran, in the first pass, when it had seen none of them. It took 75 s on two cores.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from places import fill
from readings import AUTOREGRESSIVE, WHOLE, Reading, blocks_of
from rich.console import Console
from rich.progress import Progress

from ridgeway import LLM, SamplingParams
from ridgeway.models.loading import load_model
from ridgeway.models.model import Model
from ridgeway.roofline.plot import Point, roofline_svg
from ridgeway.roofline.report import Phase
from ridgeway.testing import toy_config, toy_model

READINGS = (AUTOREGRESSIVE, blocks_of(4), blocks_of(16), WHOLE)


@dataclass(frozen=True)
class Contender:
    """A reading with its engine and method. quality: share of right sentences, if it means something."""

    reading: Reading
    llm: LLM
    method: str
    note: str = ""
    quality: float | None = None


@dataclass(frozen=True)
class Result:
    """wall: seconds of all answers, median of passes. streams_seconds: of weight streams in one pass. predicted: of
    them, with its interval; floor: least possible. intensity: FLOPs per byte of all streams; ridge: where roofs turn.
    """

    model: str
    reading: str
    method: str
    note: str
    quality: float | None
    tokens: int
    streams: int
    tokens_per_forward: float
    wall: float
    streams_seconds: float
    predicted: tuple[float, float, float]
    floor: float
    intensity: float
    ridge: float
    bound: str

    def row(self, baseline: float) -> str:
        pace, quality = self.tokens / self.wall, "" if self.quality is None else f"{100 * self.quality:.1f}"
        middle, low, high = (1e3 * seconds for seconds in self.predicted)
        return (
            f"| {self.reading} | {self.method.partition(':')[2].replace(',', ', ') or 'plain'}{self.note} | {quality} "
            f"| {self.tokens_per_forward:.2f} | {self.intensity:.1f} | {pace:.0f} | {pace / baseline:.2f}x "
            f"| {1e3 * self.streams_seconds:.0f} | {middle:.0f} ({low:.0f} to {high:.0f}) | {1e3 * self.floor:.0f} "
            f"| {self.bound} |"
        )


def toy_contenders(model: Model, quality: Sequence[dict], within: float, **loading: Any) -> list[Contender]:
    """Every reading at its fastest setting of equal quality."""
    plain = next(item["accepted"] for item in quality if item["reading"] == AUTOREGRESSIVE.name)
    contenders = []
    for reading in READINGS:
        settings = [item for item in quality if item["reading"] == reading.name]
        equal = [item for item in settings if item["accepted"] >= plain - within]
        best = max(equal or settings[:1], key=lambda item: item["tokens_per_forward"])
        llm = LLM(reading.of(model), prefix_caching=False, **loading)
        note = "" if equal else " (of lower quality at any pace)"
        contenders.append(Contender(reading, llm, best["method"], note, best["accepted"]))
    return contenders


def shaped_contenders(tokens: int, **loading: Any) -> list[Contender]:
    """Random weights in SmolLM2-135M's shape, in 4 bits."""
    config = toy_config(
        hidden=576,
        layers=30,
        heads=9,
        kv_heads=3,
        head_dim=64,
        intermediate=1536,
        vocab_size=49152,
        max_positions=2048,
        mask_id=49151,
    )
    model = toy_model(config)
    contenders = []
    for reading in (AUTOREGRESSIVE, blocks_of(4), blocks_of(16), blocks_of(32), WHOLE):
        llm = LLM(reading.of(model), quant="q4_0", prefix_caching=False, slots=4096, **loading)
        steps = tokens // 2 if reading is WHOLE else (reading.block_size or 0) // 2
        how = "" if reading is AUTOREGRESSIVE else f"reveal=confidence,steps={steps}"
        contenders.append(Contender(reading, llm, reading.by(how)))
    return contenders


def measured(
    name: str, contenders: Sequence[Contender], prompts: Sequence[list[int]], params: SamplingParams, passes: int
) -> tuple[list[Result], list[Phase]]:
    """Every contender over all prompts, one after the other; the first pass also warms up, and predicts."""
    walls: list[list[float]] = [[] for _ in contenders]
    phases: list[list[Phase]] = [[] for _ in contenders]
    tokens = [0] * len(contenders)
    with Progress() as progress:
        task = progress.add_task(name, total=passes * len(contenders))
        for number in range(passes):
            for offset in range(len(contenders)):
                place = (number + offset) % len(contenders)
                one = contenders[place]
                steps, began, tokens[place] = [], perf_counter(), 0
                for seed, prompt in enumerate(prompts):
                    (output,) = one.llm.generate([prompt], params.but(seed=seed), method=one.method)
                    tokens[place] += len(output.outputs[0].token_ids)
                    steps += one.llm.steps
                walls[place].append(perf_counter() - began)
                phases[place].append(Phase(tuple(steps)))
                progress.advance(task)
    results, chosen = [], []
    for one, seconds, runs, count in zip(contenders, walls, phases, tokens, strict=True):
        later = seconds[1:] or seconds
        wall = sorted(later)[len(later) // 2]
        phase = runs[seconds.index(wall)]
        chosen.append(phase)
        results.append(
            Result(
                model=name,
                reading=one.reading.name,
                method=one.method,
                note=one.note,
                quality=one.quality,
                tokens=count,
                streams=phase.streams,
                tokens_per_forward=count / phase.streams,
                wall=median(later),
                streams_seconds=phase.seconds,
                predicted=tuple(runs[0].estimate),
                floor=phase.floor,
                intensity=phase.cost.intensity,
                ridge=one.llm.cost_model.ridge(phase.cost),
                bound=phase.bound,
            )
        )
    return results, chosen


def table(results: Sequence[Result]) -> str:
    baseline = results[0].tokens / results[0].wall
    return "\n".join(
        [
            f"{results[0].model}: {results[0].tokens} tokens by plain decoding; the ridge is at "
            f"{results[0].ridge:.0f} FLOPs per byte.",
            "",
            "| read as | how | accepted % | tokens per forward | FLOPs per byte | tokens/s | over plain "
            "| streams, ms | predicted, ms | floor, ms | bound |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
            *(result.row(baseline) for result in results),
        ]
    )


def picture(name: str, contenders: Sequence[Contender], phases: Sequence[Phase]) -> str:
    """All under the roof; the slant is that of plain decoding's working set."""
    llm = contenders[0].llm
    points = [Point.of(one.reading.name, phase) for one, phase in zip(contenders, phases, strict=True)]
    working_set = max(step.cost.working_set for step in phases[0].steps)
    return roofline_svg(llm.machine, llm.cost_model.arithmetic, points, f"{name} on {llm.machine.name}", working_set)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quality", type=Path, required=True, help="diffusion_quality.json")
    parser.add_argument("--within", type=float, default=0.02, help="share of right sentences that counts as equal")
    parser.add_argument("--sentences", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer of the random weights")
    parser.add_argument("--prompt", type=int, default=32, help="tokens before it")
    parser.add_argument("--passes", type=int, default=4, help="the first only warms up")
    parser.add_argument("--executor", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, required=True, help="folder for diffusion_speed.json, .md and two .svg")
    parser.add_argument("--docs", type=Path, help="a document with a place for the tables; pictures go beside it")
    options = parser.parse_args()
    quality = json.loads(options.quality.read_text())
    model = load_model(quality["model"])
    assert model.tokenizer is not None

    toys = toy_contenders(model, quality["quality"], options.within, executor=options.executor, threads=options.threads)
    begin = model.tokenizer.encode("")
    params = SamplingParams(temperature=quality["temperature"], max_tokens=model.config.max_positions - len(begin))
    toy_results, toy_phases = measured(model.name, toys, [begin] * options.sentences, params, options.passes)

    executor = "cpu" if options.executor == "auto" else options.executor  # auto keeps float32 weights as they are
    shaped = shaped_contenders(options.tokens, executor=executor, threads=options.threads)
    prompt = [int(token) for token in np.random.default_rng(0).integers(0, 49151, options.prompt)]
    params = SamplingParams(temperature=0.0, max_tokens=options.tokens, ignore_eos=True)
    name = "random weights, SmolLM2-135M's shape"
    shaped_results, shaped_phases = measured(name, shaped, [prompt], params, options.passes)

    options.out.mkdir(parents=True, exist_ok=True)
    text = f"{table(toy_results)}\n\n{table(shaped_results)}\n"
    report = {
        "machine": toys[0].llm.machine.name,
        "results": [asdict(result) for result in (*toy_results, *shaped_results)],
    }
    (options.out / "diffusion_speed.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "diffusion_speed.md").write_text(text)
    pictures = {
        "diffusion_roofline_toy.svg": picture(model.name, toys, toy_phases),
        "diffusion_roofline_135m.svg": picture(name, shaped, shaped_phases),
    }
    folders = [options.out]
    if options.docs:
        links = "\n".join(f"![Under the roof]({file})" for file in pictures)
        fill(options.docs, "diffusion_speed", f"Measured on {report['machine']}.\n\n{text}\n{links}")
        folders.append(options.docs.parent)
    for folder in folders:
        for file, svg in pictures.items():
            (folder / file).write_text(svg)
    Console(highlight=False).print(text, soft_wrap=True)


if __name__ == "__main__":
    main()
