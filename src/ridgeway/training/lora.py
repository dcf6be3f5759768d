"""Low-rank adaptation (Hu et al. 2021): instead of a matrix W, train the change scale * B A of it, of a small rank."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class LowRank(nn.Module):
    """The change of one matrix (outputs, inputs). B starts at 0, so that nothing is changed at first (section 4.1)."""

    def __init__(self, weight: Tensor, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.scale = scale
        self.a = nn.Parameter(torch.empty(rank, inputs).normal_(0.0, inputs**-0.5, generator=generator))
        self.b = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x: Tensor) -> Tensor:
        """What the change adds to W x: (..., outputs) for x (..., inputs)."""
        return self.scale * functional.linear(functional.linear(x, self.a), self.b)

    def change(self) -> Tensor:
        """(outputs, inputs), to be added to W."""
        return self.scale * self.b @ self.a
