"""Block diffusion: a finished block's K/V are exact, its commit is free, and an end token ends the answer at once."""

from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from diffusion_models import IN_PLACE, MASK, NEXT, model_of, uncached
from transcripts import GOLDEN

from ridgeway.core.errors import MethodError
from ridgeway.core.query import NOTHING
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.engine.request import Request
from ridgeway.methods.block_diffusion import BlockDiffusion
from ridgeway.methods.registry import make_method
from ridgeway.testing import toy_llm

GREEDY = SamplingParams(temperature=0, max_tokens=13, ignore_eos=True)
PROMPTS = [[3, 1, 4, 1, 5, 9, 2, 6, 5][:length] for length in range(1, 10)]
BLOCK = model_of("block")
TOYS = {"block": BLOCK, "causal-block": model_of("causal-block"), "shifted": model_of("causal-block", NEXT)}
RULES = ["reveal=confidence", "threshold=0.3", "sampler=ancestral,steps=3", "threshold=0.3,remask=0.4"]
TOP = "block-diffusion:reveal=confidence"


@dataclass(frozen=True)
class Recorded(BlockDiffusion):
    """Keeps every canvas that was denoised, with the logits that were read."""

    seen: list = field(default_factory=list, compare=False)

    def plan(self, sequence, rows, draft):
        query = super().plan(sequence, rows, draft)
        if query.read is NOTHING:
            return query
        return query.reading(replace(query.read, measures=query.read.measures | {"logits"}))

    def commit(self, sequence, query, answer):
        start = sequence.state.start
        if len(query.read) and query.positions[-1] >= start:
            tokens = [*sequence.tokens[: query.positions[0]], *query.tokens]
            self.seen.append((tokens, start, query.positions[query.read.rows], answer.logits))
        return super().commit(sequence, query, answer)


