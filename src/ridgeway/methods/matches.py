"""Drafts from all places where the newest tokens were before, judged by how long they match and whether they agree.

The longer the newest tokens match an earlier place, the surer what followed there follows again: after one equal token
every fourth or fifth guess is right, after twelve nine of ten. Where several places agree it is surer still, where they
differ less. So the places are looked up, the matches measured, and the likeliest tokens drafted, as a tree: deep where
the match is long, broad where places differ.

The text is the sequence itself, or what was answered before (after REST, He et al. 2024, arXiv 2311.08252, but with
the model's own answers as the datastore). A lookup never scans the text: an index knows the latest places after each
token and each pair of tokens.
"""

from collections import deque
from collections.abc import Sequence as Sequences
from heapq import heappop, heappush
from weakref import WeakKeyDictionary

from ridgeway.core.query import Answer, Commit, Query
from ridgeway.core.sequence import Sequence
from ridgeway.methods.trie import Guesser, Trie

_PAIRS, _SINGLES = 16, 8  # latest places that are looked at, after a pair and after a single token
_BRANCHES = 2  # different tokens that may follow the same ones in a draft
_UNLIKELY = 0.04  # a guess below this is not worth a row, however cheap rows are

Match = tuple[int, int]  # length, place: the newest `length` tokens are also those before `place`

# How often the longest match is right before anything was seen, by its length: where other places of that length
# differ, where it is the only one, where others agree. Then how often the second choice is right. As counted on
# answers of a small instruction-tuned model, greedy and sampled; what is seen corrects it.
_DIFFER = (0.16, 0.22, 0.31, 0.45, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4)
_ALONE = (0.28, 0.48, 0.63, 0.72, 0.73, 0.75, 0.84, 0.8, 0.85, 0.85, 0.85, 0.9)
_AGREE = (0.56, 0.78, 0.8, 0.84, 0.86, 0.87, 0.9, 0.95, 0.97, 0.97, 0.97, 0.98)
_SECOND = 0.12
_CLASSES = len(_ALONE)


class Matches:
    """The places after each token and each pair of tokens of a text that grows."""

    def __init__(self) -> None:
        self.length = 0
        self._after_token: dict[int, list[int]] = {}
        self._after_pair: dict[tuple[int, int], list[int]] = {}

    def extend(self, text: list[int]) -> None:
        """Take in what `text` has grown by. What stands at its very end waits until something follows it."""
        start, self.length = max(1, self.length), len(text)
        if start >= len(text):
            return
        after_token, after_pair = self._after_token, self._after_pair
        before, last = text[start - 2] if start > 1 else -1, text[start - 1]
        for place in range(start, len(text)):
            places = after_token.get(last)
            if places is None:
                after_token[last] = [place]
            else:
                places.append(place)
            if before >= 0:
                pair = (before, last)
                places = after_pair.get(pair)
                if places is None:
                    after_pair[pair] = [place]
                else:
                    places.append(place)
            before, last = last, text[place]

    def find(self, text: list[int], newest: list[int], longest: int) -> list[Match]:
        """The latest places of `text` where the end of `newest` stood before, the longest match first, then the latest.

        longest: beyond which matches are not measured. Some of the latest places are looked at, of pairs first.
        """
        end = len(newest)
        if end > 1 and longest > 1:
            places = self._after_pair.get((newest[-2], newest[-1]))
            if places is not None:
                found = []
                for place in places[: -_PAIRS - 1 : -1]:
                    length, most = 2, min(longest, place, end)
                    while length < most and text[place - 1 - length] == newest[end - 1 - length]:
                        length += 1
                    found.append((length, place))
                if len(found) > 1:
                    found.sort(reverse=True)
                return found
        places = self._after_token.get(newest[-1]) if end else None
        return [] if places is None else [(1, place) for place in places[: -_SINGLES - 1 : -1]]


