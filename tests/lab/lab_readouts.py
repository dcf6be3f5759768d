"""What the page should read out, asked of the cost model itself, and how a person reads a number."""

import re
from functools import cache

import pytest

from ridgeway.roofline.batching import batchings, saturation
from ridgeway.roofline.decoding import Autoregressive, BlockDiffusion, MaskedDiffusion, Speculative
from ridgeway.roofline.drafting import drafting
from ridgeway.roofline.workload import Workload

SI = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "m": 1e-3, "µ": 1e-6, "n": 1e-9}


def value(text):
    """The number that a person reads."""
    number, prefix = re.match(
        r"([\d.,e−-]+)\s*([kMGTPmµn]?)(?=[BFs]|FLOP|tok|%|×|$|\s)", text.replace("tok/s", "")
    ).groups()
    found = float(number.replace(",", "").replace("−", "-")) * SI[prefix]
    return found / 100 if text.endswith("%") else found


def same(text, expected):
    """To rounding: three digits."""
    return value(text) == pytest.approx(expected, rel=0.00501, abs=1e-12)


saturated = cache(saturation)  # few contexts, many positions


def expected(predictor, at):
    """Every read-out that a slider moves, asked of the cost model itself."""
    found = predictor.predict(Workload(at["prompt"], at["output"]))
    anew = predictor.predict(Workload(at["prompt"], at["output"]), Autoregressive(kv_cache=False))
    yield "passes.prefill_intensity", found.prefill.cost.intensity
    yield "passes.intensity", found.intensity
    yield "passes.decode_passes", found.passes
    yield "passes.decode_bytes", found.decode.cost.bytes
    yield "passes.prefill_seconds", found.prefill.seconds
    yield "passes.anew_times", anew.decode.cost.flops / found.decode.cost.flops
    work = Workload(at["context"] - 256, 256)
    (many,) = batchings(predictor, work, [at["batch"]])
    yield "batching.intensity_gain", many.intensity
    yield "batching.throughput_gain", many.throughput
    yield "batching.kv_share", many.prediction.capacity.kv_share
    yield "batching.saturates_at", saturated(predictor, work).batch
    yield "batching.paged_waste", many.prediction.capacity.paged_waste
    yield "batching.contiguous_waste", many.prediction.capacity.contiguous_waste
    method = Speculative(at["length"], at["acceptance"], at["cost"])
    draft = drafting(predictor, Workload(512, 256, at["at_once"]), method)
    yield "drafting.tokens", draft.tokens
    yield "drafting.speedup", draft.speedup
    yield "drafting.verdict", draft.verdict
    yield "drafting.best_length", draft.best_length or "none"
    answer = at["answer"]
    work = Workload(512, answer, ends=round(answer * at["ends"]))
    ways = {
        "plain": Autoregressive(),
        "masked": MaskedDiffusion(-(-answer // at["per_step"])),
        "block": BlockDiffusion(at["block"], at["per_step"]),
    }
    for way, how in ways.items():
        found = predictor.predict(work, how)
        yield f"diffusion.{way}_passes", round(found.passes)
        yield f"diffusion.{way}_wasted", found.wasted
