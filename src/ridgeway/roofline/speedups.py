"""How much faster drafting is than plain decoding in the same engine, from what was accepted: for validation.

Tables of speculative methods state tokens per pass and the gain over their own plain decoding. The first is the
algorithm's, the second follows from it by what a round costs: one stream over the drafted rows, and the drafter's
passes. What a method drafts at its authors' settings stands below; what it accepts is the table's. Building trees and
picking paths on the host are not counted, so predictions of engines that launch single operations are hopeful.
"""

from dataclasses import dataclass

from ridgeway.roofline.cost import CostModel
from ridgeway.roofline.reach import Fitted, Parts
from ridgeway.roofline.shape import QueryShape

_CONTEXT = 512  # cached tokens, where a table does not say


@dataclass(frozen=True)
class Round:
    """rows: verified by one stream. passes: of the drafter, each through `layers` layers as wide as `width` times the
    model's, and through `heads` heads of the model's vocabulary, as wide.
    """

    rows: int
    passes: int = 0
    layers: float = 0
    heads: float = 0
    width: float = 1.0


ROUNDS = {
    "pld": Round(11),  # ten tokens looked up in the prompt (Saxena 2023)
    "rest": Round(64),  # retrieved from a datastore (He et al. 2024)
    "recycling": Round(81),  # a tree from a matrix of successors (Luo et al. 2024)
    "lookahead": Round(56),  # W = G = 7, N = 5 (Fu et al. 2024)
    "medusa": Round(64, passes=1, layers=0.3, heads=4),  # four heads, a square matrix each (Cai et al. 2024)
    "hydra": Round(64, passes=4, layers=0.3, heads=1),  # heads one after the other (Ankner et al. 2024)
    "eagle": Round(26, passes=5, layers=1, heads=1),  # a layer that drafts features (Li et al. 2024)
    "eagle2": Round(60, passes=6, layers=1, heads=1),
    "eagle3": Round(60, passes=8, layers=1, heads=0.25),  # its head has 32,000 of 128,000 entries
    "samd[eagle2]": Round(60, passes=6, layers=1, heads=1),  # a suffix automaton beside EAGLE-2 (Hu et al. 2024)
    "sps": Round(6, passes=5, layers=2, heads=1, width=0.19),  # a model of 68M weights: 2 layers, 768 wide
}


def predicted_speedup(model: CostModel, factors: Fitted, drafted: Round, tokens: float) -> float:
    """Of rounds that yield `tokens`, over plain decoding with one request, both by the same law."""
    plain = factors.seconds(model.parts(model.count([QueryShape(1, _CONTEXT)])))
    verify = factors.seconds(model.parts(model.count([QueryShape(drafted.rows, _CONTEXT, reads=drafted.rows)])))
    return tokens * plain / (verify + drafted.passes * factors.seconds(_drafting(model, drafted)))


def _drafting(model: CostModel, drafted: Round) -> Parts:
    """One pass of the drafter."""
    whole = model.parts(model.count([QueryShape(1, 0)]))
    head = (model.held_bytes.get("head") or model.held_bytes["embed"]) / model.weight_bytes
    layer = (1 - 2 * head) / model.config.layers  # embedding and head are alike
    share = drafted.layers * layer * drafted.width**2 + drafted.heads * head * drafted.width
    return Parts(layers=drafted.layers, weights=whole.weights * share, answers=drafted.heads)
