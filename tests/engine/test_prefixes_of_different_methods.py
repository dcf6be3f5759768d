"""K/V computed under one visibility never serve a request of another."""

from dataclasses import dataclass, replace

import pytest
from toy_methods import Oracle, Verify

from ridgeway.core.query import Span
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.core.visibility import Block
from ridgeway.methods.autoregressive import Autoregressive
from ridgeway.methods.block_diffusion import BlockDiffusion
from ridgeway.methods.diffusion import Diffusion
from ridgeway.testing import toy_config, toy_llm, toy_model

# A causal model that has a mask token too, so that every method can run it.
BOTH = toy_model(toy_config(attention="causal-block", block_size=4, mask_id=60, tied_head=False), sharpness=2.0)
PROMPTS = [list(range(1, 51)), [7, 3, 3, 9] * 12, [5, 5, 8]]
GREEDY = SamplingParams(temperature=0, max_tokens=12)


@dataclass(frozen=True)
class InTheWholeBlock(BlockDiffusion):
    """Lets finished blocks see themselves as a whole."""

    def visibility(self, traits):
        return Block(traits.block_size)


@dataclass(frozen=True)
class Nearsighted(Autoregressive):
    """Sees the first cached token alone."""

    name = "nearsighted"

    def plan(self, sequence, rows, draft):
        query = super().plan(sequence, rows, draft)
        return type(query)(query.tokens, query.positions, read=query.read, context=(Span(0, min(1, sequence.cached)),))


@dataclass(frozen=True)
class InBlocks(Autoregressive):
    """Reads its prompt in blocks of a size of its own."""

    name = "in-blocks"
    size: int = 4

    def visibility(self, traits):
        return Block(self.size)

    def plan(self, sequence, rows, draft):
        return replace(super().plan(sequence, rows, draft), visibility=Block(self.size))


def test_a_page_that_ends_inside_a_block_serves_no_other_request():
    """Its K/V saw tokens that come after the page."""
    first, second = [*range(1, 17), *[3] * 30], [*range(1, 17), *[4] * 30]
    alone = toy_llm(BOTH).generate([second], GREEDY, method=InBlocks(32))[0]
    llm = toy_llm(BOTH)
    assert llm.engine.cache.page_size == 16
    llm.generate([first], GREEDY, method=InBlocks(32))
    found = llm.generate([second], GREEDY, method=InBlocks(32))[0]
    assert found.num_cached_tokens == 0
    assert found.outputs[0].token_ids == alone.outputs[0].token_ids
    llm.generate([first], GREEDY, method=InBlocks(8))
    assert llm.generate([second], GREEDY, method=InBlocks(8))[0].num_cached_tokens == 16


def test_a_block_that_was_kept_in_two_parts_serves_no_other_request():
    llm = toy_llm(BOTH, max_rows=6)
    for _ in range(2):
        assert llm.generate([PROMPTS[0]], GREEDY, method=InBlocks(4))[0].num_cached_tokens == 0
    llm = toy_llm(BOTH, max_rows=8)
    llm.generate([PROMPTS[0]], GREEDY, method=InBlocks(4))
    assert llm.generate([PROMPTS[0]], GREEDY, method=InBlocks(4))[0].num_cached_tokens == 48


@pytest.mark.filterwarnings("ignore:method 'diffusion'")  # a whole answer is more than a block
def test_all_kinds_of_methods_share_a_batch_and_prefixes_and_each_gets_what_it_gets_alone():
    plain = toy_llm(BOTH).generate(PROMPTS, GREEDY)
    answers = {tuple(o.prompt_token_ids): o.outputs[0].token_ids for o in plain}
    methods = {
        "chain": Verify(Oracle(answers), depth=3),
        "tree": Verify(Oracle(answers, branches=2), depth=6),
        "blocks": BlockDiffusion(reveal="confidence"),
        "whole blocks": InTheWholeBlock(reveal="confidence"),
        "everything": Diffusion(steps=4),
        "nearsighted": Nearsighted(),
        "plain": Autoregressive(),
    }
    alone = {
        (name, place): toy_llm(BOTH).generate([prompt], GREEDY, method=method)[0].outputs[0].token_ids
        for name, method in methods.items()
        for place, prompt in enumerate(PROMPTS)
    }
    assert alone["blocks", 0] != alone["plain", 0] != alone["nearsighted", 0]
    assert any(alone["blocks", place] != alone["whole blocks", place] for place in range(3))
    llm = toy_llm(BOTH)
    for order in (list(alone), list(alone)[::-1]):  # the second round finds the first one's prefixes
        outputs = llm.generate([PROMPTS[p] for _, p in order], GREEDY, method=[methods[name] for name, _ in order])
        for key, output in zip(order, outputs, strict=True):
            if key[0] != "nearsighted":  # what that one gets depends on how its prompt is cut
                assert output.outputs[0].token_ids == alone[key], key
    assert any(output.num_cached_tokens for output in outputs)
