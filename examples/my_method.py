"""A decoding method of your own in one file: repeat yourself, but only if the model agrees.

The draft is whatever followed the last occurrence of the newest token; the model verifies it in the same weight stream
that plain decoding would have used for one token. Try it:

    ridgeway run "Count to twenty, then again." --method examples/my_method.py:Echo:depth=4
    python examples/my_method.py        # is it lossless?
"""

from dataclasses import dataclass

import numpy as np

from ridgeway.core.method import DecodingMethod, DraftTree, Rows
from ridgeway.core.query import NOTHING, Answer, Commit, Query, Readout
from ridgeway.core.sequence import Sequence


@dataclass(frozen=True)
class Echo(DecodingMethod):
    """Draft what followed the newest token last time; keep what the model would have said anyway."""

    name = "echo"
    depth: int = 3

    def demand(self, sequence: Sequence) -> Rows:
        return Rows(least=1, useful=sequence.pending + self.depth)

    def plan(self, sequence: Sequence, rows: int, draft: DraftTree | None) -> Query:
        # Rows without K/V yet (all of a new prompt, or the newest token), then the draft.
        end = min(sequence.committed, sequence.cached + rows)
        tokens = sequence.tokens[sequence.cached : end]
        known = len(tokens)
        if end == sequence.committed:
            tokens = tokens + self.guess(sequence.tokens)[: rows - known]
        positions = sequence.cached + np.arange(len(tokens))
        read = NOTHING  # in the middle of a prompt there is nothing to predict
        if end == sequence.committed:
            rows_read = np.arange(known - 1, len(tokens))
            read = Readout.of(rows_read, positions[rows_read] + 1)
        return Query(np.array(tokens), positions, read=read)

    def commit(self, sequence: Sequence, query: Query, answer: Answer) -> Commit:
        known = len(query) - max(len(query.read) - 1, 0)
        draft, drawn = query.tokens[known:], answer.tokens
        accepted = 0  # each drawn token is the model's own; drafts count while they equal it
        while accepted < len(draft) and draft[accepted] == drawn[accepted]:
            accepted += 1
        return Commit(tokens=drawn[: accepted + 1], keep=np.arange(known + accepted))

    def guess(self, tokens: list[int]) -> list[int]:
        for place in range(len(tokens) - 2, -1, -1):
            if tokens[place] == tokens[-1]:
                return tokens[place + 1 : place + 1 + self.depth]
        return []


if __name__ == "__main__":
    from ridgeway.testing import check_lossless

    check_lossless(Echo)
    print("lossless: token for token the text of plain decoding")
