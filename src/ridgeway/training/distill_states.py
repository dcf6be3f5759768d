"""The hidden states that a model wrote its answers from.

Of an answer's token, that is the state of the row that it was drawn from: behind the last layer, before the final norm.
They come from the executor that will run the head beside the model, with whatever its arithmetic does to them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ridgeway.cache.pages import PageTable
from ridgeway.core.arrays import FloatArray, ints
from ridgeway.core.errors import RequestError
from ridgeway.core.query import Batch, Entry, Query, Readout
from ridgeway.engine.sampling import plain_selection
from ridgeway.llm import LLM
from ridgeway.training.distill_texts import Text

_ROWS = 512  # of a weight stream
_FLOAT16 = np.dtype(np.float16)


class DistillStates:
    """The states of texts in a file that grows: float16 (tokens of all answers, hidden), of unit root mean square.

    A final norm keeps nothing of a state's length, so none of it is stored.
    """

    def __init__(self, llm: LLM, texts: Sequence[Text], path: Path) -> None:
        self.llm = llm
        self.texts = texts
        self.path = path
        self._row_bytes = llm.model.config.hidden * _FLOAT16.itemsize
        self._ends = np.cumsum([len(text.answer) for text in texts])  # of each text, in rows
        kept = path.stat().st_size // self._row_bytes if path.is_file() else 0
        self._done = int(np.searchsorted(self._ends, kept, side="right"))  # texts that are whole

    def compute(self) -> Iterator[int]:
        """Compute the states that are left; of how many texts there are some so far."""
        with self.path.open("ab") as file:
            if self._done < len(self.texts):
                file.truncate(self._row_bytes * (int(self._ends[self._done - 1]) if self._done else 0))
            while self._done < len(self.texts):
                group = _together(self.texts[self._done :])
                for hidden in hidden_states(self.llm, group):
                    file.write(_unit(hidden).astype(_FLOAT16).tobytes())
                file.flush()
                self._done += len(group)
                yield self._done

    def read(self) -> np.ndarray:
        """(tokens of all answers, hidden) float16, on disk."""
        shape = (int(self._ends[-1]), self.llm.model.config.hidden)
        return np.memmap(self.path, _FLOAT16, mode="r", shape=shape)


def hidden_states(llm: LLM, texts: Sequence[Text]) -> list[FloatArray]:
    """Of each text, (tokens of the answer, hidden) float32, in one weight stream for all. Raises RequestError."""
    cache, tables, entries = llm.engine.cache, [], []
    try:
        for text in texts:
            tokens, given = ints([*text.prompt, *text.answer]), len(text.prompt)
            table = PageTable(("states",))
            tables.append(table)
            if not cache.reserve(table, len(tokens)):
                raise RequestError(f"{len(tokens)} tokens do not fit: the K/V pool holds {llm.engine.capacity}")
            positions = np.arange(len(tokens), dtype=np.int64)
            read = Readout.of(positions[given - 1 : -1], positions[given:], sampled=False, measures={"hidden"})
            entries.append(Entry(Query(tokens, positions, read=read), 0, cache.slots(table, len(tokens))))
        batch = Batch(tuple(entries), plain_selection(sum(len(entry.query.read) for entry in entries)))
        return [answer.hidden for answer in llm.executor.forward(batch).answers if answer.hidden is not None]
    finally:
        for table in tables:
            cache.release(table)


def _together(texts: Sequence[Text]) -> Sequence[Text]:
    """As many of the first as share a weight stream; at least one."""
    rows = np.cumsum([len(text.prompt) + len(text.answer) for text in texts[:_ROWS]])
    return texts[: max(1, int(np.searchsorted(rows, _ROWS, side="right")))]


def _unit(hidden: FloatArray) -> FloatArray:
    unit: FloatArray = hidden / np.sqrt(np.square(hidden).mean(axis=-1, keepdims=True))
    return unit
