"""The engine's heart: schedule, stream the weights once, commit.

It runs in one thread: whoever owns it calls `add`, `abort` and `step`. A fault of one request, or of its method, ends
that request and no other.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from ridgeway.cache.pages import PagedCache, PageTable
from ridgeway.cache.pool import PagePool
from ridgeway.core.arrays import ints
from ridgeway.core.drafting import Unroller
from ridgeway.core.errors import MethodError, RequestError, RidgewayError
from ridgeway.core.executor import Executor
from ridgeway.core.outputs import Delta, RequestOutput, StreamTrace
from ridgeway.core.query import Answer, Batch, Commit, Entry, Measure, Query, Readout
from ridgeway.core.sequence import Sequence
from ridgeway.core.traits import ModelTraits
from ridgeway.engine.contract import check_query, check_request, checked_tokens
from ridgeway.engine.draft_models import DraftModel, Weights
from ridgeway.engine.drafting import Drafting, Round
from ridgeway.engine.judging import Gain, Judge, Streamed
from ridgeway.engine.request import Request, Running, Tracked, new_seed
from ridgeway.engine.sampling import Selections
from ridgeway.engine.scheduler import Grant, Limits, Scheduler
from ridgeway.engine.stopping import AnswerText, accept
from ridgeway.engine.streams import HeadWork
from ridgeway.roofline.cost import CostModel
from ridgeway.roofline.prices import Prices
from ridgeway.roofline.report import StepReport

PAGE_SIZE = 16
_MOST_IDLE_STREAMS = 10_000  # a whole-sequence denoiser may take thousands of steps before it commits anything


@dataclass(frozen=True)
class Planned:
    """A running sequence, the query that its method planned, and the same reading what the request asks for besides."""

    running: Running
    asked: Query
    query: Query


@dataclass(frozen=True)
class Answered:
    """A weight stream that was run, and whose queries it answered."""

    stream: Streamed
    planned: list[Planned]
    answers: tuple[Answer, ...]


@dataclass
class StepResult:
    """What one step brought: text and tokens by sample, the requests that ended, and reports of weight streams.

    Short streams are judged several at once (see `judging`), so reports may come some steps later; but all of them with
    a step in which a request ended.
    """

    deltas: list[Delta] = field(default_factory=list)
    finished: list[RequestOutput] = field(default_factory=list)
    reports: list[StepReport] = field(default_factory=list)


class Engine:
    """Runs requests of any mix of methods in one continuous batch.

    executor: one weight stream on a device. cost_model: counts and judges every step. slots: tokens whose K/V fit.
    prefix_caching: whether a request takes up K/V that an earlier one left.
    """

    def __init__(
        self,
        executor: Executor,
        cost_model: CostModel,
        slots: int,
        limits: Limits | None = None,
        prefix_caching: bool = True,
    ) -> None:
        self.executor = executor
        self.cost_model = cost_model
        self.unroller: Unroller | None = None  # the model's draft head
        page_size = page_size_for(executor.traits.block_size)
        self.pool = PagePool(max(1, slots // page_size), page_size, prefix_caching)
        self.cache = PagedCache(self.pool)
        self.scheduler = Scheduler(self.cache, limits or Limits(), self)
        self.prefix_caching = prefix_caching
        self.prices = Prices(cost_model)
        self.draft_models: dict[str, DraftModel] = {}
        self._target = Weights(executor, cost_model, self.cache)
        self._judge = Judge(self._target, self.draft_models)
        self._selections = Selections()
        self._streaming = 0.0  # seconds of this step's weight streams
        self._drafting = Drafting(self._target, self.draft_models, self.prices)
        self._round = Round()
        self.tracked: dict[str, Tracked] = {}
        self._arrivals = 0
        self._result = StepResult()
        executor.allocate(self.pool.total * page_size)

    @property
    def traits(self) -> ModelTraits:
        return replace(self.executor.traits, draft_head=self.unroller is not None)

    @property
    def capacity(self) -> int:
        """Tokens whose K/V the pool holds."""
        return self.pool.total * self.pool.page_size

    @property
    def pool_fraction(self) -> float:
        """Share of the pool's pages that running sequences hold."""
        return self.pool.owned / self.pool.total

    @property
    def busy(self) -> bool:
        return bool(self.scheduler.running or self.scheduler.waiting)

    def add(self, request: Request) -> None:
        """Take a request on. Bad ones are refused here, before any work: RequestError, MethodError."""
        self.check_request(request)
        params = request.params
        seed = new_seed() if params.seed is None else params.seed
        siblings = None if self.prefix_caching else request.request_id
        scope = (request.method.visibility(self.traits).key, siblings)
        samples: list[Running] = []
        for number in range(params.n):
            try:
                sequence = Sequence(
                    request.request_id, number, request.prompt, params, seed, request.method, self.traits
                )
            except Exception as error:
                raise MethodError(f"method {request.method.name!r} cannot start: {_said(error)}") from error
            text = AnswerText(
                request.new_text() if request.new_text else None,
                params.stop_strings,
                params.include_stop_str_in_output,
            )
            table = PageTable(scope)
            leader = samples[0] if samples else None
            samples.append(Running(sequence, table, text, self._arrivals, leader))
            self._arrivals += 1
        self.tracked[request.request_id] = Tracked(request, samples)
        for running in samples:
            self.scheduler.add(running)

    def abort(self, request_id: str) -> RequestOutput | None:
        """End a request now and give back its pages; what it has so far is returned. Unknown ids do nothing."""
        tracked = self.tracked.get(request_id)
        if tracked is None:
            return None
        self._end(tracked, "abort")
        return tracked.output()

    def step(self) -> StepResult:
        """One weight stream for everyone who runs."""
        result = self._result = StepResult()
        began, self._streaming = perf_counter(), 0.0
        planned = self._plan(self.scheduler.schedule())
        prompts_read = False
        if planned:
            for answered in self._stream(planned):
                for plan, answer in zip(answered.planned, answered.answers, strict=True):
                    self._commit(plan, answer, answered.stream.gain)
                self._note(answered.stream)
                prompts_read |= answered.stream.gain.prefill_rows > 0
        whole = bool(result.finished) or not self.busy  # whoever asked wants the whole account
        result.reports += self._judge.reports(whole)
        if any(plan.running.sequence.method.drafter is not None for plan in planned):
            host = perf_counter() - began - self._streaming
            self.prices.observe_host(host, self._round.drafted, prompts_read)
        if not self.busy:
            self.check()
        return result

    def reports(self) -> list[StepReport]:
        """Reports of weight streams that no step has brought yet: after an abort there may be some."""
        return self._judge.reports(of_all=True)

    def run(self) -> Iterable[StepResult]:
        """Steps until nothing is left to do."""
        while self.busy:
            yield self.step()

    def check(self) -> None:
        """The invariants of pool and sequences; checked by itself whenever the engine is idle."""
        self.pool.check()
        if not self.busy:
            assert self.pool.owned == 0, f"{self.pool.owned} pages are owned while nothing runs"
            assert not self.tracked, f"{sorted(self.tracked)} are tracked while nothing runs"
            assert not any(model.views for model in self.draft_models.values()), "a draft model holds what nobody runs"

    def add_draft_model(self, name: str, executor: Executor, cost_model: CostModel) -> None:
        """A model of the same vocabulary for drafters that ask for it by name; its K/V hold as much as the target's."""
        pages = max(1, self.capacity // PAGE_SIZE)
        self.draft_models[name] = DraftModel.of(executor, cost_model, pages, PAGE_SIZE)

    def check_request(self, request: Request) -> None:
        """Raise RequestError or MethodError if the request could not run."""
        if request.request_id in self.tracked:
            raise RequestError(f"request {request.request_id!r} is running already; each needs an id of its own")
        check_request(request, self.traits, self.capacity)

    def admitted(self, running: Running, matched: int) -> None:
        """The scheduler lets a sequence run, with so many tokens from the prefix cache."""
        if running.leader is None and not running.sequence.generated:
            self.tracked[running.sequence.request_id].cached_prompt_tokens = matched

    def preempted(self, running: Running) -> None:
        """The scheduler took a sequence's pages away."""
        self.tracked[running.sequence.request_id].metrics.preemptions += 1

    def _plan(self, grants: list[Grant]) -> list[Planned]:
        """Drafts, then a query for each granted sequence."""
        self._round = self._drafting.round(grants, self.unroller, self.pool_fraction)
        for running, error in self._round.failed:
            self.failed(running, error)
        for stream in self._round.streams:
            self._note(stream)
        planned = []
        for grant in grants:
            running, sequence = grant.running, grant.running.sequence
            if sequence.finished:  # ended by a fault of its drafter
                continue
            if grant.rows == 0:
                self._exhausted(running, grant.demand.least)
                continue
            try:
                query = sequence.method.plan(sequence, grant.rows, self._round.trees.get(sequence.key))
                check_query(sequence, query, grant.rows)
            except Exception as error:
                self.failed(running, error)
                continue
            planned.append(Planned(running, query, self._with_logprobs(sequence, query)))
        return planned

    def _with_logprobs(self, sequence: Sequence, query: Query) -> Query:
        """The query, reading also what the request wants to know of tokens' probabilities."""
        params, read = sequence.params, query.read
        if params.logprobs is not None:
            logprob: frozenset[Measure] = frozenset({"logprob"})
            read = replace(read, top=max(read.top, params.logprobs), measures=read.measures | logprob)
        if params.prompt_logprobs is not None and sequence.sample == 0:
            rows = np.flatnonzero(query.positions + 1 < sequence.prompt_length)
            after = query.positions[rows] + 1
            given = [sequence.tokens[position] for position in after]
            read = read.then(Readout.of(rows, after, sampled=False, given=given, top=params.prompt_logprobs))
        return query if read is query.read else query.reading(read)

    def _stream(self, planned: list[Planned]) -> Iterable[Answered]:
        """One weight stream for all; if it fails, one for each, so that only whoever is at fault ends."""
        try:
            yield self._streamed(planned)
            return
        except Exception as error:
            if len(planned) == 1:
                self.failed(planned[0].running, error)
                return
        for plan in planned:
            if not plan.running.sequence.finished:
                yield from self._stream([plan])

    def _streamed(self, planned: list[Planned]) -> Answered:
        batch, used = self._batch(planned), self.pool_fraction
        start = perf_counter()
        answers = self.executor.forward(batch).answers
        seconds = perf_counter() - start
        listed = self._round.listed
        if listed is not None and batch.rows >= listed.rows:
            self.prices.observe(listed, batch.rows - listed.rows, seconds)
        return Answered(Streamed(self._target, batch, seconds, used), planned, answers)

    def _batch(self, planned: list[Planned]) -> Batch:
        entries = tuple(
            Entry(
                plan.query,
                present,
                self.cache.slots(plan.running.table, present + len(plan.query)),
            )
            for plan in planned
            for present in (plan.running.sequence.cached + plan.running.sequence.held,)
        )
        return Batch(entries, self._selections.of((plan.running.sequence, plan.query) for plan in planned))

    def _commit(self, plan: Planned, answer: Answer, gain: Gain) -> None:
        """Hand an answer to its method and do as it says."""
        running, sequence, query = plan.running, plan.running.sequence, plan.asked
        if sequence.finished:  # ended by a fault of another sample of its request
            return
        tracked = self.tracked[sequence.request_id]
        tracked.metrics.weight_streams += 1
        own, every = len(query.read), plan.query.read
        if len(every) > own:
            tracked.record_prompt_logprobs(answer.part(own, len(every)), every.predicts[own:].tolist())
            answer = answer.part(0, own)
        try:
            commit = sequence.method.commit(sequence, query, answer)
            tokens = checked_tokens(sequence, query, commit, own)
        except Exception as error:
            self.failed(running, error)
            return
        first = sequence.committed
        # Kept rows that predict what the prompt holds already; they follow the cached ones.
        prefill_rows = min(len(commit.keep), max(0, sequence.prompt_length - 1 - sequence.cached))
        accepted = accept(sequence, tokens, running.text)
        tracked.record_logprobs(running, answer, accepted, commit)
        try:
            self._keep(running, query, commit, accepted)
        except Exception as error:
            sequence.finish_reason = None  # it ends by the fault, not by what `accept` saw
            self.failed(running, error)
            return
        gain.committed += len(accepted)
        gain.revealed += len(accepted) if commit.reveal is None else int(commit.reveal.revealed.sum())
        gain.prefill_rows += prefill_rows
        if accepted and tracked.metrics.first_token_seconds is None:
            tracked.metrics.first_token_seconds = perf_counter() - tracked.arrived
        if sequence.finished:
            running.text.finish()
            self._leave(running)
        trace = StreamTrace.of(query, commit, first, accepted) if sequence.params.trace else None
        self._emit(tracked, running, accepted, trace)
        if sequence.method.drafter is not None:
            try:
                sequence.method.drafter.observe(sequence, query, answer, commit)
            except Exception as error:
                self.failed(running, error)

    def _keep(self, running: Running, query: Query, commit: Commit, accepted: list[int]) -> None:
        """Commit `accepted`, keep K/V of as many rows as belong to committed tokens, and hold what is to be held."""
        sequence = running.sequence
        kept = min(len(commit.keep), sequence.pending + len(accepted))
        present = sequence.cached + sequence.held  # the query's rows have the slots after these
        source = [present + row for row in ints(commit.keep[:kept]).tolist()]
        if commit.hold is not None:
            source += [present + row for row in ints(commit.hold).tolist()]
            sequence.held = len(commit.hold)
        elif kept:
            sequence.held = 0  # it is overwritten
        target = list(range(sequence.cached, sequence.cached + len(source)))
        if source != target:
            slots = self.cache.slots(running.table, present + len(query))
            self.executor.move(slots[source], slots[target])
        running.shareable &= kept == 0 or self._shareable(running, query)
        sequence.extend(accepted, kept)
        if running.shareable:
            self.cache.remember(running.table, sequence.tokens, sequence.cached)
        revealed = commit.reveal is not None and commit.reveal.revealed.any()
        running.idle_streams = 0 if accepted or kept or revealed else running.idle_streams + 1
        if running.idle_streams >= _MOST_IDLE_STREAMS and not sequence.finished:
            raise MethodError(
                f"method {sequence.method.name!r} committed and kept nothing in {_MOST_IDLE_STREAMS} weight streams"
            )

    def _shareable(self, running: Running, query: Query) -> bool:
        """Whether other requests may take up the kept K/V: if they are what the scope of the table says, and depend on
        no token that comes after their page. A block that was kept in two parts did not see itself as a whole.
        """
        unit = query.visibility.unit
        whole = unit is not None and self.cache.page_size % unit == 0 and running.sequence.cached % unit == 0
        return whole and query.context is None and query.visibility.key == running.table.scope[0]

    def _leave(self, running: Running) -> None:
        """A sequence ends: its pages go back, here and in draft models."""
        self.scheduler.remove(running)
        for model in self.draft_models.values():
            model.release(running.sequence)

    def _emit(self, tracked: Tracked, running: Running, tokens: list[int], trace: StreamTrace | None = None) -> None:
        sequence = running.sequence
        text = running.text.take(final=sequence.finished)
        if trace is not None:
            running.trace.append(trace)
        if text or tokens or sequence.finished or trace is not None:
            self._result.deltas.append(
                Delta(
                    sequence.request_id,
                    sequence.sample,
                    text,
                    tuple(tokens),
                    sequence.finish_reason,
                    trace,
                )
            )
        self._close_if_finished(tracked)

    def _close_if_finished(self, tracked: Tracked) -> None:
        if tracked.finished and tracked.request.request_id in self.tracked:
            tracked.metrics.finished_seconds = perf_counter() - tracked.arrived
            del self.tracked[tracked.request.request_id]
            self._result.finished.append(tracked.output())

    def _exhausted(self, running: Running, least: int) -> None:
        """The pool cannot hold even this one sequence: what it has so far is its answer."""
        if running.sequence.generated == 0:
            self.failed(
                running,
                RequestError(
                    f"the K/V pool holds {self.capacity} tokens, but this request needs "
                    f"{running.sequence.cached + least} at once; give the pool more memory"
                ),
            )
            return
        running.sequence.finish_reason = "length"
        running.text.finish()
        self._leave(running)
        self._emit(self.tracked[running.sequence.request_id], running, [])

    def failed(self, running: Running, error: Exception) -> None:
        """End the request of a sequence, and no other, for a fault of its method or of the executor."""
        tracked = self.tracked.get(running.sequence.request_id)
        if tracked is None:  # it has ended already
            return
        tracked.error = _said(error)
        self._end(tracked, "error")

    def _end(self, tracked: Tracked, reason: str) -> None:
        for running in tracked.samples:
            if not running.sequence.finished:
                running.sequence.finish_reason = reason
                running.text.finish()
                self._leave(running)
                self._emit(tracked, running, [])

    def _note(self, stream: Streamed | HeadWork) -> None:
        self._streaming += stream.seconds
        self._judge.note(stream)


def page_size_for(block_size: int | None) -> int:
    """Slots of a page: whole blocks, as K/V inside a block depend on all of it."""
    if block_size is None:
        return PAGE_SIZE
    return block_size * max(1, PAGE_SIZE // block_size)


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, RidgewayError) else f"{type(error).__name__}: {error}"
