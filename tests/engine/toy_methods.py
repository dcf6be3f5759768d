"""Methods that show what the interface holds: verified chains and trees of drafts."""

from dataclasses import dataclass, field

import numpy as np

from ridgeway.core.arrays import NO_INTS, ints
from ridgeway.core.method import DecodingMethod, Drafter, DraftTree, Rows
from ridgeway.core.query import Answer, Commit, Query, Readout
from ridgeway.core.sequence import Sequence
from ridgeway.core.visibility import Tree


class Oracle(Drafter):
    """Knows the answers beforehand, and errs on every `wrong_every`-th token. It counts what it observes."""

    def __init__(self, answers: dict[tuple[int, ...], list[int]], wrong_every: int = 3, branches: int = 1) -> None:
        self.answers = answers
        self.wrong_every = wrong_every
        self.branches = branches
        self.observed = 0

    def propose(self, sequences, depths, streams):
        return [self._tree(sequence, depth) for sequence, depth in zip(sequences, depths, strict=True)]

    def observe(self, sequence, query, answer, commit):
        self.observed += len(commit.tokens)

    def _tree(self, sequence: Sequence, depth: int) -> DraftTree:
        answer = self.answers[tuple(sequence.tokens[: sequence.prompt_length])]
        tokens, parent, above = [], [], -1
        for step in range(depth // self.branches):
            place = sequence.generated + step
            if place >= len(answer):
                break
            right, wrong = answer[place], (answer[place] + 1) % sequence.traits.vocab_size
            guesses = [right] if self.branches == 1 else [wrong, right][: self.branches]
            if self.wrong_every and place % self.wrong_every == self.wrong_every - 1:
                guesses = [wrong] * len(guesses)
            first = len(tokens)
            tokens += guesses
            parent += [above] * len(guesses)
            above = first + len(guesses) - 1
        return DraftTree(ints(tokens), ints(parent), np.ones(len(tokens)))


class SelfDrafter(Drafter):
    """Drafts with weight streams of its own, of the very same weights, and counts them."""

    def __init__(self, fail_at: int = 0) -> None:
        self.streams = 0
        self.fail_at = fail_at

    def propose(self, sequences, depths, streams):
        views = [streams.fork(sequence) for sequence in sequences]
        drafted = [[] for _ in sequences]
        for _ in range(min(depths)):
            queries = []
            for view in views:
                start, stop = view.cached, len(view.tokens)
                read = Readout.of([stop - start - 1], [stop])
                queries.append(Query(ints(view.tokens[start:stop]), np.arange(start, stop), read=read))
            answers = streams.forward(views, queries)
            self.streams += 1
            if self.streams == self.fail_at:
                raise ArithmeticError("the fourth stream")
            for view, tokens, answer in zip(views, drafted, answers, strict=True):
                tokens.append(int(answer.tokens[0]))
                view.tokens.append(tokens[-1])
        return [DraftTree(ints(t), np.arange(-1, len(t) - 1), np.ones(len(t))) for t in drafted]


@dataclass(frozen=True)
class Verify(DecodingMethod):
    """The newest token, then a tree of drafts (a chain if no token has two children): keep the path that is drawn."""

    name = "verify"
    drafter: Drafter = field(default_factory=lambda: Oracle({}))
    depth: int = 4

    def demand(self, sequence: Sequence) -> Rows:
        return Rows(least=1, useful=sequence.pending + self.depth)

    def plan(self, sequence: Sequence, rows: int, draft: DraftTree | None) -> Query:
        start, stop = sequence.cached, min(sequence.cached + rows, sequence.committed)
        known = stop - start
        parent = list(range(-1, known - 1))
        tokens, positions = sequence.tokens[start:stop], list(range(start, stop))
        if stop < sequence.committed:
            return Query(ints(tokens), ints(positions))
        for token, above in zip(draft.tokens, draft.parent, strict=True) if draft is not None else ():
            parent.append(known - 1 if above < 0 else known + int(above))
            positions.append(positions[parent[-1]] + 1)
            tokens = [*tokens, int(token)]
        read = np.arange(known - 1, len(tokens))
        return Query(
            ints(tokens),
            ints(positions),
            visibility=Tree.of_parents(ints(parent)),
            parent=ints(parent),
            read=Readout.of(read, ints(positions)[read] + 1),
        )

    def commit(self, sequence: Sequence, query: Query, answer: Answer) -> Commit:
        if not len(query.read):
            return Commit(NO_INTS, np.arange(len(query)))
        row = int(query.read.rows[0])
        keep, tokens, source = list(range(row + 1)), [], []
        while True:
            read = row - int(query.read.rows[0])
            tokens.append(int(answer.tokens[read]))
            source.append(read)
            children = [
                child
                for child in np.flatnonzero(query.parent == row)
                if child > query.read.rows[0] and query.tokens[child] == tokens[-1]
            ]
            if not children:
                return Commit(ints(tokens), ints(keep), ints(source))
            row = int(children[0])
            keep.append(row)
