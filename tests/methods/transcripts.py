"""Sampler transcripts of the published implementations, and the requests that ask for the same thing here.

`tests/golden/*/cases.json` records what the reference implementations did to tiny checkpoints, step by step; SOURCE.txt
says with which code. docs/methods.md has the table of their settings in our words.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ridgeway.core.sampling_params import SamplingParams
from ridgeway.methods.block_diffusion import BlockDiffusion
from ridgeway.methods.diffusion import Diffusion
from ridgeway.methods.reveal import Random, RevealRule

GOLDEN = Path(__file__).parent.parent / "golden"


@dataclass(frozen=True)
class Drawn(RevealRule):
    """Reveals what a reference drew at random: at each step, the index of a masked position."""

    draws: tuple[int, ...]
    prompt: int
    adaptive = False
    by = Random()

    def choose(self, masked, count):
        chosen = np.zeros(len(masked), dtype=np.bool_)
        size = 4
        block_end = (int(masked.positions[-1]) // size + 1) * size
        revealed_before = block_end - len(masked) - self.prompt  # blocks go from left to right, one token a step
        chosen[self.draws[revealed_before]] = True
        return chosen


@dataclass(frozen=True)
class Transcript:
    """name: model and case. reveals: of each stream of the reference, in order, (position, token) pairs.

    method, params, prompt: what asks for the same. streams: how many the reference took that we take too.
    """

    name: str
    model: Path
    prompt: list[int]
    method: BlockDiffusion | Diffusion
    params: SamplingParams
    reveals: list[list[tuple[int, int]]]


def transcripts(model: str) -> list[Transcript]:
    """All transcripts of a golden checkpoint."""
    folder = GOLDEN / model
    cases = json.loads((folder / "cases.json").read_text())
    return [_transcript(f"{model}-{case['name']}", folder, case) for case in cases["generate"]]


def _transcript(name: str, folder: Path, case: dict) -> Transcript:
    method, stop = METHODS[folder.name](case)
    stop = stop or case["settings"].get("stop_ids")
    reveals = [[(position, token) for position, token in forward["revealed"]] for forward in case["forwards"]]
    if folder.name in ("sdar", "bd3lm") and case["forwards"][-1]["kind"] == "commit":
        reveals.pop()  # the references compute K/V of the last block too, for nothing
    length = len(case["final"]) - len(case["prompt"])
    params = SamplingParams(
        temperature=0,
        max_tokens=length,
        ignore_eos=True,
        stop_token_ids=stop,
        trace=True,
        logprobs=1,
    )
    return Transcript(name, folder, case["prompt"], method, params, reveals)


def _llada(case: dict):
    settings = case["settings"]
    cache = next((c for c in ("prefix", "dual") if case["sampler"].startswith(c)), None)
    adaptive = {"reveal": "threshold", "threshold": settings["threshold"]} if "threshold" in settings else None
    return (
        Diffusion(
            block=settings["block_length"],
            cache=f"approximate-{cache}" if cache else "none",
            **(adaptive or {"steps": settings["steps"], "reveal": "confidence"}),
        ),
        None,
    )


def _dream(case: dict):
    settings = case["settings"]
    cache = f"approximate-{case['sampler'].split('_')[0]}" if "cache" in case["sampler"] else "none"
    block = settings.get("block_length")
    if settings["alg"] != "confidence_threshold":
        names = {"maskgit_plus": "confidence", "topk_margin": "margin", "entropy": "entropy"}
        chosen = {"reveal": names[settings["alg"]], "sampler": "expected", "end_time": settings["eps"]}
        return Diffusion(steps=settings["steps"], block=block, cache=cache, **chosen), None
    chosen = {"reveal": "threshold", "threshold": settings["threshold"]}
    if cache == "none":
        chosen |= {"steps": settings["steps"], "pace": "ceiling"}
    return Diffusion(block=block, cache=cache, **chosen), None


def _sdar(case: dict):
    settings = case["settings"]
    strategies = {
        "low_confidence_static": {"reveal": "confidence"},
        "sequential": {"reveal": "left-to-right"},
        "low_confidence_dynamic": {"reveal": "threshold", "threshold": settings.get("confidence_threshold", 0.9)},
    }
    return (
        BlockDiffusion(
            steps=settings["denoising_steps"],
            block=settings["block_length"],
            fuse=False,
            **strategies[settings["remasking_strategy"]],
        ),
        None,
    )


def _bd3lm(case: dict):
    rule = Drawn(tuple(case["mask_draws"]), len(case["prompt"]))
    return BlockDiffusion(sampler="first-hitting", reveal=rule, fuse=not case["settings"]["kv_cache"]), None


def _fast_dllm_v2(case: dict):
    settings = case["settings"]
    return (
        BlockDiffusion(
            reveal="threshold",
            threshold=settings["threshold"],
            block=settings["block_size"],
            subblock=settings["small_block_size"],
            cache="approximate-block" if settings["use_block_cache"] else "exact",
            fuse=False,
            mask_id=316,  # the reference takes it as an argument, its configuration does not have it
        ),
        [settings["stop_token"]] if settings["stop_token"] < 320 else None,
    )


METHODS = {"llada": _llada, "dream": _dream, "sdar": _sdar, "bd3lm": _bd3lm, "fast_dllm_v2": _fast_dllm_v2}