def likely_tree(text: list[int], found: Sequences[Match], budget: int) -> Trie:
    """The `budget` likeliest tokens to follow, from what followed in `text` at the places `found`, best first.

    A guess is counted with its like: by length of the match, and whether other places differ or agree.
    """
    tree = Trie()
    heap: list[tuple[float, int, int, int, int, Sequences[Match]]] = []  # -survival, order, parent, token, kind, places
    end = len(text)

    def offer(above: int, survival: float, found: Sequences[Match]) -> None:
        """What follows at the places `found`, all of which match as far as node `above`."""
        if len(found) == 1:  # the usual case, as it goes deeper
            length, place = found[0]
            size = min(length, _CLASSES) - 1
            survival *= _ALONE[size]
            if place < end and survival > _UNLIKELY:
                same = ((length + 1, place + 1),)
                heappush(heap, (-survival, len(tree), above, text[place], _CLASSES + size, same))
            return
        after: dict[int, list[Match]] = {}
        for length, place in found:
            if place < end:
                after.setdefault(text[place], []).append((length + 1, place + 1))
        for rank, (token, places) in enumerate(after.items()):
            if rank == _BRANCHES:
                break
            longest = places[0][0] - 1
            size = min(longest, _CLASSES) - 1
            if rank:
                chance, kind = _SECOND, 3 * _CLASSES + size
            elif _contested(after, longest):
                chance, kind = _DIFFER[size], size
            elif len(places) > 1 and places[1][0] > longest:
                chance, kind = _AGREE[size], 2 * _CLASSES + size
            else:
                chance, kind = _ALONE[size], _CLASSES + size
            if survival * chance > _UNLIKELY:
                heappush(heap, (-survival * chance, len(tree) + rank, above, token, kind, places))

    offer(-1, 1.0, found)
    while heap and len(tree) < budget:
        negative, _, above, token, kind, places = heappop(heap)
        offer(tree.child(above, token, -negative, kind), -negative, places)
    return tree


def _contested(after: dict[int, list[Match]], longest: int) -> bool:
    """Whether a place with another token matches as far as the first one's."""
    if len(after) == 1:
        return False
    others = iter(after.values())
    next(others)
    return next(others)[0][0] > longest


class OwnMatches:
    """Where the newest tokens of each sequence were before in its own text."""

    def __init__(self) -> None:
        self._indexes: WeakKeyDictionary[Sequence, Matches] = WeakKeyDictionary()

    def find(self, sequence: Sequence, longest: int) -> list[Match]:
        """As `Matches.find`."""
        tokens = sequence.tokens
        index = self._indexes.get(sequence)
        if index is None:
            index = self._indexes[sequence] = Matches()
        index.extend(tokens)
        return index.find(tokens, tokens, longest)


class TextDrafter(Guesser):
    """Guesses what followed in the text so far. longest: beyond which matches are not measured."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self._matches = OwnMatches()

    def guess(self, sequence: Sequence, budget: int) -> Trie:
        return likely_tree(sequence.tokens, self._matches.find(sequence, self.longest), budget)


class AnswersDrafter(Guesser):
    """Guesses what followed in earlier answers, of all requests. remembered: about how many tokens of them are kept.

    When there are more, the older half is forgotten.
    """

    def __init__(self, longest: int, remembered: int) -> None:
        self.longest = longest
        self.remembered = remembered
        self.text: list[int] = []
        self._index = Matches()
        self._lengths: deque[int] = deque()  # of the answers that `text` holds, oldest first

    def guess(self, sequence: Sequence, budget: int) -> Trie:
        return likely_tree(self.text, self._index.find(self.text, sequence.tokens, self.longest), budget)

    def observe(self, sequence: Sequence, query: Query, answer: Answer, commit: Commit) -> None:
        """An answer is taken in whole, once it is finished."""
        if not sequence.finished or not self.remembered:
            return
        new = sequence.tokens[sequence.prompt_length :][-self.remembered :]
        self.text += new
        self._lengths.append(len(new))
        if len(self.text) > self.remembered:
            while len(self.text) > self.remembered // 2 and len(self._lengths) > 1:
                del self.text[: self._lengths.popleft()]
            self._index = Matches()
        self._index.extend(self.text)
