"""Step by step what the published samplers do, through the real loader and engine, alone and in mixed batches."""

from functools import cache

import numpy as np
import pytest
from transcripts import GOLDEN, METHODS, transcripts

from ridgeway.testing import bf16, toy_llm

MODELS = [model for model in METHODS if (GOLDEN / model).exists()]
CASES = [case for model in MODELS for case in transcripts(model)]


@cache
def llm_of(model):
    return toy_llm(str(model))


def steps_of(output):
    assert output.error is None, output.error
    return [sorted(step.revealed) for step in output.outputs[0].trace]


@pytest.mark.filterwarnings("ignore:method 'block-diffusion'")  # a block size that the model was not trained with
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_transcript_is_reproduced_step_by_step(case):
    output = llm_of(case.model).generate(case.prompt, case.params, method=case.method)[0]
    assert steps_of(output) == [sorted(reveals) for reveals in case.reveals]
    assert all(output.outputs[0].logprobs)


@pytest.mark.filterwarnings("ignore:method 'block-diffusion'")
@pytest.mark.parametrize("slots", [4096, 160])
@pytest.mark.parametrize("model", MODELS)
def test_all_transcripts_of_a_model_are_reproduced_in_one_batch(model, slots):
    """With few slots sequences are preempted, and approximate K/V that were held are lost and computed once more."""
    cases = transcripts(model)
    llm = toy_llm(str(GOLDEN / model), slots=slots, max_rows=64)
    outputs = llm.generate(
        [case.prompt for case in cases], [case.params for case in cases], method=[case.method for case in cases]
    )
    for case, output in zip(cases, outputs, strict=True):
        found = [step for step in steps_of(output) if step]
        assert found == [sorted(reveals) for reveals in case.reveals if reveals], case.name


@pytest.mark.filterwarnings("ignore:method 'block-diffusion'")
@pytest.mark.parametrize("model", [model for model in MODELS if model != "bd3lm"])  # which has norms of another kind
def test_the_cpu_executor_does_what_the_reference_does_that_rounds_alike(model):
    """Near a threshold that rounding decides what is revealed, in about one transcript of seven; nothing else does."""
    cpu, reference = (toy_llm(str(GOLDEN / model), executor=name, threads=1) for name in ("cpu", "reference"))
    reference.executor._rounded = bf16
    tokens = list(range(64))
    for visibility, cached in (("own", 0), ("own", 32), ("bidirectional", 0), ("block(8)", 48), ("causal", 0)):
        expected = reference.logits(tokens, visibility=visibility, cached=cached)
        found = cpu.logits(tokens, visibility=visibility, cached=cached)
        assert np.abs(found - expected).mean() < 5e-3  # a sum in another order may round a value the other way
    for case in transcripts(model):
        found, expected = (llm.generate(case.prompt, case.params, method=case.method)[0] for llm in (cpu, reference))
        assert steps_of(found) == steps_of(expected), case.name
