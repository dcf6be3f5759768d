"""Methods that draft, replayed over texts that a model wrote already: no model, exact prices, no noise.

As a lossless method never changes the text, the text alone decides which drafts are accepted, and a price for each
number of rows decides what a step costs. So settings and controllers can be compared exactly, in seconds.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgeway.core.arrays import ints
from ridgeway.core.errors import MethodError
from ridgeway.core.query import Answer
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.core.sequence import Sequence as Running
from ridgeway.core.traits import ModelTraits
from ridgeway.methods.verify import Speculative

Price = Callable[[int], float]  # seconds of a weight stream by its rows


class PricedStreams:
    """Stands in for the engine's: knows the price of the coming step and has no streams to give."""

    def __init__(self, price: Price, certain: int) -> None:
        self._price = price
        self.certain = certain

    def price(self, drafted: int) -> float:
        return self._price(self.certain + drafted)

    def fork(self, sequence: Running, model: str | None = None, drafts: int = 1) -> Any:
        raise MethodError("a replay has no model: only drafters without weight streams can be replayed")

    def unroll(self, sequences: Any, hidden: Any, depth: int, least: float = 0.0) -> Any:
        raise MethodError("a replay has no model: only drafters without weight streams can be replayed")

    def forward(self, views: Any, queries: Any, sublayers: Any = None) -> Any:
        raise MethodError("a replay has no model: only drafters without weight streams can be replayed")


@dataclass
class Replayed:
    """tokens: of the answers. streams: steps. rows: of all steps. seconds: of all steps, by the price."""

    tokens: int = 0
    streams: int = 0
    rows: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_forward(self) -> float:
        return self.tokens / self.streams if self.streams else 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


def replay(
    method: Speculative,
    texts: Iterable[tuple[Sequence[int], Sequence[int]]],
    price: Price | Callable[[int], Price],
    *,
    vocab_size: int = 1 << 20,
    together: int = 1,
    priced_by_step: bool = False,
) -> Replayed:
    """Decode (prompt, answer) pairs with `method`, `together` at a time, each step at its price.

    priced_by_step: `price` gives the price of the n-th step, for loads that change.
    """
    traits = ModelTraits(vocab_size=vocab_size, max_positions=1 << 30)
    params = SamplingParams(temperature=0, max_tokens=None)
    result = Replayed()
    waiting = list(texts)[::-1]
    running: list[tuple[Running, list[int]]] = []
    drafter = method.drafter
    while waiting or running:
        while waiting and len(running) < together:
            prompt, answer = waiting.pop()
            sequence = Running(
                f"r{len(waiting)}", 0, list(prompt), params.but(max_tokens=len(answer)), 0, method, traits
            )
            sequence.cached = sequence.committed - 1
            running.append((sequence, [*prompt, *answer]))
        step_price: Price = price(result.streams) if priced_by_step else price  # type: ignore[assignment]
        grants = [method.demand(sequence).useful for sequence, _ in running]
        drafting = [place for place, rows in enumerate(grants) if rows > 1]
        trees = {}
        if drafting:
            streams = PricedStreams(step_price, len(running))
            depths = [grants[place] - 1 for place in drafting]
            proposed = drafter.propose([running[place][0] for place in drafting], depths, streams)
            trees = dict(zip(drafting, proposed, strict=True))
        rows = 0
        for place, (sequence, text) in enumerate(running):
            query = method.plan(sequence, grants[place], trees.get(place))
            rows += len(query)
            # What the model would say after a wrong draft is not recorded, so only rows on the text's path are read.
            offsets = query.positions - sequence.committed + 1
            read, right = [], {-1: True}
            for row in range(len(query)):
                parent = int(query.parent[row])
                right[row] = right[parent] and query.tokens[row] == text[sequence.committed - 1 + offsets[row]]
                if right[row]:
                    read.append(row)
            read = read[: len(text) - sequence.committed]
            after = ints([text[sequence.committed + offsets[row]] for row in read])
            part = np.searchsorted(query.read.rows, read)
            answer_rows = type(query.read).of(query.read.rows[part], query.read.predicts[part])
            query = query.reading(answer_rows)
            commit = method.commit(sequence, query, Answer(after))
            sequence.extend([int(token) for token in commit.tokens], len(commit.keep))
            if sequence.committed == len(text):
                sequence.finish_reason = "length"
            result.tokens += len(commit.tokens)
            drafter.observe(sequence, query, Answer(after), commit)
        result.streams += 1
        result.rows += rows
        result.seconds += step_price(rows)
        running = [(sequence, text) for sequence, text in running if sequence.committed < len(text)]
    return result
