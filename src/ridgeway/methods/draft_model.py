"""Speculative decoding: a small model writes ahead, the large one reads it all at once.

It pays where the small model's streams are cheap beside the large one's and the two often agree: with acceptance a and
c = the time of a draft stream over that of a target's, g drafts give (1 - a^(g+1)) / ((1 - a) (g c + 1)) times the
tokens per second, which is more than 1 for some g exactly if a > c.

    for i = 1 .. g:     x_i drawn from the draft model after x_1 .. x_(i-1)
    one weight stream:  the target's own draws after each of t, x_1, .., x_g
    commit              x_1 .. x_k while they equal the target's draws, and the draw after x_k

After "Fast Inference from Transformers via Speculative Decoding" (Leviathan, Kalman, Matias 2023, arXiv 2211.17192).
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ridgeway.core.arrays import ints
from ridgeway.core.errors import MethodError
from ridgeway.core.method import DraftTree
from ridgeway.core.query import Answer, Commit, Query
from ridgeway.core.sequence import Sequence
from ridgeway.methods.model_drafter import ModelDrafter
from ridgeway.methods.ratio import accept_by_ratio
from ridgeway.methods.verify import Speculative, record


@dataclass(frozen=True)
class Draft(Speculative):
    """Speculative decoding: a smaller model of the same vocabulary drafts.

    accept: `match` yields plain decoding's tokens; `ratio`, the paper's rule, yields tokens of the same distribution.
    """

    name = "draft"
    needs = "a causal model, and a second one of the same vocabulary"
    model: str = ""
    depth: int = 4
    accept: str = "match"
    confidence: float = 0.0

    def __post_init__(self) -> None:
        if self.accept not in ("match", "ratio"):
            raise ValueError(f"accept={self.accept!r}: expected match or ratio")
        if self.depth < 1:
            raise ValueError("depth is at least 1")

    @property
    def lossless(self) -> bool:  # type: ignore[override]
        return self.accept == "match"

    @property
    def draft_models(self) -> tuple[str, ...]:  # type: ignore[override]
        if not self.model:
            raise MethodError("draft: which model drafts? draft:model=NAME, a name, folder, file or hub id as for -m")
        return (self.model,)

    @cached_property
    def drafter(self) -> ModelDrafter:  # type: ignore[override]
        return self.make_drafter()

    def make_drafter(self) -> ModelDrafter:
        return ModelDrafter(self.model, threshold=self.confidence, distributions=self.accept == "ratio")

    @property
    def most(self) -> int:
        return self.depth

    def plan(self, sequence: Sequence, rows: int, draft: DraftTree | None) -> Query:
        query = super().plan(sequence, rows, draft)
        if self.accept == "match" or not len(query.read):
            return query
        return query.reading(replace(query.read, measures=frozenset({"distribution"})))

    def commit(self, sequence: Sequence, query: Query, answer: Answer) -> Commit:
        if self.accept == "match" or not len(query.read):
            return super().commit(sequence, query, answer)
        if answer.distribution is None:
            raise MethodError("accept=ratio needs an executor that returns distributions; use accept=match")
        rows = query.read.rows
        tokens = accept_by_ratio(
            [int(token) for token in query.tokens[rows[1:]]],
            answer.distribution,
            self.drafter.drawn_from.get(sequence, []),
            int(answer.tokens[-1]),
            seed=sequence.seed,
            sample=sequence.sample,
            position=int(query.read.predicts[0]),
        )
        record(sequence, query, rows, len(tokens) - 1)
        # Read rows tell the log-probability of the token that was drawn there, which a draft or a residual need not be.
        source = [row if answer.tokens[row] == token else -1 for row, token in enumerate(tokens)]
        return Commit(ints(tokens), np.arange(rows[0] + len(tokens)), ints(source))
