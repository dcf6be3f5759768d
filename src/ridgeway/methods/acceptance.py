"""How often a drafter's guesses come true: what it says of itself, corrected by what was seen.

A drafter states a chance for each guess. Guesses of one drafter with about the same stated chance, at about the same
depth, are counted together: how many came true of those that could, that is, whose predecessors all came true. Guesses
behind a wrong one say nothing (they are censored) and count neither way.

A request's own counts weigh most; while they are few, what was seen of all requests stands in, and before that what
the drafter states. Old observations fade, as texts change.
"""

from collections.abc import Sequence as Sequences

from ridgeway.methods.trie import Trie

_CLASSES = 8  # of stated chances
_DEEPEST = 4  # depths from here on are counted together

Kind = tuple[int, int, int]  # drafter, class of stated chance, depth


def kind_of(drafter: int, stated: float, depth: int) -> Kind:
    """What a guess is counted with."""
    return drafter, min(_CLASSES - 1, int(_CLASSES * stated)), min(depth, _DEEPEST)


class Acceptance:
    """Counts by kind. above: what stands in while there are few; weight: of that, in observations.

    memory: about how many observations of a kind count.
    """

    def __init__(self, above: "Acceptance | None" = None, weight: float = 4.0, memory: float = 200.0) -> None:
        self.above = above
        self.weight = weight
        self.fade = 1 - 1 / memory
        self._counts: dict[Kind, tuple[float, float]] = {}  # came true, could have

    def chance(self, kind: Kind, stated: float) -> float:
        """Estimated chance that a guess comes true if all before it did."""
        prior = stated if self.above is None else self.above.chance(kind, stated)
        right, tried = self._counts.get(kind, (0.0, 0.0))
        return (right + self.weight * prior) / (tried + self.weight)

    def observe(self, kind: Kind, came_true: bool) -> None:
        right, tried = self._counts.get(kind, (0.0, 0.0))
        self._counts[kind] = (self.fade * right + came_true, self.fade * tried + 1)
        if self.above is not None:
            self.above.observe(kind, came_true)


class Guesses(Trie):
    """A tree of guesses of several drafters, which learns from the text that really came, drafted or not.

    Whether a guess is right shows once the text has grown past it, so guesses teach even if they were never verified:
    a drafter that rests can be judged at no cost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[list[Kind]] = []  # of each node: who guessed it
        self._reached = -1  # node where the text stands; -1 the root, None beyond the tree
        self._alive = True

    def guess(self, above: int, token: int, survival: float, kind: Kind) -> int:
        node = self.child(above, token, survival)
        if node == len(self.kinds):
            self.kinds.append([])
        self.kinds[node].append(kind)
        return node

    def watch(self, tokens: Sequences[int], acceptance: Acceptance) -> list[Kind]:
        """The text has grown by `tokens`; returns who guessed them."""
        right: list[Kind] = []
        for token in tokens:
            if not self._alive:
                break
            reached, self._alive = self._reached, False
            for node, above in enumerate(self.parent):
                if above == reached:
                    came_true = self.tokens[node] == token
                    for kind in self.kinds[node]:
                        acceptance.observe(kind, came_true)
                    if came_true:
                        right += self.kinds[node]
                        self._reached, self._alive = node, True
        return right
