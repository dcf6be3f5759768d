"""How well a draft head guesses texts that it was not trained on, asked as a drafter asks it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ridgeway.core.arrays import NO_INTS, DoubleArray, IntArray, ints
from ridgeway.core.drafting import Unroller, Unrolling
from ridgeway.training.distill_texts import Text
from ridgeway.training.draft_head import places_of

_PLACES = 4096  # of each temperature at most
_TOGETHER = 64  # sequences that an unroller takes


@dataclass(frozen=True)
class Quality:
    """On texts of one temperature. right: by guess, the share of places where it and all before it are what the model
    said next.
    """

    temperature: float
    places: int
    right: tuple[float, ...]

    @property
    def tokens_per_stream(self) -> float:
        """Tokens that a weight stream yields which verifies the guesses as one chain: its own, and those accepted."""
        return 1 + sum(self.right)

    @property
    def words(self) -> str:
        """For people."""
        shares = ", ".join(f"{100 * share:.1f}" for share in self.right)
        return (
            f"temperature {self.temperature:g}: the first, the first two, ... guesses are right at {shares} % of "
            f"{self.places:,} places; a chain of {len(self.right)} yields {self.tokens_per_stream:.2f} tokens a stream"
        )


def quality(
    unroller: Unroller, texts: Sequence[Text], states: np.ndarray, tokens: IntArray, depth: int
) -> Quality | None:
    """Of a head on texts of one temperature; None where none is long enough to say anything.

    states: (tokens, hidden) and tokens: (tokens,) of their answers.
    """
    places = places_of(texts, np.ones(len(texts), dtype=np.bool_), depth)
    if not len(places):
        return None
    places = places[np.linspace(0, len(places) - 1, min(_PLACES, len(places))).astype(np.int64)]
    starts = np.cumsum([0, *(len(text.answer) for text in texts)])
    owners = np.searchsorted(starts, places, side="right") - 1
    temperature = texts[0].temperature
    right: DoubleArray = np.zeros(depth)
    for part in range(0, len(places), _TOGETHER):
        rows, owner = places[part : part + _TOGETHER], owners[part : part + _TOGETHER]
        asked = Unrolling(
            hidden=states[rows].astype(np.float32),
            tokens=tokens[rows],
            positions=ints([len(texts[text].prompt) for text in owner]) + rows - starts[owner] + 1,
            temperature=np.full(len(rows), temperature),
            seed=np.array([texts[text].seed for text in owner], dtype=np.uint64),
            sample=np.zeros(len(rows), dtype=np.int64),
            seen=tuple(NO_INTS for _ in rows),
            depth=depth,
        )
        hits = unroller.unroll(asked).tokens[:, :, 0] == tokens[rows[:, None] + 1 + np.arange(depth)]
        right += hits.cumprod(axis=1).sum(axis=0)
    return Quality(temperature, len(places), tuple((right / len(places)).tolist()))
