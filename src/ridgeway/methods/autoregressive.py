"""Autoregressive decoding.

The row of the last token predicts the next one. A prompt that is not cached yet is the same query with more rows:
prefill is not a phase. This is what every lossless method must equal, token for token.
"""

from dataclasses import dataclass

from ridgeway.core.arrays import NO_INTS, ints, span
from ridgeway.core.method import DecodingMethod, DraftTree, Rows
from ridgeway.core.query import NOTHING, Answer, Commit, Query, Readout
from ridgeway.core.sequence import Sequence


@dataclass(frozen=True)
class Autoregressive(DecodingMethod):
    """Plain autoregressive decoding: one token per weight stream."""

    name = "ar"
    lossless = True
    needs = "a causal model"

    def demand(self, sequence: Sequence) -> Rows:
        return Rows(least=1, useful=sequence.pending)

    def plan(self, sequence: Sequence, rows: int, draft: DraftTree | None) -> Query:
        start, stop = sequence.cached, min(sequence.cached + rows, sequence.committed)
        last = stop == sequence.committed
        return Query(
            tokens=ints(sequence.tokens[start:stop]),
            positions=span(start, stop),
            read=Readout.of(span(stop - start - 1, stop - start), span(stop, stop + 1)) if last else NOTHING,
        )

    def commit(self, sequence: Sequence, query: Query, answer: Answer) -> Commit:
        return Commit(tokens=answer.tokens if len(query.read) else NO_INTS, keep=span(0, len(query)))
