"""Masked diffusion: the whole answer is denoised at once, and shares batches with every other kind of method."""

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from diffusion_models import IN_PLACE, MASK, NEXT, model_of

from ridgeway.core.sampling_params import SamplingParams
from ridgeway.methods.registry import make_method
from ridgeway.testing import toy_llm

GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
PROMPTS = [[3, 1, 4, 1, 5, 9, 2][:length] for length in (1, 4, 7)]
BOTH_WAYS = model_of("bidirectional")
EVERY_WAY = model_of("causal-block", NEXT)  # finished tokens are causal, so plain decoding can read it as well


def naive(llm, prompt, length, steps, block, shift=0):
    """LLaDA's algorithm, word for word: all logits anew, the surest of a block revealed, the same count each time."""
    tokens = np.array([*prompt, *[MASK] * length])
    for start in range(len(prompt), len(tokens), block):
        for _ in range(steps * block // length):
            logits = llm.logits(tokens.tolist()).astype(np.float64)
            chances = np.exp(logits - logits.max(1, keepdims=True))
            chances /= chances.sum(1, keepdims=True)
            masked = start + np.flatnonzero(tokens[start : start + block] == MASK)
            rows = masked - shift
            proposed = np.where(np.arange(logits.shape[1]) == MASK, -np.inf, logits)[rows].argmax(1)
            surest = np.argsort(-chances[rows, proposed], kind="stable")[: length // steps]
            tokens[masked[surest]] = proposed[surest]
    return tokens[len(prompt) :].tolist()


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize(("steps", "block"), [(12, 12), (4, 12), (6, 4), (12, 6)])
def test_whole_sequence_diffusion_equals_its_naive_twin_alone_and_in_a_batch(shift, steps, block):
    model = model_of("bidirectional", NEXT) if shift else BOTH_WAYS
    method = f"diffusion:steps={steps},block={block}"
    expected = [naive(toy_llm(model), prompt, 12, steps, block, shift) for prompt in PROMPTS]
    found = toy_llm(model).generate(PROMPTS, GREEDY, method=method)
    assert [o.outputs[0].token_ids for o in found] == expected
    assert [o.metrics.weight_streams for o in found] == [steps] * 3


@pytest.mark.filterwarnings("ignore:method 'diffusion'")  # a whole answer is more than a block of the model
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_batch_that_mixes_methods_gives_each_what_it_gets_alone(temperature):
    methods = [
        "ar",
        "ngram",
        "auto",
        "diffusion:steps=6",
        "diffusion:sampler=ancestral,steps=5",
        "diffusion:block=4,threshold=0.3,cache=approximate-prefix",
        "diffusion:block=4,threshold=0.3,cache=approximate-dual",
        "block-diffusion:steps=2",
        "block-diffusion:threshold=0.4,remask=0.2",
        "block-diffusion:threshold=0.4,subblock=2,cache=approximate-block",
    ]
    prompts = [[7, 3, 3, 9, 7, 3, 3][: 3 + n % 5] for n in range(len(methods))]
    params = replace(GREEDY, temperature=temperature, seed=8, max_tokens=14, logprobs=1)
    alone = [toy_llm(EVERY_WAY).generate([p], params, method=m)[0] for p, m in zip(prompts, methods, strict=True)]
    for slots, max_rows in ((4096, 512), (112, 24)):  # with few slots sequences are preempted
        llm = toy_llm(EVERY_WAY, slots=slots, max_rows=max_rows)
        for order in (slice(None), slice(None, None, -1)):
            mixed = llm.generate(prompts[order], params, method=methods[order])
            for method, one, other in zip(methods[order], alone[order], mixed, strict=True):
                assert other.error is None
                assert other.outputs[0].token_ids == one.outputs[0].token_ids, method
                assert other.outputs[0].logprobs == one.outputs[0].logprobs


def test_an_end_token_saves_the_rest_of_the_schedule():
    llm = toy_llm(BOTH_WAYS)
    params = replace(GREEDY, max_tokens=24, temperature=1.0, seed=3)
    for method in ("diffusion:block=6,steps=12", "diffusion:steps=8", "diffusion:sampler=first-hitting,block=4"):
        whole = llm.generate(PROMPTS[1], params, method=method)[0]
        end = whole.outputs[0].token_ids[9]
        stopped = llm.generate(PROMPTS[1], replace(params, stop_token_ids=[end]), method=method)[0]
        place = whole.outputs[0].token_ids.index(end)
        assert stopped.outputs[0].token_ids == whole.outputs[0].token_ids[: place + 1]
        counts = stopped.outputs[0].reveals
        assert counts.exact
        assert counts.left == whole.metrics.weight_streams - stopped.metrics.weight_streams
    assert counts.left > 0
    llm.generate(PROMPTS[1], replace(params, stop_token_ids=[end]), method="diffusion:threshold=0.5,block=4")
    assert "saved at least" in " ".join(str(llm.card()).split())
    assert llm.report().as_json()["reveals"]["saved_streams"] >= 1
    assert not llm.report().as_json()["reveals"]["saved_streams_exact"]


def test_what_an_approximate_cache_computes_is_called_approximate_everywhere():
    llm = toy_llm(BOTH_WAYS)
    exact = llm.generate(PROMPTS, GREEDY, method="diffusion:block=4,steps=12")
    assert "approximate" not in str(llm.card())
    for cache in ("prefix", "dual"):
        rough = llm.generate(PROMPTS, GREEDY, method=f"diffusion:block=4,steps=12,cache=approximate-{cache}")
        assert [o.outputs[0].token_ids for o in rough] != [o.outputs[0].token_ids for o in exact]
        assert llm.report().method == f"diffusion (approximate {cache} cache)"
        assert not llm.report().lossless
        assert f"approximate {cache} cache" in str(llm.card())
        assert rough[0].outputs[0].reveals.approximate == f"approximate {cache} cache"


def test_an_approximate_cache_computes_fewer_rows():
    llm = toy_llm(BOTH_WAYS)
    rows = {}
    for cache in ("none", "approximate-prefix", "approximate-dual"):
        llm.generate(PROMPTS[2], replace(GREEDY, max_tokens=24), method=f"diffusion:block=6,steps=24,cache={cache}")
        rows[cache] = sum(step.rows for step in llm.steps)
    assert rows["none"] == 24 * 31
    assert rows["approximate-dual"] == 4 * 31 + 20 * 6
    assert rows["approximate-dual"] < rows["approximate-prefix"] < rows["none"]


def test_an_answer_without_a_limit_goes_on_in_canvases():
    model = model_of("bidirectional", max_positions=30)
    output = toy_llm(model).generate(PROMPTS[1], replace(GREEDY, max_tokens=None), method="diffusion:length=10")[0]
    assert len(output.outputs[0].token_ids) == 26
    assert output.outputs[0].finish_reason == "length"


def test_a_canvas_of_more_rows_than_a_stream_should_have_shares_streams_with_others():
    llm = toy_llm(EVERY_WAY, max_rows=24)
    params = replace(GREEDY, max_tokens=30)
    methods = ["ar", "diffusion:steps=30", "ar", "diffusion:steps=30", "ar"]
    with pytest.warns(UserWarning, match="a whole answer is a longer one"):
        alone = [llm.generate([[5, n, 7]], params, method=method)[0] for n, method in enumerate(methods)]
    together = llm.generate([[5, n, 7] for n in range(5)], params, method=methods)
    assert [o.outputs[0].token_ids for o in together] == [o.outputs[0].token_ids for o in alone]
    assert any(step.requests >= 4 for step in llm.steps)  # all plain ones and a canvas
    whole = toy_llm(BOTH_WAYS, max_rows=24)
    whole.generate([[5, n, 7] for n in range(3)], params, method="diffusion:steps=30")
    assert {step.rows for step in whole.steps} == {33}  # one canvas at a time


def test_confidence_may_be_of_what_tokens_were_drawn_from():
    llm = toy_llm(BOTH_WAYS)
    params = replace(GREEDY, temperature=0.3, seed=1, trace=True)
    steps = {
        measured: llm.generate(PROMPTS[1], params, method=f"diffusion:steps=12,measured={measured}")[0].outputs[0].trace
        for measured in ("model", "drawn")
    }
    first = {measured: np.array(trace[0].confidence) for measured, trace in steps.items()}
    assert steps["model"][0].proposed == steps["drawn"][0].proposed
    logits = llm.logits([*PROMPTS[1], *[MASK] * 12]).astype(np.float64)[4:]
    for measured, heat in (("model", 1.0), ("drawn", 0.3)):
        scaled = np.exp(logits / heat)
        if measured == "drawn":
            scaled[:, MASK] = 0
        expected = scaled[np.arange(12), steps[measured][0].proposed] / scaled.sum(axis=1)
        assert np.allclose(first[measured], expected, atol=1e-5)
    greedy = replace(params, temperature=0)
    plain, drawn = (
        llm.generate(PROMPTS[1], greedy, method=f"diffusion:steps=12{extra}")[0] for extra in ("", ",measured=drawn")
    )
    assert plain.outputs[0].token_ids == drawn.outputs[0].token_ids


def test_the_documented_way_to_watch_it_works(capsys):
    text = (Path(__file__).parent.parent.parent / "docs" / "methods.md").read_text()
    code = text.partition("### Watching it")[2].partition("```python\n")[2].partition("```")[0]
    llm = toy_llm(model_of("block"))
    exec(code, {"llm": llm, "prompt": [8, 3, 5, 7], "SamplingParams": SamplingParams})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 * llm.outputs[0].metrics.weight_streams
    assert "None" in lines[1]


def test_every_spec_in_the_documentation_names_a_method():
    text = (Path(__file__).parent.parent.parent / "docs" / "methods.md").read_text()
    specs = re.findall(r"`((?:block-)?diffusion:[^`]*)`", text)
    values = {"steps=S": "steps=4", "block=B": "block=4", "=T": "=0.5", "=G": "=0.5", "=N": "=2", "=EPS": "=0.01"}
    assert len(specs) > 10
    for spec in specs:
        for letter, value in values.items():
            spec = re.sub(re.escape(letter) + r"\b", value, spec)
        assert make_method(spec).name == spec.partition(":")[0]


def test_a_run_is_reported_as_what_it_is():
    """Whole-sequence steps recompute the prompt, yet they decode: no prefill beyond the first. K/V are never reused."""
    llm = toy_llm(BOTH_WAYS)
    llm.generate([5] * 40, replace(GREEDY, max_tokens=24), method="diffusion:steps=8")
    report = llm.report()
    assert report.weight_streams == 8
    assert report.tokens_per_forward == 3.0
    assert len(report.prefill.steps) == 1
    assert len(report.decode.steps) == 7
    assert [step.revealed for step in llm.steps] == [3] * 8
    assert sum(step.prefill_rows for step in llm.steps) == 0
    plain = toy_llm(EVERY_WAY)
    plain.generate([5] * 40, replace(GREEDY, max_tokens=24), method="ar")
    assert report.decode.cost.intensity > 10 * plain.report().decode.cost.intensity
    assert "of 24.0" not in str(llm.card())
    assert "3.0 of" in str(llm.card())


@pytest.mark.filterwarnings("ignore:method 'diffusion'")
@pytest.mark.parametrize("attention", ["bidirectional", "block", "causal-block"])
@pytest.mark.parametrize("shift", [IN_PLACE, NEXT])
def test_no_more_streams_are_said_to_be_saved_than_there_would_have_been(attention, shift):
    llm = toy_llm(model_of(attention, shift))
    names = ["diffusion:block=5,"] if attention != "block" else []
    names += ["block-diffusion:"] if attention != "bidirectional" else []
    rules = ["threshold=0.3", "steps=2", "steps=3,threshold=0.3,reveal=threshold", "sampler=ancestral", "remask=0.4"]
    for length, rule, name in product((13, 16), rules, names):
        params = replace(GREEDY, temperature=1.0, seed=length, max_tokens=length)
        whole = llm.generate(PROMPTS[2], params, method=name + rule)[0]
        end = whole.outputs[0].token_ids[7]
        stopped = llm.generate(PROMPTS[2], replace(params, stop_token_ids=[end]), method=name + rule)[0]
        counts, saved = stopped.outputs[0].reveals, whole.metrics.weight_streams - stopped.metrics.weight_streams
        assert 0 <= counts.left <= saved, (name + rule, length)
        assert counts.left == saved or not counts.exact, (name + rule, length)
