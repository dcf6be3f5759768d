"""What the six figures of the page show, and the stops of their sliders.

Each is a walk over sliders that asks the predictor: what a figure names is what a prediction, a judged draft or a
batch calls so. Nothing is derived here that the cost model does not say.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import product
from typing import Any

from ridgeway.lab.table import Figure, Row
from ridgeway.roofline.advice import Plain
from ridgeway.roofline.anatomy import token_parts
from ridgeway.roofline.batching import batchings, saturation
from ridgeway.roofline.decoding import (
    Autoregressive,
    BlockDiffusion,
    Decoding,
    Lookahead,
    MaskedDiffusion,
    SelfSpeculative,
    Speculative,
)
from ridgeway.roofline.drafting import draftings
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.prediction import Prediction, Work
from ridgeway.roofline.workload import Workload

# Lengths where a slider does not say: a question of a page, an answer of a few paragraphs.
PROMPT, OUTPUT = 512, 256


def _place(prediction: Prediction) -> dict[str, float | str]:
    """Where decoding stands on the roofline, and what it comes from."""
    return {
        "intensity": prediction.intensity,
        "flops_per_second": prediction.flops_per_second,
        "flops_per_token": prediction.flops_per_token,
        "bytes_per_token": prediction.bytes_per_token,
        "regime": prediction.regime,
    }


def _wall(predictor: Predictor) -> dict[str, Any]:
    model, machine = predictor.cost_model, predictor.machine
    plain = Plain.of(model, 1, 0)
    cost, (expected, slow, fast) = plain.cost, plain.tokens_per_second
    alone = predictor.predict(Workload(1, 1)).capacity
    return {
        "layers": model.config.layers,
        "parts": [{key: value for key, value in asdict(part).items() if key != "name"} for part in token_parts(model)],
        "memory_bytes": machine.memory_bytes,
        "cache_bytes": machine.cache_bytes,
        "bandwidth": machine.bandwidth(cost.working_set),
        "peak": machine.compute(model.arithmetic),
        "arithmetic": model.arithmetic,
        "source": machine.source,
        "note": machine.note,
        "weight_bytes": cost.weight_bytes,
        "held_bytes": model.weight_bytes,
        "weight_share": alone.weight_share,
        "largest_batch": alone.largest_batch,
        "flops": cost.flops,
        "memory_seconds": model.memory_seconds(cost),
        "compute_seconds": model.compute_seconds(cost),
        "by_arithmetic": plain.arithmetic,
        "by_memory": plain.memory,
        "ratio": plain.arithmetic / plain.memory,
        "ridge": model.ridge(cost),
        "expected": expected,
        "slow": slow,
        "fast": fast,
        "parameters": model.config.parameters,
        "max_positions": model.config.max_positions,
        "thousand_bytes": 1000 * cost.weight_bytes,
    }


WALL = Figure("wall", {}, {}, facts=_wall)

_PROMPTS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_OUTPUTS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


def _passes(predictor: Predictor, position: Mapping[str, float]) -> Iterator[Row]:
    for prompt, output in product(_PROMPTS, _OUTPUTS):
        work = Workload(prompt, output)
        found = predictor.predict(work)
        anew = predictor.predict(work, Autoregressive(kv_cache=False))
        prefill = found.prefill
        yield {
            "prefill_passes": prefill.streams,
            "prefill_intensity": prefill.cost.intensity,
            "prefill_regime": prefill.bound,
            "prefill_bytes": float(prefill.cost.bytes),
            "prefill_flops": float(prefill.cost.flops),
            "prefill_seconds": prefill.seconds,
            "prefill_flops_per_second": _rate(prefill),
            "decode_passes": found.passes,
            "decode_bytes": float(found.decode.cost.bytes),
            "decode_seconds": found.decode.seconds,
            "anew_flops": float(anew.decode.cost.flops),
            "anew_times": anew.decode.cost.flops / found.decode.cost.flops,
            **_place(found),
        }


PASSES = Figure("passes", {}, {"prompt": _PROMPTS, "output": _OUTPUTS}, _passes)

_CONTEXTS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def _batching(predictor: Predictor, position: Mapping[str, float]) -> Iterator[Row]:
    for context in _CONTEXTS:
        work = Workload(context - OUTPUT, OUTPUT)
        end = saturation(predictor, work)
        for many in batchings(predictor, work, _BATCHES):
            found, room = many.prediction, many.prediction.capacity
            yield {
                "intensity_gain": many.intensity,
                "throughput_gain": many.throughput,
                "floor_gain": many.floor_throughput,
                "total": found.estimate.total,
                "per_request": found.estimate.per_request,
                "kv_bytes": float(room.kv),
                "kv_share": room.kv_share,
                "weight_share": room.weight_share,
                "paged_share": room.kv_paged / room.memory if room.memory else 0.0,
                "contiguous_share": room.kv_contiguous / room.memory if room.memory else 0.0,
                "usable_share": room.usable / room.memory if room.memory else 0.0,
                "paged_waste": room.paged_waste,
                "contiguous_waste": room.contiguous_waste,
                "largest_batch": room.largest_batch,
                "largest_contiguous": room.largest_batch_contiguous,
                "fits": int(room.fits),
                "kv_traffic": found.decode.cost.kv_bytes / found.decode.cost.bytes,
                "saturates_at": end.batch,
                "saturates_why": end.why,
                **_place(found),
            }


BATCHING = Figure("batching", {}, {"context": _CONTEXTS, "batch": _BATCHES}, _batching)

_ACCEPTANCES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
_COSTS = (0.0, 0.02, 0.05, 0.1, 0.3)
_LENGTHS = tuple(range(1, 17))
_DRAFTED_BATCHES = (1, 4, 16, 64, 256)


def _drafting(predictor: Predictor, position: Mapping[str, float]) -> Iterator[Row]:
    method = Speculative(acceptance=position["acceptance"], draft_cost=position["cost"])
    for batch in _DRAFTED_BATCHES:
        for draft in draftings(predictor, Workload(PROMPT, OUTPUT, batch), method, _LENGTHS):
            yield {
                "tokens": draft.tokens,
                "speedup": draft.speedup,
                "floor_speedup": draft.floor_speedup,
                "best_length": draft.best_length,
                "best_speedup": draft.best_speedup,
                "verdict": draft.verdict,
                **_place(draft.prediction),
            }


DRAFTING = Figure(
    "drafting",
    {"acceptance": _ACCEPTANCES, "cost": _COSTS},
    {"at_once": _DRAFTED_BATCHES, "length": _LENGTHS},
    _drafting,
)

_ANSWERS = (128, 256, 512, 1024)
_BLOCKS = (8, 16, 32, 64, 128)
_PER_STEP = (1, 2, 4, 8)
_ENDS = (0.25, 0.5, 0.75, 1.0)


def _diffusion(predictor: Predictor, position: Mapping[str, float]) -> Iterator[Row]:
    answer = int(position["answer"])
    for block, per_step, ends in product(_BLOCKS, _PER_STEP, _ENDS):
        work = Workload(PROMPT, answer, ends=max(1, round(answer * ends)))
        methods: dict[str, Decoding] = {
            "plain": Autoregressive(),
            "masked": MaskedDiffusion(-(-answer // per_step)),
            "block": BlockDiffusion(block, per_step),
        }
        row: dict[str, Any] = {"useful": work.useful}
        for name, method in methods.items():
            found = predictor.predict(work, method)
            row |= {f"{name}_{key}": value for key, value in _place(found).items()}
            row |= {
                f"{name}_passes": round(found.passes),
                f"{name}_seconds": found.estimate.answer,
                f"{name}_wasted": found.wasted,
                f"{name}_tokens": found.tokens_per_forward,
            }
        yield row


DIFFUSION = Figure(
    "diffusion", {"answer": _ANSWERS}, {"block": _BLOCKS, "per_step": _PER_STEP, "ends": _ENDS}, _diffusion
)


def _roofline(predictor: Predictor) -> dict[str, Any]:
    """The roof, and workloads that have no sliders."""
    model, work = predictor.cost_model, Workload(PROMPT, OUTPUT)
    plain = predictor.predict(work)
    others: list[tuple[str, Decoding]] = [("self-speculative", SelfSpeculative()), ("lookahead", Lookahead())]
    points = []
    for name, method in others:
        found = predictor.predict(work, method)
        points.append(
            {
                "name": name,
                "assumed": ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in method.assumptions.items()),
                "tokens_per_forward": found.tokens_per_forward,
                "gain": found.estimate.total / plain.estimate.total,
                **_place(found),
            }
        )
    return {
        "machine": predictor.machine.name,
        "source": predictor.machine.source,
        "arithmetic": model.arithmetic,
        "peak": plain.peak_compute,
        "bandwidth": model.machine.bandwidth(plain.decode.cost.working_set),
        "ridge": plain.ridge,
        "points": [{"name": "decode, one request", "assumed": "", **_place(plain)}, *points],
    }


ROOFLINE = Figure("roofline", {}, {}, facts=_roofline)

FIGURES: Mapping[str, Figure] = {
    figure.name: figure for figure in (WALL, PASSES, BATCHING, DRAFTING, DIFFUSION, ROOFLINE)
}


def _rate(work: Work) -> float:
    return work.cost.flops / work.seconds if work.seconds > 0 else 0.0
