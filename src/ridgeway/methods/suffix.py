"""Drafts by counting: of all that ever followed these words, what followed most often.

All ends (suffixes) of a text, cut to a fixed length, form a tree in which each node knows how often its path occurred.
The newest tokens lead to a node; the counts below it say what follows, and how surely: a node's share of its
siblings' counts estimates its acceptance, so sure continuations are drafted deep and doubtful ones broad.

After "SuffixDecoding" (Oliaro et al. 2024, arXiv 2411.04975, sections 3.1 to 3.3): one tree for each request, and one
over the answers of all requests, the oldest forgotten first.
"""

from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from weakref import WeakKeyDictionary

from ridgeway.core.query import Answer, Commit, Query
from ridgeway.core.sequence import Sequence
from ridgeway.methods.trie import Guesser, Trie
from ridgeway.methods.verify import Speculative


class Node:
    """A path that occurred `count` times, and what followed it."""

    __slots__ = ("children", "count")

    def __init__(self) -> None:
        self.count = 0
        self.children: dict[int, Node] = {}


class SuffixTree:
    """Counts of all runs of at most `window` tokens.

    A text's `ends` are the nodes of its last 0, 1, 2, ... tokens: a new token moves each of them one step down, so
    that neither growing nor looking up ever scans the text.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.root = Node()

    def insert(self, ends: list[Node], token: int) -> list[Node]:
        """Count `token` after each of the ends; returns the new ends."""
        moved = [self.root]
        for node in ends[: self.window]:
            child = node.children.get(token)
            if child is None:
                child = node.children[token] = Node()
            child.count += 1
            moved.append(child)
        return moved

    def follow(self, ends: list[Node], token: int) -> list[Node]:
        """The new ends of a text that is matched against the tree without being counted."""
        moved = [self.root]
        for node in ends[: self.window]:
            child = node.children.get(token)
            if child is None:
                break
            moved.append(child)
        return moved

    def remove(self, tokens: list[int]) -> None:
        """Take back the counts of a text that was inserted token by token."""
        for start in range(len(tokens)):
            node = self.root
            for token in tokens[start : start + self.window]:
                child = node.children.get(token)
                if child is None:
                    break
                child.count -= 1
                if child.count <= 0:
                    del node.children[token]
                    break
                node = child


@dataclass(eq=False)
class Text:
    """What the drafter knows of a sequence: its own tree, where it ends in that and in the shared one."""

    own: SuffixTree
    ends: list[Node]
    shared_ends: list[Node]
    seen: int = 0
    inserting: list[Node] | None = None  # ends of its answer, which the shared tree counts
    answer: list[int] = field(default_factory=list)


class SuffixDrafter(Guesser):
    """window: longest run that is counted. remembered: tokens of answers that the shared tree holds at most."""

    def __init__(self, window: int, remembered: int) -> None:
        self.window = window
        self.remembered = remembered
        self.shared = SuffixTree(window)
        self.texts: WeakKeyDictionary[Sequence, Text] = WeakKeyDictionary()
        self._answers: deque[Text] = deque()  # in the shared tree, oldest first
        self._held = 0

    def guess(self, sequence: Sequence, budget: int) -> Trie:
        """At most `budget` tokens: from the longest match, or from half of it, as short ones have seen more."""
        text = self._text(sequence)
        best, best_score = Trie(), 0.0
        for ends in (text.ends, text.shared_ends):
            longest = min(len(ends) - 1, self.window - 1)
            while longest and not ends[longest].children:
                longest -= 1
            for matched in {longest, (longest + 1) // 2} - {0}:
                tree = likely_tree(ends[matched], matched, budget)
                score = sum(tree.survival)
                if score > best_score:
                    best, best_score = tree, score
        return best

    def observe(self, sequence: Sequence, query: Query, answer: Answer, commit: Commit) -> None:
        text = self._text(sequence)
        if not self.remembered:
            return
        if text.inserting is None:
            text.inserting = [self.shared.root]
            self._answers.append(text)
        for token in sequence.tokens[sequence.prompt_length + len(text.answer) :]:
            text.inserting = self.shared.insert(text.inserting, token)
            text.answer.append(token)
            self._held += 1
        while self._held > self.remembered:
            oldest = self._answers.popleft()
            self.shared.remove(oldest.answer)
            self._held -= len(oldest.answer)
            oldest.answer, oldest.inserting = [], None
            if oldest is text:  # alone longer than what may be remembered
                text.answer = []
                break

    def _text(self, sequence: Sequence) -> Text:
        """The sequence's trees, grown by what it has committed since."""
        text = self.texts.get(sequence)
        if text is None:
            tree = SuffixTree(self.window)
            text = self.texts[sequence] = Text(tree, [tree.root], [self.shared.root])
        for token in sequence.tokens[text.seen :]:
            text.ends = text.own.insert(text.ends, token)
            text.shared_ends = self.shared.follow(text.shared_ends, token)
        text.seen = sequence.committed
        return text


def likely_tree(start: Node, matched: int, budget: int) -> Trie:
    """The `budget` likeliest tokens below `start`, where the newest `matched` tokens led.

    A token's chance is its share of the counts, less what is allowed for chance: 1 / matched of one occurrence.
    """
    tree = Trie()
    heap: list[tuple[float, int, int, int, Node]] = []  # -survival, order, parent, token, node
    order = 0

    def offer(node: Node, place: int, survival: float) -> None:
        nonlocal order
        total = 1 / matched
        for child in node.children.values():
            total += child.count
        for token, child in node.children.items():
            order += 1
            heappush(heap, (-survival * child.count / total, order, place, token, child))

    offer(start, -1, 1.0)
    while heap and len(tree) < budget:
        negative, _, above, token, node = heappop(heap)
        offer(node, tree.child(above, token, -negative), -negative)
    return tree


@dataclass(frozen=True)
class Suffix(Speculative):
    """Draft what most often followed, by counts over this text and earlier answers; no second model, no training."""

    name = "suffix"
    nodes: int = 6
    window: int = 12
    remembered: int = 8192

    def __post_init__(self) -> None:
        if self.nodes < 1 or self.window < 2 or self.remembered < 0:
            raise ValueError("nodes is at least 1, window at least 2, remembered at least 0")

    def make_drafter(self) -> SuffixDrafter:
        return SuffixDrafter(self.window, self.remembered)

    @property
    def most(self) -> int:
        return self.nodes
