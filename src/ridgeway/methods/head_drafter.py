"""Drafts from the model's own draft head: small, trained, and asked for several tokens at once.

See `models.draft_head` for what the head computes. It is handed the hidden state that the newest token was drawn from,
and told how the target will draw, so that it draws with the same noise.
"""

from collections.abc import Sequence as Sequences
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from ridgeway.core.arrays import FloatArray
from ridgeway.core.drafting import Guessed
from ridgeway.core.method import Drafter, DraftTree, Streams
from ridgeway.core.query import Answer, Commit, Query
from ridgeway.core.sequence import Sequence
from ridgeway.methods.trie import Trie

_CHANCES = 8  # classes of stated chances
_DEEPEST = 4  # steps from here on are counted together


class Reached(NamedTuple):
    """The hidden state from which the last of `committed` tokens was drawn."""

    committed: int
    hidden: FloatArray


class HeadDrafter(Drafter):
    """depth: how many tokens it guesses one after the other. least: as long as they survive with that chance; a guess
    behind one less likely takes longer to make and to verify than it is worth.
    """

    def __init__(self, depth: int, least: float = 0.2) -> None:
        self.depth = depth
        self.least = least
        self._reached: WeakKeyDictionary[Sequence, Reached] = WeakKeyDictionary()

    def ready(self, sequence: Sequence) -> bool:
        """Whether the state that its newest token was drawn from is known, and the K/V of all tokens before it."""
        reached = self._reached.get(sequence)
        return reached is not None and reached.committed == sequence.committed and sequence.pending == 1

    def guess(self, sequences: Sequences[Sequence], streams: Streams) -> list[Trie]:
        """What may follow each of `sequences`, all of which are `ready`: a chain of tokens, and their runners-up."""
        states = [self._reached[sequence].hidden for sequence in sequences]
        hidden = states[0][None] if len(states) == 1 else np.array(states)
        guessed = streams.unroll(sequences, hidden, self.depth, self.least)
        return [tree_of(guessed, place) for place in range(len(sequences))]

    def propose(self, sequences: Sequences[Sequence], depths: Sequences[int], streams: Streams) -> list[DraftTree]:
        trees = [Trie() for _ in sequences]
        able = [place for place, sequence in enumerate(sequences) if self.ready(sequence)]
        if able:
            found = self.guess([sequences[place] for place in able], streams)
            for place, tree in zip(able, found, strict=True):
                trees[place] = tree
        return [tree.tree().likeliest(depth) for tree, depth in zip(trees, depths, strict=True)]

    def observe(self, sequence: Sequence, query: Query, answer: Answer, commit: Commit) -> None:
        if answer.hidden is None or not len(commit.tokens):
            return
        last = len(commit.tokens) - 1
        row = last if commit.source is None else int(commit.source[last])
        self._reached[sequence] = Reached(sequence.committed, answer.hidden[row].copy())  # not the whole batch's


def tree_of(guessed: Guessed, row: int) -> Trie:
    """The guesses of one sequence: a chain, and at each of its tokens the runner-up."""
    tree = Trie()
    above, before = -1, 1.0
    steps = zip(guessed.tokens[row].tolist(), guessed.chances[row].tolist(), strict=True)
    for step, (tokens, chances) in enumerate(steps):
        if chances[0] <= 0:
            break
        node = -1
        for rank, (token, chance) in enumerate(zip(tokens, chances, strict=True)):
            if chance > 0:
                child = tree.child(above, token, before * chance, _kind(rank, step, chance))
                node = child if rank == 0 else node
        above, before = node, before * chances[0]
    return tree


def _kind(rank: int, step: int, chance: float) -> int:
    """Guesses of a kind come true about equally often."""
    return (rank * _DEEPEST + min(step, _DEEPEST - 1)) * _CHANCES + min(_CHANCES - 1, int(_CHANCES * chance))
