"""Lookahead decoding: the model guesses its own future in parallel, with no second model and no training.

Decoding is a fixed point: a text is right when every token is what the model says after the tokens before it. Jacobi
iteration starts from any future at all and replaces all its tokens at once by what the model says, again and again; its
tokens are mostly wrong in place, but the n-grams they pass through often turn up later. So one weight stream does both:

- the window carries W futures, each N - 1 steps of Jacobi iteration deep, and yields W new n-grams;
- the verification branch checks up to G n-grams of the pool that begin with the newest token t.

    positions  t    t+1  t+2  t+3        W = 3 columns, N = 4: levels 0, 1, 2
    level 0    t    a    b               a row sees level 0 up to its own column,
    level 1         c    d    e          and its column's levels above it
    level 2              f    g    h     argmax below level 2: x, y, z;  new n-grams  t c f x,  a d g y,  b e h z
    guesses         p    q    r          drawn as in plain decoding, accepted while they equal what is drawn

After "Break the Sequential Dependency of LLM Inference Using Lookahead Decoding" (Fu et al. 2024, arXiv 2402.02057,
section 3 and algorithm 2). Two differences: guesses with a common beginning share its rows, as a tree; and a guess that
is accepted whole yields the token after it as well, as its last row has been computed anyway.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from ridgeway.core.arrays import NO_INTS, ints
from ridgeway.core.method import PREFILL, DecodingMethod, DraftTree, Rows
from ridgeway.core.outputs import DraftCounts
from ridgeway.core.query import Answer, Commit, Query, Readout
from ridgeway.core.sequence import Sequence
from ridgeway.core.visibility import Tree
from ridgeway.methods.trie import Trie
from ridgeway.methods.verify import fitting, room, verified


@dataclass
class Futures:
    """State of a sequence. levels: of the window, each with as many columns; pool: n-grams by their first token.

    columns: of the window in the query that was planned last, 0 if there was no room for it.
    """

    levels: list[list[int]]
    pool: defaultdict[int, list[tuple[int, ...]]] = field(default_factory=lambda: defaultdict(list))
    columns: int = 0


@dataclass(frozen=True)
class Lookahead(DecodingMethod):
    """Verify n-grams that the model came upon while it guessed its own future in parallel (Jacobi iteration)."""

    name = "lookahead"
    window: int = 4  # W
    ngram: int = 3  # N
    guesses: int = 4  # G

    def __post_init__(self) -> None:
        if self.window < 1 or self.ngram < 2 or self.guesses < 1:
            raise ValueError("window and guesses are at least 1, ngram at least 2")

    def start(self, sequence: Sequence) -> Futures:
        sequence.drafts = DraftCounts()
        # Any future will do to begin with; the prompt's own tokens are nearer than others. While the levels fill, one
        # column is used up at each step.
        columns = self.window + self.ngram - 2
        return Futures(levels=[[int(token) for token in np.resize(sequence.tokens[::-1], columns)]])

    def demand(self, sequence: Sequence) -> Rows:
        if sequence.pending > PREFILL or not room(sequence):
            return Rows(1, sequence.pending)
        columns = len(sequence.state.levels[0])
        return Rows(1, sequence.pending + columns * (self.ngram - 1) - 1 + self.guesses * (self.ngram - 1))

    def plan(self, sequence: Sequence, rows: int, draft: DraftTree | None) -> Query:
        start, stop = sequence.cached, min(sequence.cached + rows, sequence.committed)
        known, futures = stop - start, sequence.state
        tokens, positions = ints(sequence.tokens[start:stop]), np.arange(start, stop, dtype=np.int64)
        futures.columns = 0
        if stop < sequence.committed:
            return Query(tokens, positions)
        newest, t = known - 1, sequence.committed - 1

        levels, columns = futures.levels, len(futures.levels[0])
        levels[0][0] = sequence.tokens[-1]
        fits = known + len(levels) * columns - 1 <= rows
        if room(sequence) and fits and t + len(levels) + columns <= sequence.traits.max_positions:
            futures.columns = columns
            window = np.asarray(levels, dtype=np.int64).reshape(-1)[1:]  # the newest token has a row already
            level, column = np.divmod(np.arange(1, len(window) + 1), columns)
        else:
            window, level, column = NO_INTS, NO_INTS, NO_INTS
        guesses = self.guessed(sequence, rows - known - len(window))

        # (level, column) is row `newest + level * columns + column`; the guesses come last.
        first_guess = known + len(window)
        above = np.where(level == 0, column - 1, (level - 1) * columns + column)
        parent = np.concatenate(
            [
                np.arange(-1, newest),
                newest + above,
                np.where(guesses.parent < 0, newest, first_guess + guesses.parent),
            ]
        )
        # The last level is read for the next step of the iteration: what is likeliest, whatever the sampling.
        last_level = newest + np.arange(max(0, len(levels) - 1) * columns, len(levels) * columns)[: futures.columns]
        drawn = np.concatenate([[newest], np.arange(first_guess, first_guess + len(guesses))])
        read = ints(np.concatenate([drawn, last_level]))
        positions = np.concatenate([positions, t + level + column, t + guesses.depth])
        return Query(
            np.concatenate([tokens, window, guesses.tokens]),
            positions,
            # A column's levels hang from its level 0, which hangs from the column to its left: a tree, after all.
            visibility=Tree.of_parents(parent),
            parent=parent,
            read=Readout.of(read, positions[read] + 1, sampled=np.arange(len(read)) < len(drawn)),
        )

    def commit(self, sequence: Sequence, query: Query, answer: Answer) -> Commit:
        if not len(query.read):
            return Commit(NO_INTS, np.arange(len(query)))
        futures = sequence.state
        drawn = len(query.read) - futures.columns
        if futures.columns:
            self.advance(futures, [int(token) for token in answer.tokens[drawn:]])
        return verified(sequence, query, answer, query.read.rows[:drawn])  # the newest token, then the guesses

    def guessed(self, sequence: Sequence, nodes: int) -> DraftTree:
        """N-grams of the pool that begin with the newest token, as a tree; the newest n-grams come first."""
        trie = Trie()
        for order, ngram in enumerate(sequence.state.pool.get(sequence.tokens[-1], ())):
            trie.add(ngram, [0.5 / (1 + order) * 0.9**depth for depth in range(len(ngram))])
        return fitting(sequence, trie.tree(), max(0, nodes))

    def advance(self, futures: Futures, new: list[int]) -> None:
        """One step of Jacobi iteration: `new` (columns,) is what the model says below the last level."""
        levels = futures.levels
        if len(levels) < self.ngram - 1:  # the window still grows deeper; time moves on by a column
            futures.levels = [level[1:] for level in (*levels, new)]
        else:
            for column in range(len(new)):
                ngram = (*(level[column] for level in levels), new[column])
                pool = futures.pool[ngram[0]]
                if ngram[1:] in pool:
                    pool.remove(ngram[1:])
                pool.insert(0, ngram[1:])
                del pool[self.guesses :]
            futures.levels = [*levels[1:], new]
