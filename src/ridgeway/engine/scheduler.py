"""Who runs in the next weight stream, and with how many rows.

Every running sequence gets the least its method needs, so nobody starves; what is left of the row budget goes to the
oldest first (chunked prefill); then new sequences are admitted; then drafts get what prompts have left, as they are a
help and no need. When pages run out, the youngest sequence gives up its pages and is resumed later, with identical
output, as its state and tokens are kept.
"""

from bisect import insort
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from ridgeway.cache.pages import PagedCache
from ridgeway.core.method import Rows
from ridgeway.engine.request import Running


@dataclass(frozen=True)
class Limits:
    """max_rows: rows of one weight stream, exceeded only where the least rows of all sequences are more. A sequence
    whose least are many, as of a method that denoises a whole answer, is charged three quarters of them at most: so
    others run beside it.

    max_sequences: how many sequences run at once.
    """

    max_rows: int = 512
    max_sequences: int = 64

    def charge(self, rows: int) -> int:
        """How many of `max_rows` are taken up by a sequence with so many rows."""
        return min(rows, max(1, 3 * self.max_rows // 4))


@dataclass(eq=False)
class Grant:
    """A running sequence and the rows that it may ask for."""

    running: Running
    demand: Rows
    rows: int


class Listener(Protocol):
    """Who is told of what the scheduler does."""

    def admitted(self, running: Running, matched: int) -> None: ...
    def preempted(self, running: Running) -> None: ...
    def failed(self, running: Running, error: Exception) -> None: ...


class Scheduler:
    """waiting and running sequences, both oldest first."""

    def __init__(self, cache: PagedCache, limits: Limits, listener: Listener) -> None:
        self.cache = cache
        self.limits = limits
        self.listener = listener
        self.waiting: deque[Running] = deque()
        self.running: list[Running] = []

    def add(self, running: Running) -> None:
        self.waiting.append(running)

    def remove(self, running: Running) -> None:
        """A sequence that is finished, aborted or failed."""
        self.cache.release(running.table)
        if running in self.running:
            self.running.remove(running)
        elif running in self.waiting:
            self.waiting.remove(running)

    def schedule(self) -> list[Grant]:
        """Grants for the next weight stream; may be empty.

        A sequence that cannot even get its least rows with all other sequences preempted is given none; the engine
        ends it.
        """
        grants = self._least_for_all()
        budget = self.limits.max_rows - sum(self.limits.charge(grant.rows) for grant in grants)
        budget = self._extend(grants, budget)
        self._admit(grants, budget)
        taken = sum(self.limits.charge(grant.demand.least) + grant.rows - grant.demand.least for grant in grants)
        self._extend([grant for grant in grants if _may_draft(grant)], self.limits.max_rows - taken, drafts=True)
        return [grant for grant in grants if not grant.running.sequence.finished]

    def _least_for_all(self) -> list[Grant]:
        grants: list[Grant] = []
        for running in list(self.running):
            demand = self._demand(running)
            if demand is None or running not in self.running:  # at fault; or preempted for an older one
                continue
            while not self._reserve(running, demand.least):
                youngest = self.running[-1]
                if youngest is running:
                    break
                self._preempt(youngest)
            else:
                grants.append(Grant(running, demand, demand.least))
                continue
            if len(self.running) == 1:  # it runs alone and the pool is too small for it
                return [Grant(running, demand, 0)]
            self._preempt(running)
        return grants

    def _demand(self, running: Running) -> Rows | None:
        """What its method has use for; None if the method is at fault, which ends the request."""
        try:
            return running.sequence.method.demand(running.sequence)
        except Exception as error:
            self.listener.failed(running, error)
            return None

    def _extend(self, grants: list[Grant], budget: int, drafts: bool = False) -> int:
        """Rows beyond the least, as many as are of use; for drafts only if `drafts`. Returns what is left."""
        for grant in grants:
            sequence, useful = grant.running.sequence, grant.demand.useful
            if sequence.finished:  # by the fault of another sample
                continue
            if sequence.method.drafter is not None and not drafts:
                useful = min(useful, max(grant.rows, sequence.pending))
            rows = grant.demand.within(min(useful, grant.rows + max(budget, 0)))
            while rows > grant.rows and not self._reserve(grant.running, rows):
                rows = grant.demand.within(max(grant.rows, rows - self.cache.page_size))
            budget -= rows - grant.rows
            grant.rows = rows
        return budget

    def _admit(self, grants: list[Grant], budget: int) -> None:
        for running in list(self.waiting):
            if len(self.running) >= self.limits.max_sequences or (budget <= 0 and grants):
                break
            if running not in self.waiting or not running.ready:
                continue
            sequence = running.sequence
            matched = self.cache.match(running.table, sequence.tokens, self._match_limit(running))
            sequence.cached = matched
            demand = self._demand(running)
            if demand is None:
                continue
            # Admission must not lead to preemption at once: the whole of what is committed has to fit.
            fits = self._reserve(running, max(sequence.pending, demand.least))
            if not fits and not self.running:
                fits = self._reserve(running, demand.least)
            joins = not grants or self.limits.charge(demand.least) <= budget
            rows = max(demand.within(budget), demand.least) if joins else 0
            if not fits or rows == 0:
                self.cache.release(running.table)
                sequence.cached = 0
                if not fits and not self.running:
                    self.waiting.remove(running)
                    insort(self.running, running, key=_arrival)
                    grants.append(Grant(running, demand, 0))
                break
            self.waiting.remove(running)
            insort(self.running, running, key=_arrival)
            while rows > demand.least and not self._reserve(running, rows):
                rows = demand.within(max(demand.least, rows - self.cache.page_size))
            self.listener.admitted(running, matched)
            grants.append(Grant(running, demand, rows))
            budget -= self.limits.charge(rows)

    def _match_limit(self, running: Running) -> int:
        """At least one token stays pending: its row predicts the next. Log-probabilities of a prompt need all rows."""
        sequence = running.sequence
        if sequence.params.prompt_logprobs is not None and running.leader is None and not sequence.generated:
            return 0
        return sequence.committed - 1

    def _reserve(self, running: Running, rows: int) -> bool:
        return self.cache.reserve(running.table, running.sequence.cached + running.sequence.held + rows)

    def _preempt(self, running: Running) -> None:
        self.running.remove(running)
        self.cache.release(running.table)
        running.sequence.cached = running.sequence.held = 0
        self.waiting.appendleft(running)
        self.listener.preempted(running)


def _may_draft(grant: Grant) -> bool:
    """Whether a sequence that runs has a drafter, and rows for all that it has committed."""
    sequence = grant.running.sequence
    drafts = sequence.method.drafter is not None and not sequence.finished
    return drafts and grant.rows >= max(1, sequence.pending)


def _arrival(running: Running) -> int:
    return running.arrival
