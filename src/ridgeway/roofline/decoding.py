"""Decoding methods as the cost model sees them: which weight streams a round takes, and how many tokens it yields.

A method is run by `ridgeway.methods`; here it is assumed. Each assumption (how many drafts are accepted, how many
steps a block takes) is a field with a name, so that a prediction can state it and a person can change it. What a
forward costs is a property of the hardware and what it yields one of the algorithm; the two are never mixed.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from math import ceil
from typing import Any, ClassVar

import numpy as np

from ridgeway.core.arrays import BoolArray
from ridgeway.core.errors import MethodError, did_you_mean
from ridgeway.core.visibility import BIDIRECTIONAL, Block, Tree
from ridgeway.models.config import ModelConfig
from ridgeway.roofline.shape import QueryShape
from ridgeway.roofline.workload import Workload

_SAMPLES = 8  # contexts at which an answer's rounds are looked at: costs are all but linear between them


@dataclass(frozen=True)
class Stream:
    """Weight streams of one kind, in which each request asks `shape`.

    times: how many. share: what one costs, as a share of such a stream of the model itself (a draft model's).
    sublayers: which run, None: all.
    """

    shape: QueryShape
    times: float = 1.0
    share: float = 1.0
    sublayers: BoolArray | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all weights of the model are streamed."""
        return self.share == 1 and self.sublayers is None


@dataclass(frozen=True)
class Round:
    """times: how often it is repeated. tokens: that one yields to each request."""

    streams: tuple[Stream, ...]
    tokens: float
    times: float = 1.0


@dataclass(frozen=True)
class Decoding(ABC):
    """Assumptions about a method. name: as on the command line; lossless: yields plain decoding's tokens."""

    name: ClassVar[str]
    lossless: ClassVar[bool] = True

    def prefill(self, workload: Workload, config: ModelConfig) -> QueryShape | None:
        """The prompt's query; None: the method computes the prompt anew in every stream."""
        return QueryShape(workload.prompt)

    @abstractmethod
    def rounds(self, workload: Workload, config: ModelConfig) -> Iterator[Round]:
        """All rounds of an answer, alike ones together."""

    @property
    def prefill_yields(self) -> bool:
        """Whether the prompt's stream yields the first token."""
        return True

    @property
    def assumptions(self) -> dict[str, Any]:
        return asdict(self)

    def _share(self, name: str, value: float, least: float = 0.0) -> None:
        if not least <= value <= 1:
            raise MethodError(f"{self.name}: {name}={value:g}: expected {least:g} to 1")

    def _count(self, name: str, value: float, least: float = 1) -> None:
        if not value >= least:
            raise MethodError(f"{self.name}: {name}={value:g}: expected {least:g} or more")

    @staticmethod
    def _along(workload: Workload, tokens: float) -> Iterator[tuple[int, float]]:
        """Contexts (cached tokens) at which rounds of `tokens` tokens stand, and how many rounds stand near each.

        The first token is the prefill's, so an answer of one token has no round; it is shown as one anyway.
        """
        rounds = max(1, workload.useful - 1) / tokens
        samples = max(1, min(_SAMPLES, round(rounds)))
        for number in range(samples):
            reached = (number + 0.5) / samples * max(0, workload.useful - 1)
            yield workload.prompt + int(reached), rounds / samples


@dataclass(frozen=True)
class Autoregressive(Decoding):
    """One token per weight stream. kv_cache: False computes all earlier tokens anew each time."""

    name = "autoregressive"
    kv_cache: bool = True

    def rounds(self, workload: Workload, config: ModelConfig) -> Iterator[Round]:
        for context, times in self._along(workload, 1):
            shape = QueryShape(1, context) if self.kv_cache else QueryShape(context + 1)
            yield Round((Stream(shape),), tokens=1, times=times)


def expected_tokens(draft_length: int, acceptance: float) -> float:
    """Tokens of a verified draft, the model's own included: (1 - a^(g+1)) / (1 - a) (Leviathan et al. 2023, eq. 1)."""
    if acceptance == 1:
        return draft_length + 1.0
    return float((1 - acceptance ** (draft_length + 1)) / (1 - acceptance))


@dataclass(frozen=True)
class Speculative(Decoding):
    """A draft model proposes, one stream verifies (Leviathan et al. 2023).

    draft_length: tokens proposed. acceptance: chance that one is accepted. draft_cost: a stream of the draft model
    as a share of one of the model, in bytes, FLOPs and time.
    """

    name = "speculative"
    draft_length: int = 4
    acceptance: float = 0.7
    draft_cost: float = 0.05

    def __post_init__(self) -> None:
        self._count("draft_length", self.draft_length)
        self._share("acceptance", self.acceptance)
        self._count("draft_cost", self.draft_cost, 0)

    @property
    def tokens(self) -> float:
        """Expected of a round."""
        return expected_tokens(self.draft_length, self.acceptance)

    def rounds(self, workload: Workload, config: ModelConfig) -> Iterator[Round]:
        for context, times in self._along(workload, self.tokens):
            rows = self.draft_length + 1
            verify = Stream(QueryShape(rows, context, reads=rows))
            draft = Stream(QueryShape(1, context), times=self.draft_length, share=self.draft_cost)
            yield Round((draft, verify), self.tokens, times)


@dataclass(frozen=True)
class SelfSpeculative(Decoding):
    """The model drafts with its own first layers (Zhang et al. 2024; Elhoushi et al. 2024); no second model.

    kept: share of the layers that draft; their weights and the head are streamed for each drafted token.
    """

    name = "self-speculative"
    draft_length: int = 4
    acceptance: float = 0.7
    kept: float = 0.5

    def __post_init__(self) -> None:
        self._count("draft_length", self.draft_length)
        self._share("acceptance", self.acceptance)
        self._share("kept", self.kept)

    def rounds(self, workload: Workload, config: ModelConfig) -> Iterator[Round]:
        tokens = expected_tokens(self.draft_length, self.acceptance)
        runs = np.zeros((config.layers, 2), dtype=np.bool_)
        runs[: round(self.kept * config.layers)] = True
        for context, times in self._along(workload, tokens):
            rows = self.draft_length + 1
            verify = Stream(QueryShape(rows, context, reads=rows))
            draft = Stream(QueryShape(1, context), times=self.draft_length, sublayers=runs)
            yield Round((draft, verify), tokens, times)


@dataclass(frozen=True)
class Lookahead(Decoding):
    """Guesses n-grams by Jacobi iteration and verifies them in the same stream (Fu et al. 2024).

    window: W, positions looked ahead. ngram: N, tokens of a guess with the one it starts from. guesses: G, verified
    at once. acceptance: chance that a guessed token is right. every: streams until a useful guess comes up; a round
    yields (every - 1 + E) / every tokens, E expected of G guesses of N - 1 tokens (section 4 of the paper).
    """

    name = "lookahead"
    window: int = 15
    ngram: int = 5
    guesses: int = 15
    acceptance: float = 0.4
    every: float = 3.0

    def __post_init__(self) -> None:
        for name in ("window", "guesses", "every"):
            self._count(name, getattr(self, name))
        self._count("ngram", self.ngram, 2)
        self._share("acceptance", self.acceptance)

    @property
    def tokens(self) -> float:
        """Expected of a round."""
        depth = self.ngram - 1
        missed = sum((1 - self.acceptance**i) ** self.guesses for i in range(1, depth + 1))
        return (self.every - 1 + depth + 1 - missed) / self.every

    def rounds(self, workload: Workload, config: ModelConfig) -> Iterator[Round]:
        rows = (self.window + self.guesses) * (self.ngram - 1)
        for context, times in self._along(workload, self.tokens):
            yield Round((Stream(QueryShape(rows, context, reads=rows)),), self.tokens, times)


@dataclass(frozen=True)
class MaskedDiffusion(Decoding):
    """The whole answer at once, refined step by step; no K/V cache, as every step changes what all rows see
    (Nie et al. 2025). steps: of the answer; None: one for each token.
    """

    name = "masked-diffusion"
    lossless = False
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None:
            self._count("steps", self.steps)

    def prefill(self, workload: Workload, config: ModelConfig) -> QueryShape | None:
        return None

    @property
    def prefill_yields(self) -> bool:
        return False

    def rounds(self, workload: Workload, config: ModelConfig) -> Iterator[Round]:
        steps = min(workload.output, self.steps or workload.output)
        shape = QueryShape(workload.length, reads=workload.output, visibility=BIDIRECTIONAL)
        yield Round((Stream(shape, times=steps),), tokens=workload.useful)


@dataclass(frozen=True)
class BlockDiffusion(Decoding):
    """Blocks one after the other, each refined at once over the cached ones before it (Arriola et al. 2025).

    block: tokens. tokens_per_step: revealed by a stream. fused_commit: a finished block's K/V come from the first
    stream of the next block; False: from a stream of their own.
    """

    name = "block-diffusion"
    lossless = False
    block: int = 32
    tokens_per_step: float = 2.0
    fused_commit: bool = True

    def __post_init__(self) -> None:
        self._count("block", self.block)
        self._count("tokens_per_step", self.tokens_per_step)
        if self.tokens_per_step > self.block:
            raise MethodError(f"{self.name}: tokens_per_step={self.tokens_per_step:g}: expected at most {self.block}")

    @property
    def prefill_yields(self) -> bool:
        return False

    def rounds(self, workload: Workload, config: ModelConfig) -> Iterator[Round]:
        block, steps = self.block, ceil(self.block / self.tokens_per_step)
        blocks = ceil(workload.useful / block)
        samples = min(_SAMPLES, blocks)
        for number in range(samples):
            before = int((number + 0.5) / samples * (blocks - 1)) if samples > 1 else 0
            context = workload.prompt + before * block
            denoise = QueryShape(block, context, reads=block, visibility=BIDIRECTIONAL)
            if self.fused_commit:
                both = QueryShape(2 * block, max(0, context - block), reads=block, visibility=_two_blocks(block))
                first = Stream(both) if before else Stream(denoise)
                streams = (first, Stream(denoise, times=steps - 1))
            else:
                commit = QueryShape(block, context, reads=0, visibility=BIDIRECTIONAL)
                streams = (Stream(denoise, times=steps), Stream(commit))
            yield Round(streams, workload.useful / blocks, blocks / samples)


@cache
def _two_blocks(block: int) -> Tree:
    """A finished block and the next one: each sees itself, the second one the first as well."""
    return Tree(Block(block).matrix(np.arange(2 * block)))


DECODINGS: dict[str, type[Decoding]] = {
    method.name: method
    for method in (Autoregressive, Speculative, SelfSpeculative, Lookahead, MaskedDiffusion, BlockDiffusion)
}


def parse_decoding(text: str) -> Decoding:
    """`name` or `name:key=value,...`. Raises MethodError that says what there is."""
    name, _, given = text.partition(":")
    if name not in DECODINGS:
        raise MethodError(f"no decoding method is called {name!r}; {did_you_mean(name, DECODINGS)}")
    kind = DECODINGS[name]
    types = {field.name: field.type for field in fields(kind)}
    options: dict[str, Any] = {}
    for item in filter(None, given.split(",")):
        key, _, value = item.partition("=")
        if key not in types:
            raise MethodError(f"{name} has no assumption {key!r}; {did_you_mean(key, types)}")
        options[key] = _parsed(f"{name}: {key}", value, str(types[key]))
    return kind(**options)


def _parsed(what: str, text: str, wanted: str) -> Any:
    if "bool" in wanted:
        if text.lower() not in ("true", "false", "on", "off"):
            raise MethodError(f"{what}={text}: expected on or off")
        return text.lower() in ("true", "on")
    try:
        return int(text) if "int" in wanted else float(text)
    except ValueError:
        kind = "a whole number" if "int" in wanted else "a number"
        raise MethodError(f"{what}={text}: expected {kind}") from None
