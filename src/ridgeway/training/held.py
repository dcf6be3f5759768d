"""Weights as kernels will hold them, inside a training: rounded forwards, as they are backwards.

What is rounded only after a training guesses worse: of a head for SmolLM2-135M 64.4 instead of 68.0 % of its first
guesses came true. A network that sees its rounded weights while it learns makes up for them (quantization-aware
training with a straight-through estimator: Bengio, Leonard, Courville 2013, arXiv 1308.3432, section 4; Jacob et al.
2018, arXiv 1712.05877, section 3).
"""

import torch
from torch import Tensor

from ridgeway.models.draft_head import HELD
from ridgeway.quant.formats import FORMATS

GROUP = FORMATS[HELD].block


def as_held(weight: Tensor) -> Tensor:
    """A matrix (outputs, inputs) in `models.draft_head.HELD`, Q4_0, and back; gradients pass straight through.

    As it is where rows are not whole groups: such a head is computed with floats.
    """
    if weight.shape[1] % GROUP:
        return weight
    with torch.no_grad():
        groups = weight.float().view(len(weight), -1, GROUP)
        extreme = groups.gather(-1, groups.abs().argmax(dim=-1, keepdim=True))
        scale = extreme / -8  # the largest magnitude becomes -8, the end of the range that reaches further
        inverse = torch.where(scale == 0, 0.0, 1 / scale)
        quants = (groups * inverse + 8.5).trunc().clamp(0, 15) - 8
        error: Tensor = (quants * scale.half().float()).flatten(1) - weight
    return weight + error
