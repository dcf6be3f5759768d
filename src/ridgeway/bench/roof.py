"""The roof that other engines are held against: what memory allows plain decoding of the file's packed weights.

What another engine really reads is not known; but whoever decodes plainly must read the weights once a step, and the
file's bytes are what everybody was given.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ridgeway.bench.runs import Plan
from ridgeway.llm import LLM
from ridgeway.roofline.cost import QueryShape


class PlainToken(NamedTuple):
    """What a token costs at least when decoded plainly: a step's memory traffic / its tokens."""

    seconds: float
    bytes: float


def plain_token(llm: LLM, plan: Plan) -> Mapping[int, PlainToken]:
    """By batch size, at the mean context."""
    packed = llm.cost_model.holding({name: tensor.nbytes for name, tensor in llm.model.tensors.items()})
    found = {}
    for batch in plan.batches:
        groups = plan.workload.groups(batch)
        seconds = moved = 0.0
        for group in groups:
            cached = [len(plan.workload.prompts[number]) + plan.max_tokens // 2 for number in group]
            cost = packed.count(QueryShape(1, tokens) for tokens in cached)
            seconds += packed.memory_seconds(cost)
            moved += cost.bytes
        tokens_in_all = len(groups) * batch
        found[batch] = PlainToken(seconds / tokens_in_all, moved / tokens_in_all)
    return found