@pytest.mark.parametrize("model", [*TOYS, "sdar", "fast_dllm_v2", "bd3lm"])
def test_cached_equals_uncached_after_every_block_with_every_prompt_in_mixed_batches(model):
    llm = toy_llm(TOYS.get(model) or str(GOLDEN / model), max_rows=48)
    size = llm.traits.block_size
    prompts = [[(7 * n + length) % 50 + 4 for n in range(length)] for length in range(1, 2 * size + 1)]
    if size > 8:
        prompts = prompts[:: size // 8]
    params = replace(GREEDY, max_tokens=3 * size - 1)
    if llm.traits.max_positions < 80:
        prompts, params = prompts[:8], replace(GREEDY, max_tokens=20)
    mask = 316 if model == "fast_dllm_v2" else None
    methods = [Recorded(threshold=(0.2, 0.4)[n % 2], fuse=n % 3 > 0, mask_id=mask) for n in range(len(prompts))]
    outputs = llm.generate(prompts, params, method=methods)
    assert not any(output.error for output in outputs)
    checked = 0
    for method in methods:
        for tokens, start, rows, logits in method.seen[:: 1 if size < 8 else 5]:
            inside = rows >= start
            expected = uncached(llm, tokens, start, len(tokens))[rows[inside] - start]
            assert np.abs(logits[inside] - expected).max(initial=0) < 1e-5
            checked += inside.sum()
    assert checked > 100


@pytest.mark.parametrize("model", [BLOCK, model_of("causal-block")])
@pytest.mark.parametrize("rule", RULES)
def test_a_commit_fused_with_the_next_block_changes_nothing_and_saves_a_stream_per_block(model, rule):
    params = replace(GREEDY, temperature=0.8, seed=4, max_tokens=16)
    fused, separate = (
        toy_llm(model).generate(PROMPTS, params, method=f"block-diffusion:{rule},fuse={fuse}") for fuse in ("yes", "no")
    )
    for one, other in zip(fused, separate, strict=True):
        assert one.outputs[0].token_ids == other.outputs[0].token_ids
        prompt = len(one.prompt_token_ids)
        blocks = (prompt + 16 - 1) // 4 - prompt // 4 if model is BLOCK else 3
        prefill = 1 if prompt >= 4 or model is not BLOCK else 0
        assert other.metrics.weight_streams - one.metrics.weight_streams == blocks + prefill


def test_left_to_right_with_blocks_of_one_is_autoregressive_decoding():
    model = model_of("causal-block", NEXT, block_size=1)
    params = replace(GREEDY, logit_bias={MASK: -np.inf})  # plain decoding knows of no mask
    plain, blocks = (toy_llm(model).generate(PROMPTS, params, method=name) for name in ("ar", "block-diffusion"))
    assert [o.outputs[0].token_ids for o in plain] == [o.outputs[0].token_ids for o in blocks]
    assert [o.metrics.weight_streams for o in plain] == [o.metrics.weight_streams for o in blocks]


def test_threshold_one_is_one_token_a_step():
    ones, tops = (
        toy_llm(BLOCK).generate(PROMPTS, GREEDY, method=f"block-diffusion:{rule}")
        for rule in ("threshold=1", "reveal=confidence")
    )
    assert [o.outputs[0].token_ids for o in ones] == [o.outputs[0].token_ids for o in tops]
    # 13 tokens in blocks of 4: a step each, but what lies behind the last token of the answer need not be known.
    assert all(13 <= o.metrics.weight_streams <= 16 for o in ones)


def test_the_prompts_end_stands_in_the_first_block_and_is_never_written_over():
    params = replace(GREEDY, trace=True)
    for output in toy_llm(BLOCK).generate(PROMPTS, params, method="block-diffusion:steps=1"):
        prompt, trace = output.prompt_token_ids, output.outputs[0].trace
        rest = len(prompt) % 4
        first = next(step for step in trace if step.masked)
        assert list(first.canvas[:rest]) == prompt[len(prompt) - rest :]
        assert [position for position, _ in first.revealed] == list(range(len(prompt), len(prompt) // 4 * 4 + 4))


@pytest.mark.parametrize("model", [BLOCK, model_of("block", NEXT), model_of("causal-block")])
@pytest.mark.parametrize("rule", ["reveal=confidence", "reveal=confidence,fuse=no", "steps=2,subblock=3"])
@pytest.mark.parametrize("prompt", PROMPTS[3:8:2])
def test_an_end_token_with_no_mask_before_it_ends_the_answer_and_what_that_saves_is_counted(prompt, rule, model):
    method = f"block-diffusion:{rule}"
    # Whole blocks, so that the schedule says how many streams there would have been.
    tokens = 40 - len(prompt) if model.config.attention == "block" else 40
    params = replace(GREEDY, temperature=1.0, seed=2, max_tokens=tokens, trace=True)
    llm = toy_llm(model)
    whole = llm.generate(prompt, params, method=method)[0]
    answer = whole.outputs[0].token_ids
    end = answer[11]
    place = answer.index(end)
    stopped = llm.generate(prompt, replace(params, stop_token_ids=[end]), method=method)[0]
    assert stopped.outputs[0].token_ids == answer[: place + 1]
    assert stopped.outputs[0].finish_reason == "stop"
    # The streams spent are those up to the one that reveals the last of the positions up to the end token.
    position, known = len(prompt) + place, {}
    for number, step in enumerate(whole.outputs[0].trace):
        known |= {revealed: number for revealed, _ in step.revealed}
    needed = max(number for revealed, number in known.items() if revealed <= position) + 1
    assert stopped.metrics.weight_streams == needed
    counts = stopped.outputs[0].reveals
    assert counts.exact
    assert counts.left == whole.metrics.weight_streams - needed
    assert f"the early stop saved {counts.left} weight streams" in " ".join(str(llm.card()).split())


def test_an_end_token_behind_a_mask_waits_for_what_is_before_it():
    llm = toy_llm(BLOCK)
    params = replace(GREEDY, max_tokens=8, trace=True)
    whole = llm.generate([8, 3, 5, 7], params, method=TOP)[0].outputs[0]
    early = next(step for step in whole.trace if step.revealed and step.canvas[0] is None)
    token = early.revealed[0][1]
    stopped = llm.generate([8, 3, 5, 7], replace(params, stop_token_ids=[token]), method=TOP)[0]
    assert stopped.outputs[0].token_ids == whole.token_ids[: whole.token_ids.index(token) + 1]


def test_every_stream_has_a_delta_with_its_trace_also_if_nothing_is_committed():
    llm = toy_llm(BLOCK)
    params = replace(GREEDY, trace=True)
    deltas = list(llm.stream([8, 3, 5, 7], params, method=TOP))
    output = llm.outputs[0]
    assert len(deltas) == output.metrics.weight_streams == len(output.outputs[0].trace)
    assert [delta.trace for delta in deltas] == output.outputs[0].trace
    assert any(not delta.token_ids for delta in deltas)
    revealed = dict(pair for delta in deltas for pair in delta.trace.revealed)
    assert [revealed[4 + n] for n in range(13)] == output.outputs[0].token_ids
    for delta in deltas:
        step = delta.trace
        assert len(step.masked) == len(step.confidence) == len(step.proposed)
        assert all(0 < confidence <= 1 for confidence in step.confidence)
        assert step.in_vain == pytest.approx(1 - (step.kept + len(step.revealed)) / step.rows)
        assert {p for p, _ in step.revealed} <= set(step.masked)
        assert all(step.canvas[p - step.start] == token for p, token in step.revealed)
    counts = output.outputs[0].reveals
    assert counts.in_vain == pytest.approx(1 - counts.revealed / (4 * counts.streams))
    without = [delta.trace for delta in llm.stream([8, 3, 5, 7], GREEDY, method=TOP)]
    assert without == [None] * len(without)


def test_tokens_revealed_in_earlier_steps_keep_their_log_probabilities():
    llm = toy_llm(BLOCK)
    params = replace(GREEDY, logprobs=2, trace=True)
    sample = llm.generate([8, 3, 5, 7, 7], params, method=TOP)[0].outputs[0]
    confidence = {}
    for step in sample.trace:
        at = dict(zip(step.masked, step.confidence, strict=True))
        confidence |= {position: at[position] for position, _ in step.revealed}
    for place, (token, entry) in enumerate(zip(sample.token_ids, sample.logprobs, strict=True)):
        assert entry[token].logprob == pytest.approx(np.log(confidence[5 + place]), abs=1e-5)
        assert len(entry) >= 2
    assert sample.cumulative_logprob == pytest.approx(sum(np.log(confidence[5 + n]) for n in range(13)), abs=1e-4)


def test_a_remasked_token_is_decided_once_more_and_the_answer_waits_for_it():
    llm = toy_llm(BLOCK)
    params = replace(GREEDY, trace=True, max_tokens=12)
    sample = llm.generate([8, 3, 5, 7], params, method="block-diffusion:steps=1,remask=0.3")[0].outputs[0]
    steps = [step for step in sample.trace if step.remasked]
    assert steps
    often = defaultdict(int)
    for step in steps:
        assert all(step.canvas[position - step.start] is None for position in step.remasked)
        for position in step.remasked:
            often[position] += 1
    assert set(often.values()) == {1}
    assert MASK not in sample.token_ids


def test_samples_of_one_request_share_the_prompt_and_differ():
    llm = toy_llm(BLOCK)
    prompt = list(range(1, 40))
    params = SamplingParams(n=3, temperature=1.0, seed=1, max_tokens=12, ignore_eos=True)
    together = llm.generate(prompt, params, method="block-diffusion:sampler=first-hitting")[0]
    texts = [sample.token_ids for sample in together.outputs]
    assert len({tuple(text) for text in texts}) == 3
    assert together.metrics.weight_streams < 3 * 13  # they run side by side, not one after the other


def test_random_orders_are_uniform_and_those_of_the_sample():
    """First-hitting: each of the masks is as likely to be the next."""
    llm = toy_llm(BLOCK)
    params = SamplingParams(n=120, temperature=0, seed=9, max_tokens=4, trace=True, ignore_eos=True)
    output = llm.generate([8, 3, 5, 7], params, method="block-diffusion:sampler=first-hitting")[0]
    assert all(len([step for step in sample.trace if step.masked]) == 4 for sample in output.outputs)
    first = np.bincount([sample.trace[0].revealed[0][0] - 4 for sample in output.outputs], minlength=4)
    assert ((first - 30) ** 2 / 30).sum() < 16.3  # chi-square with 3 degrees of freedom, p = 0.001


def test_bad_settings_are_refused_with_a_reason():
    for spec, reason in {
        "block-diffusion:steps=0": "at least 1",
        "block-diffusion:block=0": "at least 1 position",
        "block-diffusion:threshold=2": "probability",
        "block-diffusion:reveal=best": "expected one of confidence",
        "block-diffusion:sampler=magic": "expected one of fixed",
        "block-diffusion:sampler=first-hitting,steps=3": "takes no steps",
        "block-diffusion:cache=approximate-block": "needs subblock=N",
        "block-diffusion:steps=many": "whole number",
        "diffusion:cache=exact": "approximate-prefix",
        "diffusion:length=0": "at least 1 token",
    }.items():
        with pytest.raises(MethodError, match=reason):
            make_method(spec)
    block, causal = toy_llm(BLOCK), toy_llm()
    with pytest.raises(MethodError, match=r"sees causally.*can use: ar"):
        causal.generate([1], method="block-diffusion")
    with pytest.raises(MethodError, match=r"sees causally.*can use: ar"):
        causal.generate([1], method="diffusion")
    with pytest.raises(MethodError, match=r"both directions inside blocks of 4.*can use: block-diffusion"):
        block.generate([1], method="diffusion")
    with pytest.raises(MethodError, match=r"more than a block of 4 positions; .* block-diffusion without that option$"):
        block.generate([1], method="block-diffusion:subblock=8")
    with pytest.raises(MethodError, match="holds the mask token, 60, at position 1"):
        block.generate([1, MASK], method="block-diffusion")
    with pytest.raises(MethodError, match="mask_id=61 is not in the vocabulary"):
        block.generate([1], method="block-diffusion:mask_id=61")
    maskless = model_of("block")
    maskless = replace(maskless, config=replace(maskless.config, mask_id=None))
    for spec in ("block-diffusion", None):
        with pytest.raises(
            MethodError, match=r"no mask token; give mask_id=ID; .* can use: block-diffusion:mask_id=ID$"
        ):
            toy_llm(maskless).generate([1], method=spec)
    assert toy_llm(maskless).generate([1], GREEDY, method="block-diffusion:mask_id=60")[0].error is None


@pytest.mark.filterwarnings("ignore:method 'block-diffusion'")
def test_a_block_size_that_the_model_was_not_trained_with_runs_with_a_warning():
    llm = toy_llm(BLOCK)
    with pytest.warns(UserWarning, match="trained with blocks of 4 tokens, and block=6 differs"):
        outputs = llm.generate(PROMPTS, GREEDY, method="block-diffusion:block=6,reveal=confidence")
    alone = [toy_llm(BLOCK).generate(p, GREEDY, method="block-diffusion:block=6,reveal=confidence")[0] for p in PROMPTS]
    assert [o.outputs[0].token_ids for o in outputs] == [o.outputs[0].token_ids for o in alone]
    assert "block=6 differs" in " ".join(str(llm.card()).split())


def test_the_default_method_is_one_that_the_model_can_run():
    for model, name in ((BLOCK, "block-diffusion"), (model_of("bidirectional"), "diffusion"), (None, "auto")):
        assert toy_llm(model).method().name == name
    assert toy_llm(model_of("block", shift=IN_PLACE)).generate([5, 6], GREEDY)[0].error is None


def test_a_block_is_cut_where_the_models_context_ends():
    llm = toy_llm(model_of("block", max_positions=18))
    output = llm.generate([1, 2, 3, 4, 5], replace(GREEDY, max_tokens=None), method="block-diffusion")[0]
    assert output.error is None
    assert len(output.outputs[0].token_ids) == 13
    assert output.outputs[0].finish_reason == "length"


@pytest.mark.filterwarnings("ignore:method 'block-diffusion'")
@pytest.mark.parametrize("shift", [IN_PLACE, NEXT])
def test_a_preempted_canvas_does_not_see_what_the_prefix_cache_holds_of_its_own_positions(shift):
    """Those K/V are of finished tokens, which see causally; the canvas' own rows see all of it."""
    llm = toy_llm(model_of("causal-block", shift))
    method = llm.method("block-diffusion:block=40,reveal=left-to-right")  # longer than a page
    params = replace(GREEDY, max_tokens=70)
    first = llm.generate([8, 3, 5], params, method=method)[0].outputs[0].token_ids
    engine, found = llm.engine, []
    engine.add(Request("again", [8, 3, 5], params, method))
    preempted, beyond = 0, False
    while engine.busy:
        running = engine.scheduler.running
        if running and running[0].sequence.generated in (25, 60) and preempted < 2:
            engine.scheduler._preempt(running[0])
            preempted += 1
        result = engine.step()
        found += [token for delta in result.deltas for token in delta.token_ids]
        if preempted and running and running[0].sequence.state is not None:
            beyond |= running[0].sequence.cached > running[0].sequence.state.start
    assert preempted == 2
    assert beyond
    assert found == first
