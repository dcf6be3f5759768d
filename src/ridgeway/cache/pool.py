"""Pages and who holds them.

A page is free, owned (one or more sequences hold it) or cached (nobody holds it, but its content is known and a later
request with the same prefix may take it up). Cached pages are reused longest unused first: when free ones run short, or
at once where there is no prefix cache.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

# What the K/V of a page depend on: the node of the page before it, the page's tokens, and how they were computed.
PrefixKey = Hashable


@dataclass(frozen=True)
class Node:
    """A page whose content is known. `identity` is never reused, so a chain of nodes names a whole prefix."""

    identity: int
    page: int


class PagePool:
    """`total` pages of `page_size` slots. `free + cached + owned == total` always holds; see `check`.

    keeps: whether cached pages are reused only when there are no free ones any more. If not they are the first to be,
    so that no more memory is touched than is held at once.
    """

    def __init__(self, total: int, page_size: int, keeps: bool = True) -> None:
        assert total >= 0, total
        assert page_size > 0, page_size
        self.total = total
        self.page_size = page_size
        self._keeps = keeps
        self._free = list(range(total - 1, -1, -1))
        self._holders = [0] * total
        self._known: dict[PrefixKey, Node] = {}
        self._key_of: dict[int, PrefixKey] = {}
        self._unused: OrderedDict[int, None] = OrderedDict()  # cached pages, longest unused first
        self._next_identity = 1

    @property
    def available(self) -> int:
        """Pages that can be had without taking any from a sequence."""
        return len(self._free) + len(self._unused)

    @property
    def owned(self) -> int:
        return self.total - self.available

    def take(self) -> int | None:
        """A page for new content, held once; None if every page is owned."""
        if self._unused and not (self._keeps and self._free):
            page, _ = self._unused.popitem(last=False)
            self._forget(page)
        elif self._free:
            page = self._free.pop()
        else:
            return None
        self._holders[page] = 1
        return page

    def hold(self, page: int) -> None:
        """One more sequence holds a page that is owned or cached."""
        if self._holders[page] == 0:
            del self._unused[page]
        self._holders[page] += 1

    def release(self, page: int) -> None:
        """One sequence fewer holds `page`; content that is known stays until the page is needed."""
        assert self._holders[page] > 0, f"page {page} is released but nobody holds it"
        self._holders[page] -= 1
        if self._holders[page] == 0:
            if page in self._key_of:
                self._unused[page] = None
            else:
                self._free.append(page)

    def find(self, key: PrefixKey) -> Node | None:
        return self._known.get(key)

    def remember(self, key: PrefixKey, page: int) -> Node:
        """Content `key` is in `page`. If another page has it already, that one keeps the name."""
        node = self._known.get(key)
        if node is None:
            node = Node(self._next_identity, page)
            self._next_identity += 1
            self._known[key] = node
            self._key_of[page] = key
        return node

    def check(self) -> None:
        """The invariants, loudly."""
        held = len(self._holders) - self._holders.count(0)
        counts = f"free {len(self._free)} + cached {len(self._unused)} + owned {held} = total {self.total}"
        assert len(self._free) + len(self._unused) + held == self.total, counts
        assert not set(self._free) & set(self._unused), "a page is both free and cached"
        assert not any(map(self._holders.__getitem__, [*self._free, *self._unused])), counts
        assert all(page in self._key_of for page in self._unused), "a cached page has no known content"
        assert all(self._known[key].page == page for page, key in self._key_of.items())
        assert len(self._known) == len(self._key_of), (len(self._known), len(self._key_of))

    def _forget(self, page: int) -> None:
        del self._known[self._key_of.pop(page)]
