"""One token taken apart: which bytes the weight stream of a single row moves, layer by layer, and for how long.

A stream reads its layers one after the other, so its time at the machine's bandwidth divides as its bytes do. The
products of each layer take the other of two times, and while one lasts the other idles.
"""

from dataclasses import dataclass

import numpy as np

from ridgeway.core.arrays import BoolArray
from ridgeway.roofline.cost import CostModel, QueryShape


@dataclass(frozen=True)
class Part:
    """A sublayer or the head. weight_bytes, flops: of one row; memory_seconds: to read the weights at the rate of the
    whole stream; compute_seconds: of its products.
    """

    name: str
    weight_bytes: int
    flops: int
    memory_seconds: float
    compute_seconds: float


def token_parts(cost_model: CostModel) -> list[Part]:
    """The sublayers of a plain decode step without context, in order, and the head; their bytes add up to the stream's,
    but for the embedding's one row.
    """
    layers = cost_model.config.layers
    whole = cost_model.count([QueryShape(1)])
    rate = whole.least_bytes / cost_model.memory_seconds(whole)
    nothing = np.zeros((layers, 2), dtype=np.bool_)
    bare = cost_model.count([QueryShape(1, reads=0)], nothing)

    def part(name: str, runs: BoolArray, reads: int) -> Part:
        cost = cost_model.count([QueryShape(1, reads=reads)], runs)
        row = 0 if reads and cost_model.config.tied_head else bare.weight_bytes
        weights, flops = cost.weight_bytes - row, cost.flops - bare.flops
        return Part(name, weights, flops, weights / rate, flops / cost_model.machine.compute(cost_model.arithmetic))

    found = []
    for layer in range(layers):
        for place, name in enumerate(("attention", "MLP")):
            runs = nothing.copy()
            runs[layer, place] = True
            found.append(part(f"layer {layer + 1} {name}", runs, 0))
    return [*found, part("head", nothing, 1)]
