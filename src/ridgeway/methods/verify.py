"""Verification of drafts: one weight stream checks many guesses, and each right guess saves a weight stream.

Decoding is memory-bound: a weight stream over a few rows takes about as long as one over a single row. So a drafter
guesses the next tokens, as a chain or as a tree, and the model reads the newest token and all guesses at once. At each
row the target's own token is drawn, with the very noise that plain decoding would use there; a guess is accepted while
it equals what was drawn, and the first draw that no guess foresaw is committed as well. All committed tokens are thus
draws of the target, and the text is that of plain decoding, token for token, at any temperature.

    rows:      t  a  b  c        t: newest committed token; a b: one guess; c: another guess after t
    see:       t  ta tab tc      (and everything cached)
    drawn:     a  b  y  -        -> a, b, y are committed; t, a, b are kept in the cache
"""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ridgeway.core.arrays import NO_INTS, IntArray, ints, span
from ridgeway.core.method import NO_DRAFT, PREFILL, DecodingMethod, Drafter, DraftTree, Rows
from ridgeway.core.outputs import DraftCounts
from ridgeway.core.query import Answer, Commit, Measure, Query, Readout
from ridgeway.core.sequence import Sequence
from ridgeway.core.visibility import Tree


class Speculative(DecodingMethod):
    """What all methods share whose drafts are verified: `drafter` guesses at most `most` tokens for a step.

    top: how many of the likeliest tokens the drafter wants to see of each verified row.
    """

    top: int = 0

    @cached_property
    def drafter(self) -> Drafter:  # type: ignore[override]
        return self.make_drafter()

    @abstractmethod
    def make_drafter(self) -> Drafter: ...

    @property
    @abstractmethod
    def most(self) -> int:
        """Most tokens drafted for one step."""

    def measures(self, sequence: Sequence) -> frozenset[Measure]:
        """What the drafter wants to know of each verified row."""
        return frozenset()

    def start(self, sequence: Sequence) -> Any:
        sequence.drafts = DraftCounts()

    def demand(self, sequence: Sequence) -> Rows:
        pending = sequence.pending
        if pending > PREFILL:
            return Rows(1, pending)
        return Rows(1, pending + min(self.most, room(sequence)))

    def plan(self, sequence: Sequence, rows: int, draft: DraftTree | None) -> Query:
        start, stop = sequence.cached, min(sequence.cached + rows, sequence.committed)
        known = sequence.tokens[start:stop]
        if stop < sequence.committed:
            return Query(ints(known), span(start, stop))
        tree = NO_DRAFT if draft is None else fitting(sequence, draft, rows - len(known))
        tokens = ints(known + tree.tokens.tolist() if len(tree) else known)
        measures = self.measures(sequence)
        newest = len(known) - 1  # row of the newest committed token; it and the drafts' are read
        read = span(newest, len(tokens))
        if not len(tree) or tree.is_chain:  # of no drafts: plain decoding, at its price
            predicts = span(stop, stop + len(read))
            readout = Readout.of(read, predicts, top=self.top, measures=measures)
            return Query(tokens, span(start, start + len(tokens)), read=readout)
        positions = np.concatenate([span(start, stop), stop - 1 + tree.depth])
        parent = np.concatenate([span(-1, newest), newest + 1 + tree.parent])  # the root is the newest token's row
        return Query(
            tokens,
            positions,
            visibility=Tree.of_parents(parent),
            parent=parent,
            read=Readout.of(read, positions[read] + 1, top=self.top, measures=measures),
        )

    def commit(self, sequence: Sequence, query: Query, answer: Answer) -> Commit:
        if not len(query.read):
            return Commit(NO_INTS, span(0, len(query)))
        # The newest committed token, then the drafts.
        return verified(sequence, query, answer, query.read.rows)


@dataclass(frozen=True)
class Verify(Speculative):
    """Verify what a drafter of your own guesses."""

    name = "verify"
    own: Drafter
    nodes: int = 4

    def make_drafter(self) -> Drafter:
        return self.own

    @property
    def most(self) -> int:
        return self.nodes


def room(sequence: Sequence) -> int:
    """How long a draft may be: all accepted, one more token is committed, and that may be the last."""
    return max(0, sequence.max_committed - sequence.committed - 1)


def fitting(sequence: Sequence, tree: DraftTree, nodes: int) -> DraftTree:
    """The part of a draft that has a place: tokens of the vocabulary, no deeper than the answer may grow."""
    if not len(tree):
        return tree
    tokens = tree.tokens.tolist()
    if min(tokens) >= 0 and max(tokens) < sequence.traits.vocab_size and len(tree) <= room(sequence):
        return tree.likeliest(nodes)
    fits = (tree.tokens >= 0) & (tree.tokens < sequence.traits.vocab_size) & (tree.depth <= room(sequence))
    return tree.only(fits).likeliest(nodes)


def verified(sequence: Sequence, query: Query, answer: Answer, rows: IntArray) -> Commit:
    """What is committed and kept of verified drafts; they are counted.

    rows: the first rows that were read: the newest committed token's, then the drafts'.
    """
    if len(rows) == 1:
        return Commit(answer.tokens[:1], span(0, int(rows[0]) + 1))
    path = accepted_path(query, rows, answer.tokens)
    record(sequence, query, rows, len(path) - 1)
    return Commit(answer.tokens[path], np.concatenate([span(0, rows.item(0)), rows[path]]), source=path)


def accepted_path(query: Query, rows: IntArray, drawn: IntArray) -> IntArray:
    """The accepted path, as indexes of `rows`: the newest committed token's row, and drafts behind it.

    rows: the newest token's row first. drawn: the target's token after each of them.
    """
    numbers = rows.tolist()
    parents, guesses, draws = query.parent[rows].tolist(), query.tokens[rows].tolist(), drawn.tolist()
    path = [0]
    for place in range(1, len(numbers)):  # a parent comes before its children
        if parents[place] == numbers[path[-1]] and guesses[place] == draws[path[-1]]:
            path.append(place)
    return ints(path)


def record(sequence: Sequence, query: Query, rows: IntArray, accepted: int) -> None:
    """Count what became of the drafts (`rows` but the first): how many at each position, how many accepted."""
    newest, *drafted = query.positions[rows].tolist()
    if sequence.drafts is not None and drafted:
        counts = [0] * (max(drafted) - newest)
        for position in drafted:
            counts[position - newest - 1] += 1
        sequence.drafts.record(counts, accepted)
