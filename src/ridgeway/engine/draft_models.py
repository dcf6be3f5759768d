"""A second model that drafts: an executor and K/V pages of its own, and a view of each sequence that lasts.

Unlike a fork in the target's cache, which is thrown away after each round, the draft model's K/V are kept: from one
round to the next it only has to take back the tokens that were refused.
"""

from dataclasses import dataclass, field

from ridgeway.cache.pages import PagedCache, PageTable
from ridgeway.cache.pool import PagePool
from ridgeway.core.errors import OutOfPagesError
from ridgeway.core.executor import Executor
from ridgeway.core.sequence import Sequence
from ridgeway.roofline.cost import CostModel


@dataclass(eq=False)
class Fork:
    """A sequence with room to go on. tokens: of the sequence, then the drafter's own; cached: how many have K/V.

    model: which executor and cache it lives in. agreed: of a draft model, tokens that were committed when it was last
    looked at, and need no second look.
    """

    model: "Weights"
    sequence: Sequence
    table: PageTable
    tokens: list[int]
    cached: int
    agreed: int = 0

    def reserve(self, slots: int) -> None:
        """Make room for the K/V of `slots` tokens. Raises OutOfPagesError."""
        if not self.model.reserve(self, slots):
            raise OutOfPagesError("no page is left for a draft's own K/V")


@dataclass(eq=False)
class Weights:
    """A model as a drafter sees it: what runs it, what counts it, and where its K/V lie."""

    executor: Executor
    cost_model: CostModel
    cache: PagedCache

    def reserve(self, fork: Fork, slots: int) -> bool:
        return self.cache.reserve(fork.table, slots)


@dataclass(eq=False)
class DraftModel(Weights):
    """A model that drafts for another of the same vocabulary.

    views: by sequence, the longest unused first. in_use: those of this round, whose pages no one else may take.
    """

    views: dict[tuple[str, int], Fork] = field(default_factory=dict)
    in_use: set[tuple[str, int]] = field(default_factory=set)

    @classmethod
    def of(cls, executor: Executor, cost_model: CostModel, pages: int, page_size: int) -> "DraftModel":
        executor.allocate(pages * page_size)
        return cls(executor, cost_model, PagedCache(PagePool(pages, page_size)))

    def begin_round(self) -> None:
        self.in_use.clear()

    def view(self, sequence: Sequence, slots: int) -> Fork:
        """The view of `sequence`, without drafts that the target refused, with room for `slots` tokens.

        Raises OutOfPagesError if the views of this round leave no room.
        """
        fork = self.views.pop(sequence.key, None)
        if fork is not None and fork.sequence is not sequence:
            self.cache.release(fork.table)
            fork = None
        if fork is None:
            fork = Fork(self, sequence, PageTable(("draft",)), [], 0)
        known = fork.agreed
        limit = min(fork.cached, sequence.committed - 1)  # the row of the last token predicts the next
        while known < limit and fork.tokens[known] == sequence.tokens[known]:
            known += 1
        fork.tokens, fork.cached = list(sequence.tokens), min(known, limit)
        fork.agreed = fork.cached
        self.views[sequence.key] = fork
        fork.reserve(slots)
        self.in_use.add(sequence.key)
        return fork

    def reserve(self, fork: Fork, slots: int) -> bool:
        """Pages for `slots` tokens, from other sequences if none is free: they begin anew when their turn comes."""
        while not self.cache.reserve(fork.table, slots):
            others = (view for key, view in self.views.items() if view is not fork and key not in self.in_use)
            oldest = next((view for view in others if view.table.pages), None)
            if oldest is None:
                return False
            self.cache.release(oldest.table)
            oldest.cached = oldest.agreed = 0
        return True

    def release(self, sequence: Sequence) -> None:
        """The sequence is finished."""
        fork = self.views.pop(sequence.key, None)
        if fork is not None:
            self.cache.release(fork.table)
