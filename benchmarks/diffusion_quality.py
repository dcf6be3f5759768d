"""What revealing many tokens at once costs in quality: bounds on the likelihood, and sentences that a grammar accepts.

    python benchmarks/diffusion_quality.py --out results                  # toy-diffusion, some minutes
    python benchmarks/diffusion_quality.py -m OUT/model --sentences 100 --out other

The model was trained on sentences of `ridgeway.training.grammar.ANIMALS`, whose every probability is known. So two
questions have exact answers: how many nats above the entropy of the language its bounds are, for each block size, as
Arriola et al. (2025) compare them, and what share of the sentences that it writes is right, for each reveal threshold.
Needs torch (`pip install 'ridgeway[train]'`) for the bounds; sentences are written by the engine.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, log
from pathlib import Path

import numpy as np
import torch
from places import fill
from readings import AUTOREGRESSIVE, WHOLE, Reading, blocks_of
from rich.console import Console
from rich.progress import track

from ridgeway import LLM, SamplingParams
from ridgeway.models.loading import load_model
from ridgeway.models.model import Model
from ridgeway.training.bound import causal_likelihood, likelihood_bound
from ridgeway.training.curves import curves_svg
from ridgeway.training.decoder import Decoder
from ridgeway.training.grammar import ANIMALS
from ridgeway.training.objective import Objective, Texts
from ridgeway.training.texts import Sentences

HELD_OUT = 1_000_003  # a seed of its own
THRESHOLDS = (0.99, 0.9, 0.7, 0.5, 0.3)


@dataclass(frozen=True)
class Bound:
    """nats: of a sentence, at most, over the held-out ones; error: one standard deviation of what the mean lies above
    the truth. truth: nats of the same sentences in the grammar itself.
    """

    reading: str
    nats: float
    error: float
    truth: float
    bytes: float

    def row(self) -> str:
        above = self.nats - self.truth
        return (
            f"| {self.reading} | {self.nats:.2f} | {self.nats / self.bytes / log(2):.3f} "
            f"| {exp(self.nats / self.bytes):.3f} | {above:.2f} ± {self.error:.2f} |"
        )


@dataclass(frozen=True)
class Quality:
    """accepted: share of the sentences that are right. surprise: nats of those in the grammar; below its entropy, the
    model keeps to the likelier ones.
    """

    reading: str
    method: str
    revealed: str
    sentences: int
    accepted: float
    tokens_per_forward: float
    surprise: float

    def row(self) -> str:
        error = (self.accepted * (1 - self.accepted) / self.sentences) ** 0.5
        accepted = f"{100 * self.accepted:.1f} ± {100 * error:.1f}"
        return (
            f"| {self.reading} | {self.revealed} | {self.tokens_per_forward:.2f} | {accepted} | {self.surprise:.1f} |"
        )


def bounds(model: Model, sentences: int, draws: int) -> list[Bound]:
    """Of the autoregressive reading and of blocks of 1, 4, 16 and the whole text."""
    assert model.tokenizer is not None
    decoder = Decoder(model.config)
    decoder.load({name: tensor.dequantize() for name, tensor in model.tensors.items()})
    corpus = Sentences(ANIMALS, model.tokenizer, model.config.max_positions, model.config.end_ids[0])
    generator = np.random.default_rng(HELD_OUT)
    drawn = [ANIMALS.sample(generator) for _ in range(sentences)]
    truth = torch.tensor([-log(ANIMALS.probability(sentence)) for sentence in drawn])
    texts = corpus.collate([corpus.document(sentence) for sentence in drawn])
    size = sum(len(sentence) + 1 for sentence in drawn) / len(drawn)  # the end token is predicted as well

    def found(reading: Reading, nats: torch.Tensor) -> Bound:
        error = float((nats - truth).std()) / len(drawn) ** 0.5
        return Bound(reading.name, float(nats.mean()), error, float(truth.mean()), size)

    with torch.no_grad():
        results = [found(AUTOREGRESSIVE, causal_likelihood(decoder, texts))]
    for reading in track([blocks_of(1), blocks_of(4), blocks_of(16), WHOLE], "bounds"):
        results.append(found(reading, bound_of(decoder, reading, texts, draws)))
    return results


def bound_of(decoder: Decoder, reading: Reading, texts: Texts, draws: int) -> torch.Tensor:
    """(batch,) nats."""
    mask_id = decoder.config.mask_id
    assert mask_id is not None
    objective = Objective(reading.block_size, mask_id)
    return likelihood_bound(decoder, objective, texts, torch.Generator().manual_seed(HELD_OUT), draws)


def qualities(
    model: Model, readings: Sequence[Reading], sentences: int, temperature: float, executor: str
) -> list[Quality]:
    """One token a step, and every threshold, of every reading."""
    results = []
    for reading in readings:
        llm = LLM(reading.of(model), executor=executor)
        for revealed, how in track(settings(reading).items(), reading.name):
            results.append(quality(llm, reading, reading.by(how), revealed, sentences, temperature))
    return results


def settings(reading: Reading) -> dict[str, str]:
    """What is revealed in a step, and the method's options that say so."""
    if reading is AUTOREGRESSIVE:
        return {"one token a step": ""}
    if reading.block_size == 1:
        return {"one token a step": "reveal=confidence"}
    return {
        "one token a step": "reveal=confidence",
        "one token a step, any": "reveal=random",
        **{f"threshold {value:g}": f"threshold={value}" for value in THRESHOLDS},
    }


