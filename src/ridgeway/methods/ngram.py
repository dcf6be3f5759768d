"""Drafts from the text itself: what followed the last time the same few tokens were there.

Answers repeat their prompt (summaries, code, quotations) and themselves. The newest n tokens are looked up among all
earlier ones, the longest n first; what followed there is the draft. It costs no weight stream at all.

After "Assisted generation with prompt lookup" (Saxena 2023) and LLMA (Yang et al. 2023, arXiv 2304.04487), which scan
the text at each step; here an index grows by each new token (`matches`), so a lookup takes the same time in a
text of any length.
"""

from dataclasses import dataclass

from ridgeway.core.sequence import Sequence
from ridgeway.methods.matches import OwnMatches
from ridgeway.methods.trie import Guesser, Trie
from ridgeway.methods.verify import Speculative

# How often the next token is right by length of the match, before anything was seen: long matches are seldom chance.
_TRUST = (0.25, 0.4, 0.55, 0.7, 0.75, 0.8, 0.85, 0.9)


class NGramDrafter(Guesser):
    """longest: of matches. branches: how many of the latest such matches are followed; several make a tree."""

    def __init__(self, longest: int, branches: int = 1) -> None:
        self.longest = longest
        self.branches = branches
        self._matches = OwnMatches()

    def guess(self, sequence: Sequence, budget: int) -> Trie:
        """At most `budget` tokens."""
        tokens = sequence.tokens
        trie = Trie()
        found = self._matches.find(sequence, self.longest)
        if not found:
            return trie
        matched = found[0][0]
        places = [place for length, place in found if length == matched][: self.branches]
        trust = _TRUST[min(matched, len(_TRUST)) - 1]
        for rank, place in enumerate(places):
            survival = trust if rank == 0 else (1 - trust) * trust
            node = -1
            for token in self.follow(tokens, place, budget // len(places)):
                node = trie.child(node, token, survival)
                survival *= trust
        return trie

    @staticmethod
    def follow(tokens: list[int], place: int, depth: int) -> list[int]:
        """The tokens from `place` on; where the text ends, the draft repeats itself: a loop goes round."""
        draft = tokens[place : place + depth]
        period = len(tokens) - place
        while len(draft) < depth:
            draft.append(draft[len(draft) - period])
        return draft


@dataclass(frozen=True)
class NGram(Speculative):
    """Draft what followed the newest tokens when they were there before; no second model, no training."""

    name = "ngram"
    depth: int = 3
    longest: int = 4
    branches: int = 1

    def __post_init__(self) -> None:
        if min(self.depth, self.longest, self.branches) < 1:
            raise ValueError("depth, longest and branches are at least 1")

    def make_drafter(self) -> NGramDrafter:
        return NGramDrafter(self.longest, self.branches)

    @property
    def most(self) -> int:
        return self.depth
