"""How often a drafter's guesses come true: what it says of itself, corrected by what was seen.

A drafter states a chance for each guess, and of what kind it is. Guesses of a kind are counted together: how many came
true of those that could, that is, whose predecessors all came true. Guesses behind a wrong one say nothing (they are
censored) and count neither way. Where several drafters guess, it tells whether they agree, so that is part of the kind.

A request's own counts weigh most; while they are few, what was seen of all requests stands in, and before that what
the drafter states. Old observations fade, as texts change.
"""

from collections.abc import Sequence as Sequences

from ridgeway.methods.trie import Trie

_CLASSES = 8  # of stated chances, for drafters that do not say of what kind a guess is
_DEEPEST = 4  # depths from here on are counted together
_CERTAIN = 0.999  # no guess is surer: it survives no more often than what it follows

Kind = tuple[int, int, int]  # drafter; of what kind it says the guess is; whether earlier drafters differ or agree
FIRST, AGREES, DIFFERS = range(3)


def kind_of(drafter: int, stated: float, depth: int) -> Kind:
    """What a guess is counted with of which only a chance is stated."""
    return drafter, _DEEPEST * min(_CLASSES - 1, int(_CLASSES * stated)) + min(depth, _DEEPEST) - 1, FIRST


class Acceptance:
    """Counts by kind. above: what stands in while there are few; weight: of that, in observations.

    memory: about how many observations of a kind count.
    """

    def __init__(self, above: "Acceptance | None" = None, weight: float = 8.0, memory: float = 1000.0) -> None:
        self.above = above
        self.weight = weight
        self.fade = 1 - 1 / memory
        self._counts: dict[Kind, tuple[float, float]] = {}  # came true, could have

    def chance(self, kind: Kind, stated: float) -> float:
        """Estimated chance that a guess comes true if all before it did."""
        prior = stated if self.above is None else self.above.chance(kind, stated)
        counts = self._counts.get(kind)
        if counts is None:
            return prior
        right, tried = counts
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
        self.guessed_by: list[list[Kind]] = []  # of each node
        self._first: dict[int, int] = {}  # by node: the drafter that was the first to guess what follows it
        self._reached = -1  # node where the text stands; -1 the root
        self._alive = True

    def merge(self, drafter: int, guesses: Trie, acceptance: Acceptance) -> None:
        """Add what a drafter guesses, at the chances that `acceptance` tells."""
        places: list[int] = []
        depths: list[int] = []
        first, children, survivals = self._first, self._children, self.survival
        for token, above, stated, own in zip(
            guesses.tokens, guesses.parent, guesses.survival, guesses.kinds, strict=True
        ):
            if above < 0:
                at, before, depth = -1, 1.0, 1
            else:
                at, depth = places[above], depths[above] + 1
                before, stated = survivals[at], stated / guesses.survival[above]
            node = children.get((at, token))
            where = FIRST if first.setdefault(at, drafter) == drafter else DIFFERS if node is None else AGREES
            kind = (drafter, own if own >= 0 else kind_of(drafter, stated, depth)[1], where)
            survival = before * min(_CERTAIN, acceptance.chance(kind, stated))
            if node is None:
                node = self.child(at, token, survival)
                self.guessed_by.append([kind])
            else:
                self.guessed_by[node].append(kind)
                survivals[node] = max(survival, survivals[node])
            places.append(node)
            depths.append(depth)

    @property
    def undecided(self) -> bool:
        """Whether more text would tell more of these guesses."""
        return self._alive

    def watch(self, tokens: Sequences[int], acceptance: Acceptance) -> list[int]:
        """The text has grown by `tokens`; returns the numbers of the drafters that guessed them, token by token."""
        right: list[int] = []
        for token in tokens:
            if not self._alive:
                break
            reached, self._alive = self._reached, False
            for node, above in enumerate(self.parent):
                if above == reached:
                    came_true = self.tokens[node] == token
                    for kind in self.guessed_by[node]:
                        acceptance.observe(kind, came_true)
                        if came_true:
                            right.append(kind[0])
                    if came_true:
                        self._reached, self._alive = node, True
        return right
