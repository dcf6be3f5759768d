"""The contract on a real model: every lossless method yields plain decoding's tokens, all of them.

Greedy and drawn, with top-p and top-k, alone and in one batch of all methods, on the executor that `auto` names (100
prompts of 128 tokens) and on the reference (5 prompts of 32).
"""

from functools import cache
from itertools import product

import pytest

from ridgeway import LLM, SamplingParams
from ridgeway.executors.registry import EXECUTORS

UNUSED = 5  # a token that no text of SmolLM2 holds: it serves as a mask that the model was never trained to read
METHODS = ["ngram", "suffix", "recycling", "lookahead", "self-speculative:trials=8", "auto"]
METHODS += [f"verified-diffusion:mask_id={UNUSED},layout={layout}" for layout in ("linear", "quadratic", "pruned")]
ASKED = (
    "Explain {} to a child.",
    "Write a short poem about {}.",
    "List five facts about {}, one a line.",
    "Summarize: {} is old. {} is useful. Many people like it. What is said of it?",
    "Translate to French: I know a lot about {}.",
    "Write a Python function named after {}, with a docstring.",
    "Q: Who discovered {}? A:",
    "Repeat three times: {} and nothing else.",
    "Compare {} with the sea.",
    "Tell a story in which {} gets lost, then continue it, then continue it again.",
)
TOPICS = ("rain", "gravity", "the moon", "bread", "chess", "a bridge", "salt", "memory", "music", "iron")
LAWS = (
    {"temperature": 0.0},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.0, "top_k": 40},
    {"temperature": 1.0, "top_p": 0.95, "top_k": 100, "repetition_penalty": 1.1},
)


@cache
def llm_of(executor):
    return LLM("smollm2-135m", executor=executor, slots=40_000, prefix_caching=False)


def jobs(llm, count, tokens):
    """Prompts with parameters, the laws in turn."""
    prompts = [ask.replace("{}", topic) for ask, topic in product(ASKED, TOPICS)]
    chosen = prompts[:: max(1, len(prompts) // count)][:count]
    params = [
        SamplingParams(seed=number, max_tokens=tokens, ignore_eos=True, **LAWS[number % len(LAWS)])
        for number in range(count)
    ]
    return [llm.chat_prompt([{"role": "user", "content": prompt}]) for prompt in chosen], params


def differing(llm, count, tokens, method):
    """Which of the jobs differ from plain decoding, alone and with all others at once."""
    prompts, params = jobs(llm, count, tokens)
    plain = [output.outputs[0].token_ids for output in llm.generate(prompts, params, method="ar")]
    methods = method if isinstance(method, list) else [method] * count
    found = [output.outputs[0].token_ids for output in llm.generate(prompts, params, method=methods)]
    wrong = {place for place in range(count) if found[place] != plain[place]}
    if not isinstance(method, list):
        for place in range(count):
            alone = llm.generate([prompts[place]], [params[place]], method=method)[0]
            if alone.outputs[0].token_ids != plain[place]:
                wrong.add(place)
    return wrong


@pytest.mark.slow
@pytest.mark.skipif("cpu" not in EXECUTORS, reason="the fast executor is not part of this version")
@pytest.mark.parametrize("method", METHODS)
def test_a_hundred_answers_of_128_tokens_are_plain_decodings(method):
    assert not differing(llm_of("cpu"), 100, 128, method)


@pytest.mark.slow
@pytest.mark.skipif("cpu" not in EXECUTORS, reason="the fast executor is not part of this version")
def test_a_hundred_answers_by_all_methods_in_one_batch_are_plain_decodings():
    mixed = (["ar", *METHODS] * 100)[:100]
    assert not differing(llm_of("cpu"), 100, 128, mixed)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_reference_executor_agrees(method):
    assert not differing(llm_of("reference"), 5, 32, method)


@pytest.mark.skipif("cpu" not in EXECUTORS, reason="the fast executor is not part of this version")
@pytest.mark.parametrize("layout", ["linear", "quadratic"])
def test_mask_rows_change_no_token_of_a_real_model(layout):
    assert not differing(llm_of("cpu"), 4, 16, f"verified-diffusion:mask_id={UNUSED},block=3,layout={layout}")
