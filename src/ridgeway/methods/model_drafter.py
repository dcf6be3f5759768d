"""Drafts that cost weight streams: a cheaper model writes a few tokens, one weight stream of its own for each.

The cheaper model is another one of the same vocabulary (`draft_model`), or the same one with sublayers left out
(`self_speculative`). It draws with the noise that the target will use at the same position, so that at a temperature,
too, the two agree wherever their distributions do: the draft is the token that the target would have drawn if it had
been the drafter.
"""

from collections.abc import Sequence as Sequences
from weakref import WeakKeyDictionary

import numpy as np

from ridgeway.core.arrays import BoolArray, DoubleArray, ints
from ridgeway.core.errors import OutOfPagesError
from ridgeway.core.method import Drafter, DraftTree, Streams, View
from ridgeway.core.query import Measure, Query, Readout
from ridgeway.core.sequence import Sequence


class ModelDrafter(Drafter):
    """model: its name, None for the target itself. sublayers: (layers, 2) which of them run, None: all.

    threshold: drafting ends with a token that the drafter gave a lower probability. distributions: whether to keep
    those that the drafts were drawn from, in `drawn_from`: (draft, vocabulary) by sequence.
    """

    def __init__(
        self,
        model: str | None = None,
        sublayers: BoolArray | None = None,
        threshold: float = 0.0,
        distributions: bool = False,
    ) -> None:
        self.model = model
        self.sublayers = sublayers
        self.threshold = threshold
        measures: set[Measure] = {"confidence", "distribution"} if distributions else {"confidence"}
        self.measures = frozenset(measures)
        self.drawn_from: WeakKeyDictionary[Sequence, list[DoubleArray]] = WeakKeyDictionary()

    def propose(self, sequences: Sequences[Sequence], depths: Sequences[int], streams: Streams) -> list[DraftTree]:
        drafts: list[list[int]] = [[] for _ in sequences]
        survival: list[list[float]] = [[] for _ in sequences]
        views: dict[int, View] = {}
        for place, sequence in enumerate(sequences):
            self.drawn_from[sequence] = []
            try:
                views[place] = streams.fork(sequence, self.model, depths[place])
            except OutOfPagesError:  # this sequence is decoded plainly, as long as memory is short
                continue
        drafting = [place for place in views if depths[place] > 0]
        while drafting:
            queries = [self.next_query(views[place]) for place in drafting]
            answers = streams.forward([views[place] for place in drafting], queries, self.sublayers)
            going_on = []
            for place, answer in zip(drafting, answers, strict=True):
                sequence, token = sequences[place], int(answer.tokens[0])
                confidence = 1.0 if answer.confidence is None else float(answer.confidence[0])
                views[place].tokens.append(token)
                drafts[place].append(token)
                survival[place].append(confidence * (survival[place][-1] if survival[place] else 1.0))
                if answer.distribution is not None:
                    self.drawn_from[sequence].append(answer.distribution[0])
                sure = confidence >= self.threshold_of(sequence)
                if sure and token not in sequence.traits.end_ids and len(drafts[place]) < depths[place]:
                    going_on.append(place)
            drafting = going_on
        return [DraftTree.chain(draft, chances) for draft, chances in zip(drafts, survival, strict=True)]

    def threshold_of(self, sequence: Sequence) -> float:
        return self.threshold

    def next_query(self, view: View) -> Query:
        """The tokens that the drafter has no K/V of yet; the last of them predicts the next draft."""
        positions = np.arange(view.cached, len(view.tokens), dtype=np.int64)
        rows = len(positions)
        read = Readout.of([rows - 1], [len(view.tokens)], measures=self.measures)
        return Query(ints(view.tokens[view.cached :]), positions, read=read)
