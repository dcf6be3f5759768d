"""The interface holds what comes later: drafts, trees and diffusion run in one batch with plain requests."""

import numpy as np
import pytest
from toy_methods import Oracle, Verify

from ridgeway.core.errors import MethodError
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.core.traits import LogitShift
from ridgeway.methods.autoregressive import Autoregressive
from ridgeway.testing import check_lossless, toy_config, toy_llm, toy_model

PROMPTS = [[3, 1, 4, 1, 5], [9, 2, 6] * 9, [8]]
DRAWN = SamplingParams(temperature=0.8, seed=5, max_tokens=30)
BLOCK = toy_config(attention="block", block_size=4, mask_id=60, logit_shift=LogitShift.IN_PLACE, tied_head=False)


def oracle_for(llm, params, **options):
    outputs = llm.generate(PROMPTS, params, method="ar")
    answers = {tuple(o.prompt_token_ids): o.outputs[0].token_ids for o in outputs}
    return outputs, Oracle(answers, **options)


@pytest.mark.parametrize("branches", [1, 2])
@pytest.mark.parametrize("wrong_every", [0, 1, 3])
def test_verified_drafts_give_plain_decodings_tokens(branches, wrong_every):
    llm = toy_llm()
    plain, oracle = oracle_for(llm, DRAWN, wrong_every=wrong_every, branches=branches)
    method = Verify(oracle, depth=6)
    outputs = llm.generate(PROMPTS * 2, DRAWN, method=[method] * 3 + [Autoregressive()] * 3)
    for place, output in enumerate(outputs):
        assert output.outputs[0].token_ids == plain[place % 3].outputs[0].token_ids
    assert oracle.observed >= 90


def test_right_drafts_save_weight_streams():
    llm = toy_llm()
    plain, oracle = oracle_for(llm, DRAWN, wrong_every=0)
    drafted = llm.generate(PROMPTS, DRAWN, method=Verify(oracle, depth=4))
    assert all(o.metrics.weight_streams == 30 for o in plain)
    assert all(o.metrics.weight_streams == 6 for o in drafted)  # 30 tokens, 5 a stream


def test_an_accepted_path_of_a_tree_is_moved_into_place():
    """With two branches the right one lies behind the wrong one, so its K/V have to move; later tokens depend on it."""
    llm = toy_llm(toy_model(toy_config(tied_head=False), sharpness=3.0))
    _, oracle = oracle_for(llm, DRAWN, wrong_every=0, branches=2)
    moves = []
    move = llm.executor.move
    llm.executor.move = lambda source, target: (moves.append((source, target)), move(source, target))
    drafted = llm.generate(PROMPTS, DRAWN, method=Verify(oracle, depth=8))
    assert [o.outputs[0].token_ids for o in drafted] == list(oracle.answers.values())
    assert moves


def test_check_lossless_passes_a_right_method_and_catches_a_wrong_one():
    class Wrong(Verify):
        """Keeps one draft too many: the classic mistake."""

        def commit(self, sequence, query, answer):
            commit = super().commit(sequence, query, answer)
            if len(query.read) > len(commit.tokens):
                extra = int(query.read.rows[0]) + len(commit.tokens)
                tokens = np.append(commit.tokens[:-1], [query.tokens[extra], 3])
                return type(commit)(tokens, np.append(commit.keep, extra))
            return commit

    class Ones(Oracle):
        def _tree(self, sequence, depth):
            from ridgeway.core.method import DraftTree

            return DraftTree(np.ones(depth, dtype=np.int64), np.arange(-1, depth - 1), np.ones(depth))

    check_lossless(Verify(Ones({})))
    with pytest.raises(AssertionError, match="not lossless"):
        check_lossless(Wrong(Ones({})))


def naive_block_diffusion(llm, prompt, max_tokens):
    """The whole sequence anew for every step, the surest token revealed, no cache."""
    size, mask = 4, 60
    tokens = list(prompt)
    while len(tokens) < len(prompt) + max_tokens:
        block = len(tokens) // size * size
        work = tokens + [mask] * (block + size - len(tokens))
        while mask in work:
            logits = llm.logits(work, visibility=f"block({size})").astype(np.float64)
            confidence = np.exp(logits - logits.max(axis=1, keepdims=True))
            confidence /= confidence.sum(axis=1, keepdims=True)
            masked = [place for place in range(len(work)) if work[place] == mask]
            logits[:, mask] = -np.inf
            choices = {place: int(logits[place].argmax()) for place in masked}
            best = max(masked, key=lambda place: (confidence[place, choices[place]], -place))
            work[best] = choices[best]
        tokens = work
    return tokens[len(prompt) : len(prompt) + max_tokens]


@pytest.mark.parametrize("slots", [4096, 96])
def test_block_diffusion_equals_its_naive_twin_in_any_batch(slots):
    model = toy_model(BLOCK, sharpness=2.0)
    llm = toy_llm(model, slots=slots, max_rows=24)
    params = SamplingParams(temperature=0, max_tokens=14)
    expected = [naive_block_diffusion(toy_llm(model), prompt, 14) for prompt in PROMPTS]
    outputs = llm.generate(PROMPTS, params, method="block-diffusion:reveal=confidence")
    assert [output.outputs[0].token_ids for output in outputs] == expected


def test_a_method_that_does_not_fit_the_model_is_refused():
    with pytest.raises(MethodError, match="causal model"):
        toy_llm(toy_model(BLOCK)).generate(PROMPTS, method="ar")
    with pytest.raises(MethodError, match=r"model that denoises blocks.*this model can use: ar"):
        toy_llm().generate(PROMPTS, method="block-diffusion")
