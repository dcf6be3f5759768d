"""K/V computed under one visibility never serve a request of another."""

from dataclasses import dataclass

from toy_methods import Denoise, Oracle, Verify

from ridgeway.core.query import Span
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.core.visibility import Block
from ridgeway.methods.autoregressive import Autoregressive
from ridgeway.testing import toy_config, toy_llm, toy_model

# A causal model that has a mask token too, so that every method can run it.
BOTH = toy_model(toy_config(block_size=4, mask_id=60, tied_head=False), sharpness=2.0)
PROMPTS = [list(range(1, 51)), [7, 3, 3, 9] * 12, [5, 5, 8]]
GREEDY = SamplingParams(temperature=0, max_tokens=12)


@dataclass(frozen=True)
class DenoiseAnyway(Denoise):
    """Reads a causal model in blocks."""

    def refusal(self, traits):
        return None

    def visibility(self, traits):
        return Block(traits.block_size)


@dataclass(frozen=True)
class Nearsighted(Autoregressive):
    """Sees the first cached token alone."""

    name = "nearsighted"

    def plan(self, sequence, rows, draft):
        query = super().plan(sequence, rows, draft)
        return type(query)(query.tokens, query.positions, read=query.read, context=(Span(0, min(1, sequence.cached)),))


def test_all_kinds_of_methods_share_a_batch_and_prefixes_and_each_gets_what_it_gets_alone():
    plain = toy_llm(BOTH).generate(PROMPTS, GREEDY)
    answers = {tuple(o.prompt_token_ids): o.outputs[0].token_ids for o in plain}
    methods = {
        "chain": Verify(Oracle(answers), depth=3),
        "tree": Verify(Oracle(answers, branches=2), depth=6),
        "blocks": DenoiseAnyway(),
        "nearsighted": Nearsighted(),
        "plain": Autoregressive(),
    }
    alone = {
        (name, place): toy_llm(BOTH).generate([prompt], GREEDY, method=method)[0].outputs[0].token_ids
        for name, method in methods.items()
        for place, prompt in enumerate(PROMPTS)
    }
    assert alone["blocks", 0] != alone["plain", 0] != alone["nearsighted", 0]
    llm = toy_llm(BOTH)
    for order in (list(alone), list(alone)[::-1]):  # the second round finds the first one's prefixes
        outputs = llm.generate([PROMPTS[p] for _, p in order], GREEDY, method=[methods[name] for name, _ in order])
        for key, output in zip(order, outputs, strict=True):
            if key[0] != "nearsighted":  # what that one gets depends on how its prompt is cut
                assert output.outputs[0].token_ids == alone[key], key
    assert any(output.num_cached_tokens for output in outputs)
