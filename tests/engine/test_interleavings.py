"""Whatever is added, stepped, aborted and preempted in whatever order: the pool stays whole and every request's tokens
are those it gets alone."""

from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_methods import Oracle, Verify

from ridgeway.core.sampling_params import SamplingParams
from ridgeway.core.traits import LogitShift
from ridgeway.engine.request import Request
from ridgeway.methods.autoregressive import Autoregressive
from ridgeway.methods.registry import make_method
from ridgeway.methods.self_speculative import SelfSpeculative, SkipSet
from ridgeway.testing import toy_config, toy_llm, toy_model

SHARED = [7, 3, 3, 9, 1] * 8  # several requests begin with it, so that pages are shared
CAUSAL = toy_model(toy_config(tied_head=False), sharpness=2.0)
BLOCK = toy_model(
    toy_config(attention="block", block_size=4, mask_id=60, logit_shift=LogitShift.IN_PLACE, tied_head=False)
)
BIDIRECTIONAL = toy_model(toy_config(attention="bidirectional", mask_id=60, tied_head=False), sharpness=2.0)
MODELS = {"causal": CAUSAL, "block": BLOCK, "bidirectional": BIDIRECTIONAL}
DENOISING = {
    "block": [
        "block-diffusion:reveal=confidence",
        "block-diffusion:sampler=ancestral,steps=2,fuse=no",
        "block-diffusion:threshold=0.3,remask=0.3",
        "block-diffusion:threshold=0.2,subblock=2,cache=approximate-block",
    ],
    "bidirectional": [
        "diffusion:steps=4",
        "diffusion:block=4,threshold=0.2,cache=approximate-prefix",
        "diffusion:block=4,threshold=0.2,cache=approximate-dual",
    ],
}


class Fixed(Oracle):
    def _tree(self, sequence, depth):
        from ridgeway.core.method import DraftTree

        guesses = np.resize(sequence.tokens[-3:], depth)
        return DraftTree(guesses, np.arange(-1, depth - 1), np.ones(depth))


METHODS = {"ar": Autoregressive(), "verify": Verify(Fixed({}), depth=3)}
NAMED = ["ngram", "suffix:remembered=50", "recycling", "lookahead:window=2", "auto", "draft:model=small", "skips"]
NAMED += ["verified-diffusion:mask_id=60,layout=quadratic", "verified-diffusion:mask_id=60,block=2"]
METHODS |= {name: make_method(name) for name in NAMED if name != "skips"}
METHODS["skips"] = SelfSpeculative(depth=2)  # half of the second layer, without a search
METHODS["skips"].drafter.use(SkipSet(np.array([[True, True], [True, False]]), 0.5, 1.0, 2))
SMALL = toy_model(toy_config(layers=1))

METHODS |= {name: make_method(name) for names in DENOISING.values() for name in names}


def scripts(methods, max_size=16):
    requests = st.tuples(
        st.sampled_from([[5], [1, 2, 3], SHARED, [*SHARED, 4, 4], SHARED[:16], list(range(50))]),
        st.sampled_from([0.0, 0.8, 1.0]),
        st.integers(1, 24),
        st.sampled_from([1, 1, 1, 2]),
        st.sampled_from(methods),
    )
    actions = st.one_of(
        st.tuples(st.just("add"), requests),
        st.tuples(st.just("step"), st.integers(1, 6)),
        st.tuples(st.just("abort"), st.integers(0, 7)),
    )
    return st.lists(actions, min_size=3, max_size=max_size)


def params_of(temperature, max_tokens, n):
    return SamplingParams(temperature=temperature, seed=3, max_tokens=max_tokens, n=n, ignore_eos=True)


@cache
def alone(
    kind: str, method: str, prompt: tuple[int, ...], temperature: float, max_tokens: int, n: int
) -> list[list[int]]:
    llm = toy_llm(MODELS[kind])
    output = llm.generate(list(prompt), params_of(temperature, max_tokens, n), method=METHODS[method])[0]
    return [sample.token_ids for sample in output.outputs]


def play(kind, script, slots, max_rows, prefix_caching):
    llm = toy_llm(MODELS[kind], slots=slots, max_rows=max_rows, prefix_caching=prefix_caching)
    if kind == "causal":
        llm.add_draft_model("small", SMALL)
    engine = llm.engine
    asked, finished = {}, {}
    names = []

    def step():
        result = engine.step()
        engine.pool.check()
        finished.update({output.request_id: output for output in result.finished})

    for action, value in script:
        if action == "add":
            prompt, temperature, max_tokens, n, method = value
            name = f"r{len(names)}"
            names.append(name)
            expected = "ar" if kind == "causal" else method  # all methods of a causal model are lossless
            asked[name] = (kind, expected, tuple(prompt), temperature, max_tokens, n)
            engine.add(Request(name, list(prompt), params_of(temperature, max_tokens, n), METHODS[method]))
        elif action == "abort" and value < len(names):
            output = engine.abort(names[value])
            if output is not None:
                assert output.outputs[0].finish_reason in ("abort", "length", "stop")
                expected = alone(*asked.pop(names[value]))
                for sample, tokens in zip(output.outputs, expected, strict=True):
                    assert sample.token_ids == tokens[: len(sample.token_ids)]
        else:
            for _ in range(value):
                step()
    for _ in range(2000):
        if not engine.busy:
            break
        step()
    assert not engine.busy
    engine.check()
    for name, key in asked.items():
        assert finished[name].error is None, finished[name].error
        assert [sample.token_ids for sample in finished[name].outputs] == alone(*key), name


@settings(max_examples=60, deadline=None)
@given(
    scripts(["ar", "verify", *NAMED]), st.sampled_from([80, 128, 4096]), st.sampled_from([8, 64, 512]), st.booleans()
)
def test_any_interleaving_gives_each_causal_request_the_tokens_it_gets_alone(script, slots, max_rows, caching):
    play("causal", script, slots, max_rows, caching)


@settings(max_examples=30, deadline=None)
@given(scripts(DENOISING["block"]), st.sampled_from([96, 128, 4096]), st.sampled_from([8, 64]), st.booleans())
def test_any_interleaving_gives_each_block_diffusion_request_the_tokens_it_gets_alone(script, slots, max_rows, caching):
    play("block", script, slots, max_rows, caching)


@settings(max_examples=20, deadline=None)
@given(scripts(DENOISING["bidirectional"], max_size=8), st.sampled_from([96, 128, 4096]))
def test_any_interleaving_gives_each_diffusion_request_the_tokens_it_gets_alone(script, slots):
    play("bidirectional", script, slots, max_rows=64, prefix_caching=True)
