"""A language whose every probability is known, to train toys on and to judge them by.

A probabilistic context-free grammar without recursion: finitely many sentences, each with an exact probability. So it
is known what share of generated sentences is right, what the least possible cross-entropy is, and how far a model's is
from it; a corpus tells none of these. `ANIMALS` is simple English: the verb agrees with a noun that may be far away,
which is what tokens that are revealed too many at a time get wrong.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from math import log

import numpy as np

Expansion = tuple[float, str]  # probability, and what it expands into: symbols and words with spaces between


class Grammar:
    """rules: symbol -> its expansions, whose probabilities sum to 1; what has no rule is a word. start: `S`.

    A sentence is written as words with spaces between, and a full stop at the end. Derivations must be unambiguous,
    or the entropy is that of derivations.
    """

    def __init__(self, rules: Mapping[str, tuple[Expansion, ...]], start: str = "S") -> None:
        self.rules = {
            symbol: tuple((probability, tuple(text.split())) for probability, text in expansions)
            for symbol, expansions in rules.items()
        }
        self.start = start
        for symbol, expansions in self.rules.items():
            total = sum(probability for probability, _ in expansions)
            assert abs(total - 1) < 1e-9, f"the expansions of {symbol} have probability {total} together"
        self._reached = cache(self._reach)

    def sample(self, generator: np.random.Generator) -> str:
        """One sentence."""
        return " ".join(self._expand(self.start, generator)) + "."

    def probability(self, sentence: str) -> float:
        """Of a sentence among all; 0 for one that is not of this language. The inside algorithm (Baker 1979)."""
        if not sentence.endswith("."):
            return 0.0
        words = tuple(sentence[:-1].split(" "))
        return self._reached(self.start, words).get(len(words), 0.0)

    def accepts(self, sentence: str) -> bool:
        return self.probability(sentence) > 0

    def entropy(self) -> float:
        """Nats per sentence: the expected -log of the probabilities of all choices (Grenander 1967)."""
        return self._expected(lambda probability, _: -log(probability))

    def mean_bytes(self) -> float:
        """Expected bytes of a sentence, full stop included."""
        return self._expected(lambda _, words: sum(len(word) + 1 for word in words))

    def longest_bytes(self) -> int:
        """Of the longest sentence, full stop included."""

        @cache
        def longest(symbol: str) -> int:
            if symbol not in self.rules:
                return len(symbol) + 1  # a space after it, or the full stop
            return max(sum(map(longest, expansion)) for _, expansion in self.rules[symbol])

        return longest(self.start)

    def sentences(self) -> Iterator[tuple[str, float]]:
        """Every sentence with its probability. Only for small grammars."""
        for words, probability in self._derive((self.start,)):
            yield " ".join(words) + ".", probability

    def _derive(self, symbols: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
        """Everything that a row of symbols can stand for."""
        if not symbols:
            yield (), 1.0
        elif symbols[0] not in self.rules:
            for words, probability in self._derive(symbols[1:]):
                yield symbols[:1] + words, probability
        else:
            for chosen, expansion in self.rules[symbols[0]]:
                for words, probability in self._derive(expansion + symbols[1:]):
                    yield words, chosen * probability

    def _expand(self, symbol: str, generator: np.random.Generator) -> Iterator[str]:
        if symbol not in self.rules:
            yield symbol
            return
        expansions = self.rules[symbol]
        place = generator.choice(len(expansions), p=[probability for probability, _ in expansions])
        for part in expansions[place][1]:
            yield from self._expand(part, generator)

    def _reach(self, symbol: str, words: tuple[str, ...]) -> dict[int, float]:
        """How many of `words` the symbol can stand for, from the first on, each with its probability."""
        if symbol not in self.rules:
            return {1: 1.0} if words[:1] == (symbol,) else {}
        total: dict[int, float] = {}
        for probability, expansion in self.rules[symbol]:
            ends = {0: probability}
            for part in expansion:
                further: dict[int, float] = {}
                for end, so_far in ends.items():
                    for length, inner in self._reached(part, words[end:]).items():
                        further[end + length] = further.get(end + length, 0.0) + so_far * inner
                ends = further
            for end, so_far in ends.items():
                total[end] = total.get(end, 0.0) + so_far
        return total

    def _expected(self, value: Callable[[float, list[str]], float]) -> float:
        """Of a quantity that is a sum over choices: value(probability of a choice, words that it writes)."""

        @cache
        def expected(symbol: str) -> float:
            return sum(
                probability
                * (
                    value(probability, [part for part in expansion if part not in self.rules])
                    + sum(expected(part) for part in expansion if part in self.rules)
                )
                for probability, expansion in self.rules[symbol]
            )

        total: float = expected(self.start)
        return total


def _evenly(words: str) -> tuple[Expansion, ...]:
    listed = words.split()
    return tuple((1 / len(listed), word) for word in listed)


ANIMALS = Grammar(
    {
        "S": ((0.5, "One"), (0.5, "Many")),
        "One": (
            (0.35, "NounPhraseOne TransitiveOne NounPhrase"),
            (0.3, "NounPhraseOne IntransitiveOne Adverbial"),
            (0.35, "PlainOne that TransitiveOne Plain IntransitiveOne Adverb"),
        ),
        "Many": (
            (0.35, "NounPhraseMany TransitiveMany NounPhrase"),
            (0.3, "NounPhraseMany IntransitiveMany Adverbial"),
            (0.35, "PlainMany that TransitiveMany Plain IntransitiveMany Adverb"),
        ),
        "NounPhrase": ((0.5, "NounPhraseOne"), (0.5, "NounPhraseMany")),
        "NounPhraseOne": ((0.6, "PlainOne"), (0.4, "DeterminerOne Adjective NounOne")),
        "NounPhraseMany": ((0.6, "PlainMany"), (0.4, "DeterminerMany Adjective NounMany")),
        "Plain": ((0.5, "PlainOne"), (0.5, "PlainMany")),
        "PlainOne": ((1.0, "DeterminerOne NounOne"),),
        "PlainMany": ((1.0, "DeterminerMany NounMany"),),
        "Adverbial": ((0.5, "Adverb"), (0.5, "Preposition the Place")),
        "DeterminerOne": ((0.5, "the"), (0.4, "a"), (0.1, "one")),
        "DeterminerMany": ((0.5, "the"), (0.2, "two"), (0.2, "some"), (0.1, "many")),
        "Adjective": _evenly("big small red black young"),
        "NounOne": _evenly("dog cat fox bird frog mouse hen bear"),
        "NounMany": _evenly("dogs cats foxes birds frogs mice hens bears"),
        "TransitiveOne": _evenly("sees likes finds helps calls meets"),
        "TransitiveMany": _evenly("see like find help call meet"),
        "IntransitiveOne": _evenly("sleeps runs sings waits"),
        "IntransitiveMany": _evenly("sleep run sing wait"),
        "Adverb": ((0.5, "well"), (0.3, "slowly"), (0.2, "again")),
        "Preposition": ((0.6, "in"), (0.4, "near")),
        "Place": _evenly("garden house woods"),
    }
)