def quality(llm: LLM, reading: Reading, method: str, revealed: str, sentences: int, temperature: float) -> Quality:
    """Sentences from nothing but the token that begins a text."""
    begin = llm.tokenizer.encode("")
    longest = llm.traits.max_positions - len(begin)
    params = [SamplingParams(temperature=temperature, seed=seed, max_tokens=longest) for seed in range(sentences)]
    outputs = llm.generate([begin] * sentences, params, method=method)
    texts = [output.outputs[0].text for output in outputs]
    right = [ANIMALS.probability(text) for text in texts]
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    return Quality(
        reading=reading.name,
        method=method,
        revealed=revealed,
        sentences=sentences,
        accepted=sum(p > 0 for p in right) / sentences,
        tokens_per_forward=tokens / sum(output.metrics.weight_streams for output in outputs),
        surprise=-sum(log(p) for p in right if p) / max(1, sum(p > 0 for p in right)),
    )


def markdown(found: Sequence[Bound], curve: Sequence[Quality]) -> str:
    """Both tables."""
    lines = [
        f"The grammar's entropy is {ANIMALS.entropy():.2f} nats a sentence.",
        "",
        "| read as | nats per sentence, at most | bits per byte | perplexity per byte | nats above the grammar |",
        "|---|---:|---:|---:|---:|",
        *(bound.row() for bound in found),
        f"| the grammar itself, same sentences | {found[0].truth:.2f} | {found[0].truth / found[0].bytes / log(2):.3f} "
        f"| {exp(found[0].truth / found[0].bytes):.3f} | |",
        "",
        "| read as | revealed | tokens per forward | accepted % | nats of accepted sentences |",
        "|---|---|---:|---:|---:|",
        *(quality.row() for quality in curve),
    ]
    return "\n".join(lines) + "\n"


def picture(curve: Sequence[Quality]) -> str:
    series: dict[str, list[tuple[float, float]]] = {}
    for quality in curve:
        if quality.revealed.endswith("any"):
            continue
        series.setdefault(quality.reading, []).append((quality.tokens_per_forward, 100 * quality.accepted))
    named = {name: sorted(points) for name, points in series.items()}
    return curves_svg(
        "Quality against tokens per forward, toy-diffusion",
        "tokens per forward",
        "% of sentences that the grammar accepts",
        named,
        marks=True,
        bottom=0.0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="toy-diffusion")
    parser.add_argument("--sentences", type=int, default=400, help="written for each point of the curve")
    parser.add_argument("--held-out", type=int, default=128, help="sentences that the bounds are of")
    parser.add_argument("--draws", type=int, default=64, help="of masks, for blocks that are not enumerated")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--executor", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="folder for diffusion_quality.json, .md and .svg")
    parser.add_argument("--docs", type=Path, help="a document with a place for the tables; the picture goes beside it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_model(options.model)
    found = bounds(model, options.held_out, options.draws)
    readings = [AUTOREGRESSIVE, blocks_of(1), blocks_of(4), blocks_of(16), WHOLE]
    curve = qualities(model, readings, options.sentences, options.temperature, options.executor)
    text = markdown(found, curve)
    options.out.mkdir(parents=True, exist_ok=True)
    report = {
        "model": model.name,
        "temperature": options.temperature,
        "entropy": ANIMALS.entropy(),
        "bounds": [asdict(bound) for bound in found],
        "quality": [asdict(quality) for quality in curve],
    }
    (options.out / "diffusion_quality.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "diffusion_quality.md").write_text(text)
    (options.out / "diffusion_quality.svg").write_text(picture(curve))
    if options.docs:
        drawn = (
            f"Bounds of {options.held_out} held-out sentences, with {options.draws} draws of masks each where sets are "
            f"too many to count; {options.sentences} sentences written for each row, at temperature "
            f"{options.temperature:g}."
        )
        fill(options.docs, "diffusion_quality", f"{drawn}\n\n{text}")
        (options.docs.parent / "diffusion_quality.svg").write_text(picture(curve))
    Console(highlight=False).print(text, soft_wrap=True)


if __name__ == "__main__":
    main()
