"""How well a draft head guesses texts that it was not trained on, asked as a drafter asks it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ridgeway.core.arrays import DoubleArray, ints
from ridgeway.core.drafting import Unroller, Unrolling
from ridgeway.llm import LLM
from ridgeway.training.distill_states import AsRead, as_read, streams
from ridgeway.training.distill_texts import Text
from ridgeway.training.draft_head_material import places_in

_PLACES = 4096  # of each temperature at most


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


def quality(llm: LLM, unroller: Unroller, texts: Sequence[Text], depth: int) -> Quality | None:
    """Of a head on texts of one temperature; None where none is long enough to say anything.

    unroller: of the head, on the executor of `llm`. That reads the texts anew, so that their K/V are there to be seen.
    """
    counts = ints([places_in(text, depth) for text in texts])
    total = int(counts.sum())
    if not total:
        return None
    chosen = np.linspace(0, total - 1, min(_PLACES, total)).astype(np.int64)
    ends = np.cumsum(counts)
    parts = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    places = {
        text.number: part - end + count for text, part, end, count in zip(texts, parts, ends, counts, strict=True)
    }
    right: DoubleArray = np.zeros(depth)
    for group in streams([text for text in texts if len(places[text.number])]):
        with as_read(llm, group) as answered:
            pairs = zip(group, answered, strict=True)
            asked = [_Place(text, read, int(place)) for text, read in pairs for place in places[text.number]]
            found = unroller.unroll(_unrolling(asked, depth)).tokens[:, :, 0]
        said = np.array([text.answer[place + 1 : place + 1 + depth] for text, _, place in asked])
        right += (found == said).cumprod(axis=1).sum(axis=0)
    return Quality(texts[0].temperature, len(chosen), tuple((right / len(chosen)).tolist()))


class _Place(NamedTuple):
    """place: of the newest token in the text's answer."""

    text: Text
    read: AsRead
    place: int


def _unrolling(asked: Sequence[_Place], depth: int) -> Unrolling:
    """As a drafter asks at these places."""
    return Unrolling(
        hidden=np.stack([read.hidden[place] for _, read, place in asked]),
        tokens=ints([text.answer[place] for text, _, place in asked]),
        positions=ints([len(text.prompt) + place + 1 for text, _, place in asked]),
        temperature=np.array([text.temperature for text, _, _ in asked]),
        seed=np.array([text.seed for text, _, _ in asked], dtype=np.uint64),
        sample=np.zeros(len(asked), dtype=np.int64),
        seen=tuple(read.slots[: len(text.prompt) + place] for text, read, place in asked),
        depth=depth,
    )
