"""How far the chances of guesses can be trusted that are drafted for being likely.

Whoever picks the likeliest of many guesses picks those whose chances were estimated too high: "The Optimizer's Curse"
(Smith and Winkler 2006). Each estimate may be right on average, and still fewer of the guesses that were drafted come
true than was expected of them; where drafting hardly pays, as in a batch, that makes a gain a loss. So what came true
of drafted guesses is counted by how likely they seemed, and corrects how likely others seem.
"""

from collections.abc import Sequence

_BORDERS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)  # of chances that are counted together
_WEIGHT = 8.0  # of taking chances as they are, in guesses that are expected to come true
_MEMORY = 1 - 1 / 300
_MOST = 1.2  # times what was estimated; more is luck


class Trust:
    """Counts of guesses of one source."""

    def __init__(self) -> None:
        self._expected = [0.0] * (len(_BORDERS) + 1)
        self._came_true = [0.0] * (len(_BORDERS) + 1)

    def corrected(self, chance: float) -> float:
        """The chance to survive of a guess that is estimated to have `chance`."""
        place = _place(chance)
        factor = (self._came_true[place] + _WEIGHT) / (self._expected[place] + _WEIGHT)
        return min(1.0, chance * min(_MOST, factor))

    def observe(self, chance: float, came_true: bool) -> None:
        """A guess that was estimated to have `chance` was drafted."""
        place = _place(chance)
        self._expected[place] = _MEMORY * self._expected[place] + chance
        self._came_true[place] = _MEMORY * self._came_true[place] + came_true


def falling(chances: Sequence[float], parent: Sequence[int]) -> list[float]:
    """Chances to survive of the tokens of a tree, none above that of its parent; parent: -1 for the first tokens."""
    found: list[float] = []
    for chance, above in zip(chances, parent, strict=True):
        found.append(chance if above < 0 else min(chance, found[above]))
    return found


def _place(chance: float) -> int:
    place = 0
    while place < len(_BORDERS) and chance > _BORDERS[place]:
        place += 1
    return place
