"""A round of drafting: before each weight stream every drafter proposes once, for all its sequences that have room.

Drafters are told what rows of the coming step cost, and may run weight streams of their own; what these were is noted
for the account. A drafter at fault ends the requests that it drafts for, and no others.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ridgeway.core.drafting import Unroller
from ridgeway.core.errors import OutOfPagesError
from ridgeway.core.method import PREFILL, DraftTree
from ridgeway.engine.draft_models import DraftModel, Weights
from ridgeway.engine.judging import Streamed
from ridgeway.engine.request import Running
from ridgeway.engine.scheduler import Grant
from ridgeway.engine.streams import EngineStreams, HeadWork
from ridgeway.roofline.prices import PriceList, Prices
from ridgeway.roofline.shape import QueryShape


@dataclass
class Round:
    """trees: what was drafted, by sequence. failed: whose drafter was at fault, and how. streams: what drafters ran.

    listed: what rows of the coming step were expected to take; None if nobody asked, or if other rows than those listed
    are in the step as well.
    """

    trees: dict[tuple[str, int], DraftTree] = field(default_factory=dict)
    failed: list[tuple[Running, Exception]] = field(default_factory=list)
    streams: list[Streamed | HeadWork] = field(default_factory=list)
    listed: PriceList | None = None

    @property
    def drafted(self) -> bool:
        """Whether there are any drafts."""
        return any(len(tree) for tree in self.trees.values())


@dataclass(frozen=True)
class Drafting:
    """target: the model that verifies. models: those that only draft, by name. prices: of the target's steps."""

    target: Weights
    models: Mapping[str, DraftModel]
    prices: Prices

    def round(self, grants: Sequence[Grant], unroller: Unroller | None, pool_fraction: float) -> Round:
        """Asks all drafters of the sequences that may run. unroller: the target's draft head."""
        groups: dict[int, list[Grant]] = defaultdict(list)
        for grant in grants:
            drafter = grant.running.sequence.method.drafter
            if drafter is not None and grant.rows > grant.running.sequence.pending:
                groups[id(drafter)].append(grant)
        result = Round()
        for group in groups.values():
            sequences = [grant.running.sequence for grant in group]
            drafter = sequences[0].method.drafter
            assert drafter is not None
            depths = [grant.rows - grant.running.sequence.pending for grant in group]
            streams = self._streams(grants, group, unroller, result)
            try:
                with streams:
                    trees = drafter.propose(sequences, depths, streams)
                result.trees |= {sequence.key: tree for sequence, tree in zip(sequences, trees, strict=True)}
            except OutOfPagesError:  # drafts are a help, not a need: this step goes on without
                pass
            except Exception as error:
                result.failed += [(grant.running, error) for grant in group]
            for model, batch, seconds in streams.streams:
                result.streams.append(Streamed(model, batch, seconds, pool_fraction))
            result.streams += streams.unrolled
        return result

    def _streams(
        self, grants: Sequence[Grant], group: Sequence[Grant], unroller: Unroller | None, result: Round
    ) -> EngineStreams:
        """What the drafter of `group` is given: streams of its own, and what drafts cost in the coming step.

        Prompts that others read are left out of the prices: that work is to be done anyway, and would make a token seem
        to be worth what all of it takes.
        """
        prices: PriceList | None = None
        own = {id(grant) for grant in group}
        running = [grant for grant in grants if grant.rows]
        decoding = [grant for grant in running if id(grant) in own or grant.running.sequence.pending <= PREFILL]

        def shape(grant: Grant) -> QueryShape:
            sequence = grant.running.sequence
            drafts = sequence.method.drafter is not None
            return QueryShape(min(grant.rows, sequence.pending) if drafts else grant.rows, sequence.cached)

        def price(drafted: int) -> float:
            nonlocal prices
            if prices is None:
                prices = self.prices.of([shape(grant) for grant in decoding])
                result.listed = prices if len(decoding) == len(running) else None
            return self.prices.step(prices, drafted)

        certain = sum(grant.rows >= grant.running.sequence.pending for grant in decoding)
        entries = [grant.running for grant in group]
        return EngineStreams(self.target, self.models, entries, price, certain, unroller)
