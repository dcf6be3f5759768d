"""Where mask rows stand when a step verifies drafts and makes the next ones in the same weight stream.

How many drafts will be accepted is known only after the stream, but mask rows have to stand behind the last accepted
one to be of use. A group of them can stand behind the newest token and behind each draft, and only the group behind the
last accepted draft counts. So a layout is a bet:

- linear: one group, behind all drafts. Few rows; whenever a draft is refused, the next step has no drafts.
- quadratic: a group behind each possible end. There are always new drafts, for (k + 1) m + k rows.
- pruned: the rows of the quadratic layout that are worth their price. A draft's row is worth the chance s that it is
  accepted. A mask row is worth a token of the next step if its group is the one that counts, with chance e, and if its
  token and those before it come true, with chance q; for that it costs a row now and, with chance e, one in the next
  step: e q / (1 + e) for a row. Rows are taken in the order of their worth, of all sequences together, as long as the
  last one brings more than its time would bring otherwise.

Linear and quadratic layouts: "Your LLM Knows the Future" (Samragh et al. 2025, arXiv 2507.11851); "TiDAR" (Liu et al.
2025, arXiv 2511.08923) is quadratic. Pruning by a price list is ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class MaskLayout:
    """groups: (k + 1,) how many mask rows stand behind the newest token, then behind each of k verified drafts."""

    groups: tuple[int, ...] = (0,)

    @property
    def drafts(self) -> int:
        return len(self.groups) - 1

    @property
    def masks(self) -> int:
        return sum(self.groups)

    @property
    def rows(self) -> int:
        """Rows beside that of the newest token."""
        return self.drafts + self.masks


NO_MASKS = MaskLayout()


class Space(NamedTuple):
    """What a layout has to keep within: drafts at hand, mask rows of a group, rows, tokens that drafts may add."""

    drafts: int
    block: int
    rows: int
    room: int

    def masks(self, accepted: int) -> int:
        """Mask rows that make sense behind draft `accepted`: what they guess comes one token after it, and fits."""
        return max(0, min(self.block, self.room - accepted - 1))


def linear(space: Space) -> MaskLayout:
    """All drafts, then one group."""
    drafts = min(space.drafts, space.rows, space.room)
    return MaskLayout((0,) * drafts + (min(space.masks(drafts), space.rows - drafts),))


def quadratic(space: Space) -> MaskLayout:
    """A group behind the newest token and behind each draft; fewer drafts where rows are short."""
    for drafts in range(min(space.drafts, space.room), 0, -1):
        layout = MaskLayout(tuple(space.masks(accepted) for accepted in range(drafts + 1)))
        if layout.rows <= space.rows:
            return layout
    return MaskLayout((min(space.masks(0), space.rows),))


class Candidate(NamedTuple):
    """A row that could be added. worth: in tokens a row. group: the draft that it is, or that it stands behind."""

    worth: float
    group: int
    mask: bool


def candidates(space: Space, survival: Sequence[float], ahead: Sequence[float]) -> list[Candidate]:
    """The rows of the quadratic layout, most worth first, at most `space.rows`: any beginning of them is a layout.

    survival: (drafts,) chance that each draft and all before it are accepted. ahead: (block,) chance that the tokens of
    the first 1, 2, ... mask rows of a group will all be accepted.
    """
    drafts = min(space.drafts, space.room)
    chances = [1.0, *survival[:drafts], 0.0]
    found = []
    for group in range(drafts + 1):
        if group:
            found.append(Candidate(chances[group], group, mask=False))
        ends = chances[group] - chances[group + 1]
        found += [Candidate(ends * ahead[mask] / (1 + ends), group, mask=True) for mask in range(space.masks(group))]
    found.sort(key=lambda row: -row.worth)  # stable: a draft comes before its masks
    return found[: space.rows]


def of_candidates(chosen: Sequence[Candidate]) -> MaskLayout:
    groups = [0]
    for row in chosen:
        if not row.mask:
            groups.append(0)
    for row in chosen:
        groups[row.group] += row.mask
    return MaskLayout(tuple(groups))


def worthwhile(worth: Sequence[float], price: Callable[[int], float], rate: float) -> tuple[int, float]:
    """How many of the rows pay, and by how many tokens. worth: highest first. rate: tokens a second brings anyway."""
    best, most, total, plain = 0, 0.0, 0.0, price(0)
    for rows, tokens in enumerate(worth, start=1):
        total += tokens
        profit = total - rate * (price(rows) - plain)
        if profit > most:
            best, most = rows, profit
    return best, most
