"""The roof that other engines are held against: what memory allows plain decoding of the file's packed weights.

What another engine really reads is not known; but whoever decodes plainly must read the weights once a step, and the
file's bytes are what everybody was given.
"""

from collections.abc import Mapping

from ridgeway.bench.runs import Plan
from ridgeway.llm import LLM
from ridgeway.roofline.cost import QueryShape


def plain_seconds_per_token(llm: LLM, plan: Plan) -> Mapping[int, float]:
    """By batch size: least seconds of memory traffic of a plain decode step / its tokens, at the mean context."""
    packed = llm.cost_model.holding({name: tensor.nbytes for name, tensor in llm.model.tensors.items()})
    found = {}
    for batch in plan.batches:
        groups = plan.workload.groups(batch)
        seconds = 0.0
        for group in groups:
            cached = [len(plan.workload.prompts[number]) + plan.max_tokens // 2 for number in group]
            seconds += packed.memory_seconds(packed.count(QueryShape(1, tokens) for tokens in cached))
        found[batch] = seconds / (len(groups) * batch)
    return found
