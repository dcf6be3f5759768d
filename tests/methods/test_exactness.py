"""The contract on a real model: every lossless method yields plain decoding's tokens, all of them.

Greedy and drawn, with top-p and top-k, alone and in one batch of all methods, on the executor that `auto` names (100
prompts of 128 tokens) and on the reference (5 prompts of 32). The quick tests ask for less of the same.
"""

from dataclasses import replace
from functools import cache
from itertools import product

import pytest

from ridgeway import LLM, SamplingParams
from ridgeway.executors.cpu.unroller import CpuUnroller
from ridgeway.executors.draft_heads import make_unroller
from ridgeway.executors.registry import EXECUTORS
from ridgeway.testing import toy_config, toy_draft_head, toy_llm, toy_model
from ridgeway.testing.lossless import PARAMS

UNUSED = 5  # a token that no text of SmolLM2 holds: it serves as a mask that the model was never trained to read
METHODS = ["ngram", "ngram:branches=2,depth=6", "suffix", "recycling", "lookahead", "draft-head", "auto"]
METHODS += ["self-speculative:trials=8", "draft:model=first-layers,depth=3"]
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
    llm = LLM("smollm2-135m", executor=executor, slots=40_000, prefix_caching=False)
    llm.add_draft_model("first-layers", first_layers(llm.model, 12))
    return llm


def first_layers(model, layers):
    """A draft model that is right now and then, without a download."""
    config = replace(model.config, layers=layers, windows=())
    return replace(model, config=config, tensors={name: model.tensors[name] for name in config.tensor_shapes()})


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
def test_a_few_answers_by_all_methods_in_one_batch_are_plain_decodings():
    quick = [method for method in METHODS if not method.startswith("self")]  # whose search takes its time
    assert not differing(llm_of("cpu"), 20, 16, (["ar", *quick] * 20)[:20])


@pytest.mark.skipif("cpu" not in EXECUTORS, reason="the fast executor is not part of this version")
@pytest.mark.parametrize("slots", [4096, 160])
def test_on_the_cpu_executor_all_methods_keep_the_contract_with_many_and_with_few_pages(slots, monkeypatch, tmp_path):
    model = toy_model(toy_config(layers=3, head_dim=16, tied_head=False), sharpness=2.0)
    llm = toy_llm(model, executor="cpu", threads=1, slots=slots)
    llm.add_draft_model("first-layers", first_layers(model, 1))
    llm.add_draft_head(toy_draft_head(model, layer=1))
    assert isinstance(make_unroller(llm.executor, llm.draft_head), CpuUnroller)
    monkeypatch.setenv("RIDGEWAY_HOME", str(tmp_path))  # for what methods save of a model; kernels are there already
    asked = [(prompt, one) for prompt in ([4, 9, 1], [1, 2, 3, 4, 5] * 4) for one in PARAMS]
    prompts, params = [prompt for prompt, _ in asked], [one for _, one in asked]
    plain = llm.generate(prompts, params, method="ar")
    methods = [method for method in METHODS for _ in asked]
    found = llm.generate(prompts * len(METHODS), params * len(METHODS), method=methods)
    for place, output in enumerate(found):
        assert output.error is None
        expected = plain[place % len(asked)].outputs[0].token_ids
        assert output.outputs[0].token_ids == expected, (methods[place], asked[place % len(asked)])
    assert any(output.metrics.preemptions for output in found) == (slots < 1000)
