"""Drafts from a draft head: what the model is about to say can be read, roughly, out of its hidden state.

    hidden state of t  --head-->  state, a  --head-->  state, b  --head-->  ...      one small network, step by step
    one weight stream:  t  a  b  and, at each place, the runner-up
    commit              while they equal the target's draws

A head takes a few per cent of a weight stream a token, has no K/V, and drafts well on any text, not only where the text
repeats something. But it has to be trained for its model: `ridgeway train` does, from texts that the model wrote.

After "Recurrent Drafter" (Zhang et al. 2024, arXiv 2403.09919), "EAGLE" (Li et al. 2024, arXiv 2401.15077) and
"FR-Spec" (Zhao et al. 2025, arXiv 2502.14856).
"""

from dataclasses import dataclass

from ridgeway.core.query import Measure
from ridgeway.core.sequence import Sequence
from ridgeway.core.traits import ModelTraits
from ridgeway.methods.head_drafter import HeadDrafter
from ridgeway.methods.verify import Speculative


@dataclass(frozen=True)
class DraftHead(Speculative):
    """Draft what a small trained head reads out of the model's hidden state."""

    name = "draft-head"
    asks_head = True
    needs = "a causal model with a draft head"
    depth: int = 3
    nodes: int = 5

    def __post_init__(self) -> None:
        if min(self.depth, self.nodes) < 1:
            raise ValueError("depth and nodes are at least 1")

    def refusal(self, traits: ModelTraits) -> str | None:
        if not traits.draft_head:
            return f"it needs {self.needs}, and none was trained for this one: `ridgeway train` makes one"
        return super().refusal(traits)

    def make_drafter(self) -> HeadDrafter:
        return HeadDrafter(self.depth)

    def measures(self, sequence: Sequence) -> frozenset[Measure]:
        return frozenset({"hidden"})

    @property
    def most(self) -> int:
        return self.nodes
