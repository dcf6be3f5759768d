"""Which pages a sequence has, and which of them it can take up from earlier requests."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ridgeway.cache.pool import PagePool
from ridgeway.core.arrays import NO_INTS, IntArray


@dataclass
class PageTable:
    """The pages of one sequence in order.

    scope: what else the K/V depend on: visibility, and whatever else keeps prefixes apart. Only tables of one scope
    share pages.
    """

    scope: tuple[Hashable, ...]
    pages: list[int] = field(default_factory=list)
    known: int = 0  # how many of the pages, from the first, are in the prefix cache's index
    node: int = 0  # identity of the last of them
    slots: IntArray = field(default_factory=lambda: NO_INTS)  # of the pages listed so far, with room for more
    listed: int = 0  # how many of the pages `slots` covers


class PagedCache:
    """Hands out pages to tables, and finds prefixes that are cached already."""

    def __init__(self, pool: PagePool) -> None:
        self.pool = pool

    @property
    def page_size(self) -> int:
        return self.pool.page_size

    def pages_for(self, slots: int) -> int:
        return -(-slots // self.page_size)

    def reserve(self, table: PageTable, slots: int) -> bool:
        """Make the table reach `slots` slots; False (and nothing changed) if the pool has too few pages."""
        missing = self.pages_for(slots) - len(table.pages)
        if missing > self.pool.available:
            return False
        for _ in range(missing):
            page = self.pool.take()
            assert page is not None
            table.pages.append(page)
        return True

    def slots(self, table: PageTable, count: int) -> IntArray:
        """Physical slots of the first `count` logical ones: (count,)."""
        if table.listed * self.page_size < count:
            self._list_slots(table)
        return table.slots[:count]

    def _list_slots(self, table: PageTable) -> None:
        """Brings `table.slots` up to the pages; arrays that were handed out before stay as they are."""
        size, pages = self.page_size, table.pages
        if len(table.slots) < len(pages) * size:
            table.slots = np.empty(2 * len(pages) * size, dtype=np.int64)
            table.listed = 0
        for place in range(table.listed, len(pages)):
            table.slots[place * size : (place + 1) * size] = np.arange(pages[place] * size, (pages[place] + 1) * size)
        table.listed = len(pages)

    def match(self, table: PageTable, tokens: Sequence[int], limit: int) -> int:
        """Take up cached pages that hold a prefix of `tokens`, at most `limit` tokens; returns how many tokens."""
        assert not table.pages, "a prefix is looked up before any page is taken"
        while (table.known + 1) * self.page_size <= limit:
            found = self.pool.find(self._key(table, tokens))
            if found is None:
                break
            self.pool.hold(found.page)
            table.pages.append(found.page)
            table.known += 1
            table.node = found.identity
        return table.known * self.page_size

    def remember(self, table: PageTable, tokens: Sequence[int], cached: int) -> None:
        """Tell the prefix cache of pages that were filled: `cached` slots of `table` hold the K/V of `tokens`."""
        while (table.known + 1) * self.page_size <= cached:
            node = self.pool.remember(self._key(table, tokens), table.pages[table.known])
            table.known += 1
            table.node = node.identity

    def release(self, table: PageTable) -> None:
        """Give all pages back. The last pages of a prefix are reused first, as nothing can follow a missing one."""
        for page in reversed(table.pages):
            self.pool.release(page)
        table.pages.clear()
        table.known, table.node = 0, 0
        table.slots, table.listed = NO_INTS, 0

    def _key(self, table: PageTable, tokens: Sequence[int]) -> Hashable:
        start = table.known * self.page_size
        return (table.scope, table.node, tuple(tokens[start : start + self.page_size]))
