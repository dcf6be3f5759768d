"""Tiny random checkpoints of every architecture, through the real loader, against what transformers computed."""

import json
from pathlib import Path

import numpy as np
import pytest

from ridgeway.core.sampling_params import SamplingParams
from ridgeway.models.loading import load_model
from ridgeway.testing import toy_llm

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = {path.name: json.loads((path / "cases.json").read_text()) for path in sorted(GOLDEN.iterdir())}
NAMES = [name for name, cases in CASES.items() if "mask_id" not in cases]
TOLERANCE = 1e-4


@pytest.fixture(params=NAMES, scope="module")
def case(request):
    folder = GOLDEN / request.param
    llm = toy_llm(load_model(folder), max_rows=16)
    return llm, CASES[request.param], np.load(folder / "logits.npz")


def test_every_architecture_has_a_golden_checkpoint():
    assert {"llama_tied", "llama_untied", "llama3_rope", "mistral", "qwen2", "qwen3"} <= set(NAMES)


@pytest.mark.parametrize("cached", [0, 1, 7, 11])
def test_logits_agree_whole_and_behind_a_cached_prefix(case, cached):
    llm, cases, expected = case
    for one in cases["logits"]:
        found = llm.logits(one["input_ids"], cached=cached)
        assert found.dtype == np.float32
        assert np.abs(found - expected[one["array"]][cached:]).max() < TOLERANCE


def test_log_probabilities_agree_in_chunks_and_ragged_batches(case):
    """Through the engine: prompts of different lengths, cut into chunks of at most 16 rows."""
    llm, cases, expected = case
    prompts = [one["input_ids"] for one in cases["logits"]]
    outputs = llm.generate(prompts, SamplingParams(max_tokens=1, seed=0, prompt_logprobs=0))
    assert max(step.rows for step in llm.steps) <= 16
    assert len(llm.steps) > 2
    for one, output in zip(cases["logits"], outputs, strict=True):
        logits = expected[one["array"]].astype(np.float64)
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        for place, token in enumerate(one["input_ids"][1:]):
            assert abs(output.prompt_logprobs[place + 1][token].logprob - logprobs[place, token]) < TOLERANCE


def test_greedy_transcripts_are_identical(case):
    llm, cases, _ = case
    prompts = [one["prompt"] for one in cases["generate"]]
    params = [
        SamplingParams(temperature=0, max_tokens=one["max_new_tokens"], ignore_eos=True) for one in cases["generate"]
    ]
    outputs = llm.generate(prompts, params)
    assert [o.outputs[0].token_ids for o in outputs] == [one["tokens"] for one in cases["generate"]]
