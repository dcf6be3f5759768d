"""What is learned from: batches of texts, each a function of the seed and the step alone.

So training that was interrupted goes on with exactly the batches that it would have had.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ridgeway.core.arrays import IntArray, ints
from ridgeway.core.errors import RequestError
from ridgeway.models.tokenizer import Tokenizer
from ridgeway.training.grammar import ANIMALS, Grammar
from ridgeway.training.objective import Texts


@dataclass(frozen=True)
class Document:
    """tokens: (n,). given: how many of them, at its beginning, are a prompt and never predicted."""

    tokens: IntArray
    given: int


class Corpus(ABC):
    """Documents to be drawn at random, cut or filled with end tokens to `length`.

    The filling is predicted like everything else: that nothing follows an end is a part of the answer (LLaDA, Nie et
    al. 2025, section 2.3).
    """

    def __init__(self, length: int, end_id: int) -> None:
        self.length = length
        self.end_id = end_id

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> Document:
        """One document."""

    def batch(self, size: int, seed: int, step: int) -> Texts:
        """The batch of this step."""
        generator = np.random.default_rng([seed, step])
        return self.collate([self.draw(generator) for _ in range(size)])

    def collate(self, documents: Sequence[Document]) -> Texts:
        """Documents as one batch."""
        tokens = np.full((len(documents), self.length), self.end_id)
        maskable = np.ones(tokens.shape, dtype=np.bool_)
        for row, document in enumerate(documents):
            kept = document.tokens[: self.length]
            tokens[row, : len(kept)] = kept
            maskable[row, : document.given] = False
        return Texts(torch.from_numpy(tokens), torch.from_numpy(maskable))


class Sentences(Corpus):
    """Sentences of a grammar, one a document, after the token that begins every text."""

    def __init__(self, grammar: Grammar, tokenizer: Tokenizer, length: int, end_id: int) -> None:
        super().__init__(length, end_id)
        self.grammar = grammar
        self.tokenizer = tokenizer
        if length < grammar.longest_bytes() + 2:
            raise RequestError(
                f"length={length}: expected at least {grammar.longest_bytes() + 2}, the longest sentence"
            )

    def draw(self, generator: np.random.Generator) -> Document:
        return self.document(self.grammar.sample(generator))

    def document(self, sentence: str) -> Document:
        return Document(ints(self.tokenizer.encode(sentence)), given=1)


class Windows(Corpus):
    """Stretches of one long text, from anywhere in it."""

    def __init__(self, text: str, tokenizer: Tokenizer, length: int, end_id: int) -> None:
        super().__init__(length, end_id)
        self.tokens = ints(tokenizer.encode(text, add_special_tokens=False))
        if len(self.tokens) <= length:
            raise RequestError(f"the text has {len(self.tokens)} tokens: expected more than length={length}")

    def draw(self, generator: np.random.Generator) -> Document:
        start = int(generator.integers(len(self.tokens) - self.length))
        return Document(self.tokens[start : start + self.length], given=0)


class Conversations(Corpus):
    """Documents of a JSON lines file: {"text": ...}, or {"prompt": ..., "answer": ...}: then the answer is learned."""

    def __init__(self, path: Path, tokenizer: Tokenizer, length: int, end_id: int) -> None:
        super().__init__(length, end_id)
        self.documents = list(self._read(path, tokenizer))
        if not self.documents:
            raise RequestError(f"{path}: holds no document whose prompt is shorter than length={length}")

    def _read(self, path: Path, tokenizer: Tokenizer) -> Iterator[Document]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                item = json.loads(line)
                prompt, answer = item.get("prompt", ""), item["answer" if "prompt" in item else "text"]
                before = ints(tokenizer.encode(prompt))
                after = ints(tokenizer.encode(answer, add_special_tokens=False))
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                expected = '{"text": ...} or {"prompt": ..., "answer": ...}'
                raise RequestError(f"{path}, line {number}: expected {expected}") from error
            if len(before) < self.length:
                yield Document(np.concatenate([before, after]), given=len(before))

    def draw(self, generator: np.random.Generator) -> Document:
        return self.documents[int(generator.integers(len(self.documents)))]


GRAMMARS = {"animals": ANIMALS}


def open_corpus(source: str, tokenizer: Tokenizer, length: int, end_id: int) -> Corpus:
    """A grammar by name, a .jsonl file of documents, or any other file as one long text. Raises RequestError."""
    if source in GRAMMARS:
        return Sentences(GRAMMARS[source], tokenizer, length, end_id)
    path = Path(source)
    try:
        if path.suffix == ".jsonl":
            return Conversations(path, tokenizer, length, end_id)
        return Windows(path.read_text(encoding="utf-8"), tokenizer, length, end_id)
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(GRAMMARS)
        raise RequestError(
            f"data {source!r}: expected a grammar ({known}), a .jsonl file or a text ({error})"
        ) from error
