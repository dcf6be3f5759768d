"""The hidden states that a model wrote its answers from, and the K/V that it has of its texts.

Of an answer's token, the state is that of the row that it was drawn from: behind the last layer, before the final norm.
Both come from the executor that will run the head beside the model, with whatever its arithmetic does to them.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from ridgeway.cache.pages import PageTable
from ridgeway.core.arrays import FloatArray, IntArray, ints
from ridgeway.core.errors import RequestError
from ridgeway.core.query import Batch, Entry, Query, Readout
from ridgeway.engine.sampling import plain_selection
from ridgeway.executors.draft_heads import HasKV
from ridgeway.llm import LLM
from ridgeway.training.distill_texts import Text

_ROWS = 512  # of a weight stream
_FLOAT16 = np.dtype(np.float16)


class DistillStates:
    """The states of texts in a file that grows, and in a second one the K/V of a layer, if they are asked for.

    `states.f16`: float16 (tokens of all answers, hidden), of unit root mean square: a final norm keeps nothing of a
    state's length, so none of it is stored. `kv-LAYER.f16`: float16 (tokens of all texts, 2, kv_heads, head_dim), keys,
    rotated to their positions, and values; of prompts too. What is not whole in both files is computed again.

    layer: whose K/V, counted from 0; None: no K/V.
    """

    def __init__(self, llm: LLM, texts: Sequence[Text], folder: Path, layer: int | None = None) -> None:
        self.llm = llm
        self.texts = texts
        self._layer = layer
        config = llm.model.config
        answers = [len(text.answer) for text in texts]
        self._states = _Rows(folder / "states.f16", (config.hidden,), answers)
        self._files = [self._states]
        if layer is not None:
            shape, lengths = (2, config.kv_heads, config.head_dim), [text.length for text in texts]
            self._files.append(_Rows(folder / f"kv-{layer}.f16", shape, lengths))
        self._done = min(rows.whole for rows in self._files)  # texts

    @staticmethod
    def forget(folder: Path) -> None:
        """Remove what there is in a folder."""
        for path in (folder / "states.f16", *folder.glob("kv-*.f16")):
            path.unlink(missing_ok=True)

    def compute(self) -> Iterator[int]:
        """Compute what is left; of how many texts there is something so far."""
        if self._done == len(self.texts):
            return
        with ExitStack() as stack:
            files = [stack.enter_context(rows.open(self._done)) for rows in self._files]
            for group in streams(self.texts[self._done :]):
                with as_read(self.llm, group) as answered:
                    for file, values in zip(files, self._values(answered), strict=True):
                        file.write(values.astype(_FLOAT16).tobytes())
                        file.flush()
                self._done += len(group)
                yield self._done

    def read(self) -> np.ndarray:
        """(tokens of all answers, hidden) float16, on disk."""
        return self._states.read()

    def read_kv(self) -> np.ndarray | None:
        """(tokens of all texts, 2, kv_heads, head_dim) float16, on disk."""
        return None if self._layer is None else self._files[1].read()

    def _values(self, answered: Sequence["AsRead"]) -> Iterator[FloatArray]:
        """What goes into each file."""
        yield _unit(np.concatenate([text.hidden for text in answered]))
        if self._layer is not None:
            assert isinstance(self.llm.executor, HasKV)
            slots = np.concatenate([text.slots for text in answered])
            yield np.stack(self.llm.executor.kv(self._layer, slots), axis=1)


class AsRead(NamedTuple):
    """A text that the model has read. hidden: (tokens of the answer, hidden) float32, each state that a token was drawn
    from. slots: (tokens of the text,) where its K/V are.
    """

    hidden: FloatArray
    slots: IntArray


@contextmanager
def as_read(llm: LLM, texts: Sequence[Text]) -> Iterator[list[AsRead]]:
    """Read texts, all in one weight stream; inside, their K/V stay where they are. Raises RequestError."""
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
        hidden = [answer.hidden for answer in llm.executor.forward(batch).answers if answer.hidden is not None]
        yield [AsRead(states, entry.slots) for states, entry in zip(hidden, entries, strict=True)]
    finally:
        for table in tables:
            cache.release(table)


def streams(texts: Sequence[Text]) -> Iterator[Sequence[Text]]:
    """The texts in order, as many at a time as share a weight stream; at least one."""
    while texts:
        rows = np.cumsum([text.length for text in texts[:_ROWS]])
        count = max(1, int(np.searchsorted(rows, _ROWS, side="right")))
        yield texts[:count]
        texts = texts[count:]


class _Rows:
    """Rows of float16 numbers in a file that grows by whole texts. shape: of a row. counts: rows of each text."""

    def __init__(self, path: Path, shape: tuple[int, ...], counts: Sequence[int]) -> None:
        self._path = path
        self._shape = shape
        self._ends = np.cumsum(counts)
        self._bytes = int(np.prod(shape)) * _FLOAT16.itemsize

    @property
    def whole(self) -> int:
        """How many of the texts are there whole."""
        kept = self._path.stat().st_size // self._bytes if self._path.is_file() else 0
        return int(np.searchsorted(self._ends, kept, side="right"))

    def open(self, texts: int) -> IO[bytes]:
        """To write what comes after the first `texts`; whatever is there of it goes."""
        file = self._path.open("ab")
        file.truncate(self._bytes * (int(self._ends[texts - 1]) if texts else 0))
        return file

    def read(self) -> np.ndarray:
        return np.memmap(self._path, _FLOAT16, mode="r", shape=(int(self._ends[-1]), *self._shape))


def _unit(hidden: FloatArray) -> FloatArray:
    unit: FloatArray = hidden / np.sqrt(np.square(hidden).mean(axis=-1, keepdims=True))
    return unit
