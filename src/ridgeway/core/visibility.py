"""Which rows of a query see which.

Every row also sees the cached slots of the query's context. Visibility between the rows of one query is what tells
autoregressive decoding (causal), masked diffusion (bidirectional), block diffusion (block) and trees of drafts apart.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from ridgeway.core.arrays import BoolArray, IntArray
from ridgeway.core.errors import RequestError


class Visibility(ABC):
    """A rule that says, for rows at given positions, which rows each row sees. A row always sees itself."""

    @property
    @abstractmethod
    def key(self) -> str:
        """What K/V computed under this rule depend on; part of the prefix cache's key."""

    @property
    def unit(self) -> int | None:
        """How many tokens, aligned to absolute positions, K/V depend on at once; None: on all that follow as well.

        A cached prefix may be cut, and serve another request, at multiples of this only.
        """
        return 1

    @abstractmethod
    def matrix(self, positions: IntArray) -> BoolArray:
        """(R, R) for rows at `positions` (R,): element [i, j] says whether row i sees row j."""


@dataclass(frozen=True)
class Causal(Visibility):
    """A row sees itself and the rows before it."""

    key = "causal"

    def matrix(self, positions: IntArray) -> BoolArray:
        return np.tri(len(positions), dtype=np.bool_)


@dataclass(frozen=True)
class Bidirectional(Visibility):
    """A row sees every row."""

    key = "bidirectional"
    unit = None

    def matrix(self, positions: IntArray) -> BoolArray:
        return np.ones((len(positions), len(positions)), dtype=np.bool_)


@dataclass(frozen=True)
class Block(Visibility):
    """Bidirectional inside blocks aligned to absolute positions, causal across them (Arriola et al. 2025)."""

    size: int

    @property
    def key(self) -> str:
        return f"block({self.size})"

    @property
    def unit(self) -> int:
        return self.size

    def matrix(self, positions: IntArray) -> BoolArray:
        blocks = positions // self.size
        return blocks[:, None] >= blocks[None, :]


@dataclass(frozen=True, eq=False)
class Tree(Visibility):
    """Any rule at all, written out; for a tree of drafts a row sees its ancestors and itself.

    K/V of a row that is kept must be what plain decoding would have computed: the row sees all committed rows before
    it on its path, and nothing else. So a kept row counts as causal for the prefix cache.
    """

    sees: BoolArray  # (R, R)
    key = "causal"

    def matrix(self, positions: IntArray) -> BoolArray:
        return self.sees

    @classmethod
    def of_parents(cls, parent: IntArray) -> "Tree":
        """The tree in which row i sees itself and what row `parent[i]` sees (-1: only the cached context)."""
        rows, width = len(parent), -(-len(parent) // 8)
        seen: list[int] = []  # bit by bit, which is quicker than array by array
        for row, above in enumerate(parent.tolist()):
            seen.append(1 << row | (seen[above] if above >= 0 else 0))
        packed = np.frombuffer(b"".join(bits.to_bytes(width, "little") for bits in seen), dtype=np.uint8)
        sees = np.unpackbits(packed.reshape(rows, width), axis=1, count=rows, bitorder="little")
        return cls(sees.view(np.bool_))


CAUSAL = Causal()
BIDIRECTIONAL = Bidirectional()


def parse_visibility(text: str) -> Visibility:
    """`causal`, `bidirectional` or `block(B)` as written by a person."""
    if not isinstance(text, str):
        raise RequestError(f"visibility={text!r}: expected causal, bidirectional or block(B), such as block(4)")
    if text == "causal":
        return CAUSAL
    if text == "bidirectional":
        return BIDIRECTIONAL
    if text.startswith("block(") and text.endswith(")") and text[6:-1].isdigit() and int(text[6:-1]) > 0:
        return Block(int(text[6:-1]))
    raise RequestError(f"visibility={text!r}: expected causal, bidirectional or block(B), such as block(4)")
