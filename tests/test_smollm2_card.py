"""What the card says of the real model is what was moved."""

import pytest

from ridgeway import LLM, SamplingParams
from ridgeway.roofline.card import Card
from ridgeway.roofline.report import RunReport


@pytest.fixture(scope="module")
def llm():
    return LLM("smollm2-135m", executor="reference", slots=2048)


@pytest.fixture(scope="module")
def output(llm):
    return llm.chat(
        [{"role": "user", "content": "What is a memory wall?"}], SamplingParams(seed=0, max_tokens=12), method="ar"
    )[0]


def test_bytes_are_those_of_the_tensors_held_plus_keys_and_values(llm, output):
    held = sum(llm.executor.held_bytes.values())
    slot = 30 * 2 * 3 * 64 * 4  # layers x (K, V) x heads x head size x float32
    context = len(output.prompt_token_ids)
    assert len(llm.steps) == 12
    for number, step in enumerate(llm.steps):
        assert step.cost.weight_bytes == held
        rows = context if number == 0 else 1
        assert step.cost.kv_write_bytes == rows * slot
        assert step.cost.kv_read_bytes == (context + number) * slot


def test_no_step_beats_its_floor(llm, output):
    """A step that does (the ceilings may have been measured while the machine was busy) raises the ceiling."""
    assert output.finished
    assert all(llm.cost_model.floor(step.cost) <= step.seconds * (1 + 1e-9) for step in llm.steps)
    assert sum(step.floor > step.seconds for step in llm.steps) <= 3


def test_the_card_tells_the_bytes_the_streams_and_the_bound(llm, output):
    answer = output.outputs[0]
    report = RunReport.of(
        llm.steps,
        llm.cost_model,
        model=llm.title,
        method="ar",
        prompt_tokens=len(output.prompt_token_ids),
        token_ids=answer.token_ids,
    )
    text = Card(report, llm.cost_model).as_text()
    weights = sum(llm.executor.held_bytes.values()) / 1e6
    assert f"weights {weights:.1f} MB" in text
    assert "12 tokens from 12 weight streams = 1.00 per stream" in text
    assert "SmolLM2-135M-Instruct Q4_1 | ar" in text
