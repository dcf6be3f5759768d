"""Several guesses of the same text as one tree: what they share is drafted, and verified, once.

Plain lists, as drafters that cost no weight stream are asked at every step for a handful of tokens.
"""

from abc import abstractmethod
from collections.abc import Sequence as Sequences

import numpy as np

from ridgeway.core.arrays import ints
from ridgeway.core.method import Drafter, DraftTree, Streams
from ridgeway.core.sequence import Sequence


class Trie:
    """A draft tree in the making. A token that is reached in several ways has the best of their chances.

    kinds: of each token, what sort of guess it was: guesses of a kind come true about equally often. -1: unknown.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parent: list[int] = []
        self.survival: list[float] = []
        self.kinds: list[int] = []
        self._children: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def child(self, above: int, token: int, survival: float, kind: int = -1) -> int:
        """The node of `token` below node `above` (-1: the root), made if it is not there."""
        node = self._children.get((above, token))
        if node is None:
            node = self._children[above, token] = len(self.tokens)
            self.tokens.append(token)
            self.parent.append(above)
            self.survival.append(survival)
            self.kinds.append(kind)
        elif survival > self.survival[node]:
            self.survival[node] = survival
        return node

    def add(self, tokens: Sequences[int], survival: Sequences[float]) -> None:
        """A path from the root."""
        node = -1
        for token, chance in zip(tokens, survival, strict=False):
            node = self.child(node, token, chance)

    def tree(self, nodes: Sequences[int] | None = None) -> DraftTree:
        """As a draft: all of it, or these nodes in ascending order, whose parents are among them."""
        tokens, parent, survival = self.tokens, self.parent, self.survival
        if nodes is not None and len(nodes) < len(tokens):
            place = {node: number for number, node in enumerate(nodes)}
            place[-1] = -1
            tokens = [tokens[node] for node in nodes]
            parent = [place[parent[node]] for node in nodes]
            survival = [survival[node] for node in nodes]
        return DraftTree(ints(tokens), ints(parent), np.asarray(survival, dtype=np.float64))


class Guesser(Drafter):
    """A drafter that needs no weight streams, and can be asked for one sequence at a time."""

    @abstractmethod
    def guess(self, sequence: Sequence, budget: int) -> Trie:
        """At most `budget` tokens that may follow."""

    def propose(self, sequences: Sequences[Sequence], depths: Sequences[int], streams: Streams) -> list[DraftTree]:
        return [self.guess(sequence, depth).tree() for sequence, depth in zip(sequences, depths, strict=True)]
