"""Drafts from the model's own leftovers: what it thought likely after a token, last time it saw that token.

Every verified row has a whole distribution behind it, of which plain decoding uses one token and throws the rest away.
Here the likeliest few successors of each token are kept. From the newest token they span a tree: its successors,
theirs, and so on. Rejected rows teach as well as accepted ones.

After "Token Recycling" (Luo et al. 2024, arXiv 2408.08696, sections 3.1 to 3.3), with one change: the paper's tree has
a fixed shape of 80 nodes; here the ranks' acceptance is counted, and the likeliest nodes are drafted, as many as pay.
"""

from dataclasses import dataclass
from heapq import heappop, heappush

from ridgeway.core.query import Answer, Commit, Query
from ridgeway.core.sequence import Sequence
from ridgeway.methods.trie import Guesser, Trie
from ridgeway.methods.verify import Speculative

_PRIOR = (0.3, 0.1, 0.05)  # chance of the likeliest successor, the second, the third; later ones share the last
_WEIGHT = 20.0  # of the prior, in observations
_FORGET = 0.998


class RecyclingDrafter(Guesser):
    """successors: kept for each token. likeliest: whether they are the likeliest of each row, or the tokens drawn.

    The tokens that were drawn are there anyway; the likeliest have to be read out of each row.
    """

    def __init__(self, successors: int, likeliest: bool) -> None:
        self.successors = successors
        self.likeliest = likeliest
        self.after: dict[int, tuple[int, ...]] = {}  # the paper's adjacency matrix M; best first
        self._tried = [_WEIGHT] * successors
        self._right = [_WEIGHT * _PRIOR[min(rank, len(_PRIOR) - 1)] for rank in range(successors)]

    def guess(self, sequence: Sequence, budget: int) -> Trie:
        """At most `budget` tokens, the likeliest first."""
        newest = sequence.tokens[-1]
        if newest not in self.after:
            return Trie()
        chances = [right / tried for right, tried in zip(self._right, self._tried, strict=True)]
        tree = Trie()
        heap: list[tuple[float, int, int, int]] = []  # -survival, order, parent, token

        def offer(token: int, place: int, survival: float) -> None:
            for chance, successor in zip(chances, self.after.get(token, ()), strict=False):
                heappush(heap, (-survival * chance, len(tree) * self.successors + len(heap), place, successor))

        offer(newest, -1, 1.0)
        while heap and len(tree) < budget:
            negative, _, above, token = heappop(heap)
            offer(token, tree.child(above, token, -negative), -negative)
        return tree

    def observe(self, sequence: Sequence, query: Query, answer: Answer, commit: Commit) -> None:
        """Count which rank was right after each committed token, then learn from every row that was read."""
        kept = {int(row) for row in commit.keep}
        for read, row in enumerate(query.read.rows):
            token, drawn = int(query.tokens[row]), int(answer.tokens[read])
            known = self.after.get(token, ())
            if int(row) in kept and known:
                for rank, successor in enumerate(known):
                    self._tried[rank] = _FORGET * self._tried[rank] + 1
                    self._right[rank] = _FORGET * self._right[rank] + (successor == drawn)
            if self.likeliest and answer.top_ids is not None:
                self.after[token] = tuple(int(one) for one in answer.top_ids[read, : self.successors])
            else:
                others = [successor for successor in known if successor != drawn]
                self.after[token] = (drawn, *others[: self.successors - 1])


@dataclass(frozen=True)
class Recycling(Speculative):
    """Draft what the model found likely after the same token before; no second model, no training."""

    name = "recycling"
    nodes: int = 6
    successors: int = 8

    def __post_init__(self) -> None:
        if min(self.nodes, self.successors) < 1:
            raise ValueError("nodes and successors are at least 1")

    @property
    def top(self) -> int:  # type: ignore[override]
        return self.successors

    def make_drafter(self) -> RecyclingDrafter:
        return RecyclingDrafter(self.successors, likeliest=True)

    @property
    def most(self) -> int:
        return self.nodes
