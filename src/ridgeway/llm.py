"""The offline API: the only place where model, executor, engine and cost model are wired together."""

import warnings
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, overload

import numpy as np

from ridgeway.cache.pages import PageTable
from ridgeway.core.arrays import FloatArray, ints
from ridgeway.core.errors import MethodError, RequestError
from ridgeway.core.executor import Executor
from ridgeway.core.method import DecodingMethod
from ridgeway.core.outputs import CompletionOutput, Delta, RequestOutput, RevealCounts
from ridgeway.core.prompts import Prompt, as_prompts, expect_whole, is_whole, shortly, token_ids_of
from ridgeway.core.query import Batch, Entry, Query, Readout
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.core.traits import ModelTraits
from ridgeway.core.visibility import parse_visibility
from ridgeway.engine.engine import Engine
from ridgeway.engine.request import Request
from ridgeway.engine.sampling import plain_selection
from ridgeway.engine.scheduler import Limits
from ridgeway.engine.workbench import EngineWorkbench
from ridgeway.executors.draft_heads import LateUnroller, can_look
from ridgeway.executors.memory import check_room, slots_that_fit
from ridgeway.executors.registry import Storage, make_executor, measured_by
from ridgeway.methods.registry import check_fit, default_method, make_method
from ridgeway.models.draft_head import DraftHead, draft_head_of, misfit
from ridgeway.models.loading import load_model
from ridgeway.models.model import Model
from ridgeway.models.tokenizer import Tokenizer
from ridgeway.models.vocabulary import check_vocabulary
from ridgeway.roofline.card import Card
from ridgeway.roofline.cost import CostModel
from ridgeway.roofline.hardware import machine as machine_named
from ridgeway.roofline.learned import Learned
from ridgeway.roofline.machine import Machine
from ridgeway.roofline.report import RunReport, StepReport
from ridgeway.roofline.this_machine import remember, this_machine

Method = str | DecodingMethod | type[DecodingMethod] | None
Message = Mapping[str, Any]


_SAMPLE_TEXT = "The history of the city begins with a small harbour. In the"


@dataclass
class Call:
    """A `generate` or `stream` on its way: what it asked for, and what has come for it."""

    names: list[str]
    deltas: deque[Delta] = field(default_factory=deque)
    finished: dict[str, RequestOutput] = field(default_factory=dict)
    steps: list[StepReport] = field(default_factory=list)

    @property
    def unfinished(self) -> set[str]:
        return set(self.names) - set(self.finished)

    @property
    def outputs(self) -> list[RequestOutput]:
        """In the order of the prompts."""
        return [self.finished[name] for name in self.names if name in self.finished]


class LLM:
    """A model on this machine, ready to generate.

    model: a name (`smollm2-135m`), a folder, a `.gguf` file, a hub id, or a loaded `Model`.
    executor: `auto`, or one of `executors.registry.EXECUTORS`. threads: at most the cores this process may use; None:
    what suits the executor.
    quant: the format into which weights in floats are quantized as they are loaded, `q8_0` or `q4_0`. kv_cache: `bf16`
    or `int8` keys and values; None: what suits the executor.
    slots: how many tokens' K/V fit; None: as many as a share of the free memory holds, 64 contexts at most.
    machine: whose ceilings judge the runs; None: this one's, measured once and remembered, with what was learned on it.
    max_rows, max_sequences: of one weight stream. prefix_caching: reuse K/V of equal beginnings of prompts.

    After `generate`, `chat` or `stream`, `outputs` holds what came out and `steps` the report of every weight stream.
    """

    def __init__(
        self,
        model: str | Path | Model,
        *,
        executor: str = "auto",
        threads: int | None = None,
        quant: str | None = None,
        kv_cache: str | None = None,
        slots: int | None = None,
        machine: Machine | str | None = None,
        max_rows: int = 512,
        max_sequences: int = 64,
        prefix_caching: bool = True,
        progress: bool = True,
    ) -> None:
        expect_whole(max_rows=max_rows, max_sequences=max_sequences, slots=slots, threads=threads)
        storage = Storage(quant, kv_cache)
        self.model = model if isinstance(model, Model) else load_model(model, progress=progress)
        self.executor = make_executor(executor, self.model, threads, storage)
        self._quant = quant
        self._remembers = machine is None
        if machine is None:
            machine = this_machine(progress=progress, contributions=measured_by(self.executor))
        self.machine = machine_named(machine) if isinstance(machine, str) else machine
        self._learned: list[Learned] = []
        self.cost_model = self._cost_model(self.model, self.executor)
        if slots is None:
            slots = slots_that_fit(self.executor.slot_bytes, 64 * self.executor.traits.max_positions)
        check_room(slots, self.executor.slot_bytes)
        self.engine = Engine(self.executor, self.cost_model, slots, Limits(max_rows, max_sequences), prefix_caching)
        self.steps: list[StepReport] = []
        self.outputs: list[RequestOutput] = []
        self._calls: list[Call] = []
        self._last_methods: dict[str, DecodingMethod] = {}
        self._numbers = count()
        self.draft_models: dict[str, Model] = {}
        self.draft_head: DraftHead | None = None
        self._methods: dict[Method, DecodingMethod] = {}
        self._fitting: dict[int, DecodingMethod] = {}  # by identity: what was checked and prepared for this model
        head = draft_head_of(self.model)
        if head is not None:
            self.add_draft_head(head)

    @property
    def traits(self) -> ModelTraits:
        return self.engine.traits

    @property
    def title(self) -> str:
        """The model's name and precision, for people."""
        precision = self._quant.upper() if self._quant is not None else self.model.precision
        return self.model.name if precision in self.model.name else f"{self.model.name} {precision}"

    @property
    def tokenizer(self) -> Tokenizer:
        if self.model.tokenizer is None:
            raise RequestError(f"{self.model.name} has no tokenizer: give prompts as lists of token ids")
        return self.model.tokenizer

    def default_sampling_params(self, **changes: Any) -> SamplingParams:
        """The model's own generation settings; where it has none, temperature 0.7, top_p 0.9. Seed 0."""
        own = {
            name: self.model.generation[name]
            for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
            if self.model.generation.get(name) is not None
        }
        if self.model.generation.get("do_sample") is False:
            own = {"temperature": 0.0}
        settings: dict[str, Any] = own or {"temperature": 0.7, "top_p": 0.9}
        return SamplingParams(**({"seed": 0, "max_tokens": None} | settings | changes))

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        method: Method | Sequence[Method] = None,
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[RequestOutput]:
        """An output for each prompt, in order.

        prompts: text, token ids, `{"prompt": ...}` or `{"prompt_token_ids": ...}`, or several of these. params and
        method: one for all or one for each prompt (sampling_params: vLLM's word for params). Raises RequestError and
        MethodError before any work if one of them is bad; a request that fails later says so in its `error`.
        """
        requests = self._requests(prompts, _one_of(params, sampling_params), method)
        deque(self._run(requests), maxlen=0)
        return self.outputs

    def stream(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        method: Method | Sequence[Method] = None,
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> Generator[Delta, None, None]:
        """Text and tokens as they come; `Delta.request_id` counts from the first prompt of this call as `...-0`.

        With `SamplingParams(trace=True)` every weight stream has a delta for each sample that it worked for, with a
        `StreamTrace`: so a denoiser's reveals can be shown live, in whatever order they come.

        Leaving the iterator early aborts what is not finished.
        """
        requests = self._requests(prompts, _one_of(params, sampling_params), method)
        return self._run(requests)

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        method: Method | Sequence[Method] = None,
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[RequestOutput]:
        """The answer to a conversation, or to each of several; a message is `{"role": ..., "content": ...}`."""
        if not isinstance(messages, list | tuple) or not messages:
            raise RequestError(f"messages are a list of {{'role': ..., 'content': ...}}, not {shortly(messages)}")
        several = not isinstance(messages[0], Mapping)
        conversations = messages if several else [messages]
        prompts = [self.chat_prompt(conversation) for conversation in conversations]
        return self.generate(prompts, params, method=method, sampling_params=sampling_params)

    def method(self, spec: Method = None) -> DecodingMethod:
        """The method that `spec` names, ready for this model; None: the model's default. Raises MethodError.

        Methods that are named are made once: what their drafters learned serves later requests. What
        runs but is unwise is a `UserWarning`.
        """
        spec = default_method(self.traits) if spec is None else spec
        named = isinstance(spec, str) and ".py" not in spec
        method = self._methods[spec] if named and spec in self._methods else make_method(spec)
        if id(method) not in self._fitting:
            check_fit(method, self.traits)
            caution = method.caution(self.traits)
            if caution is not None:
                warnings.warn(f"method {method.name!r}: {caution}", stacklevel=2)
            for name in method.draft_models:
                if name not in self.draft_models:
                    self.add_draft_model(name, load_model(name))
            sample = self.model.tokenizer.encode(_SAMPLE_TEXT) if self.model.tokenizer is not None else [0]
            if method.asks_head and isinstance(self.engine.unroller, LateUnroller):
                self.engine.unroller.get_ready()  # now, not in the middle of an answer
            method.prepare(EngineWorkbench(self.engine, self.title, sample))
            self._fitting[id(method)] = method
        if named:
            self._methods[spec] = method
        return method

    def add_draft_model(self, name: str, model: Model) -> None:
        """Let `draft:model=NAME` draft with `model`. Raises MethodError if its vocabulary is another one."""
        check_vocabulary(self.model, model)
        self.draft_models[name] = model
        executor = make_executor(self.executor.name, model, self.executor.threads)
        self.engine.add_draft_model(name, executor, self._cost_model(model, executor))

    def add_draft_head(self, head: DraftHead) -> None:
        """Let `auto` and `draft-head` draft with `head`, which was trained for this model. One that lies with the model
        is there from the start. Raises MethodError for a head of another model's size.
        """
        config = self.model.config
        if not config.traits.autoregressive:
            raise MethodError(f"a draft head drafts for causal models, and {self.model.name} {config.traits.words}")
        if (wrong := misfit(head, self.model)) is not None:
            raise MethodError(f"the draft head does not fit: it {wrong}")
        if head.query is not None and not can_look(self.executor):
            raise MethodError(f"the draft head looks at K/V, which the {self.executor.name} executor does not show")
        self.draft_head = head
        self.engine.unroller = LateUnroller(self.executor, head)

    def chat_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation in the model's chat template, ready for the assistant's answer."""
        return self.tokenizer.chat_ids(messages)

    def report(self, price: float | None = None) -> RunReport:
        """How far the last call was from what the machine allows. price: dollars per hour, for the cost per token."""
        answers = [answer for output in self.outputs for answer in output.outputs]
        return RunReport.of(
            self.steps,
            self.cost_model,
            model=self.title,
            method="+".join(method.label for method in self._last_methods.values()),
            prompt_tokens=sum(len(output.prompt_token_ids) for output in self.outputs),
            token_ids=[token for answer in answers for token in answer.token_ids],
            text="\n".join(answer.text for answer in answers),
            lossless=all(method.lossless for method in self._last_methods.values()),
            price=price,
            notes=self._notes(answers),
            reveals=_together(answers),
            drafts=answers[0].drafts if len(answers) == 1 else None,
            explanation=answers[0].explanation if len(answers) == 1 else (),
        )

    def _notes(self, answers: list[CompletionOutput]) -> list[str]:
        """What is unwise, and what became of masks; of a single answer what became of drafts, and what was chosen."""
        notes = [caution for m in self._last_methods.values() if (caution := m.caution(self.traits)) is not None]
        reveals = _together(answers)
        if reveals is not None:
            notes.append(reveals.words)
        if len(answers) != 1:
            return notes
        drafts, why = answers[0].drafts, answers[0].explanation
        notes += [drafts.words] if drafts is not None and drafts.steps else []
        return notes + [f"{name}: {why[-1]}" for name in self._last_methods if why]

    def card(self, price: float | None = None, commands: tuple[str, ...] = ()) -> Card:
        """The last call's report for people; `print(llm.card())`. commands: what to name as the next to type."""
        packed = {name: tensor.nbytes for name, tensor in self.model.tensors.items()}
        return Card(self.report(price), self.cost_model, packed, commands)

    def logits(self, token_ids: Sequence[int], visibility: str = "own", cached: int = 0) -> FloatArray:
        """Logits (rows, vocabulary), float32, of one query of `token_ids` after the first `cached` of them.

        The first `cached` tokens go through the K/V cache first. visibility: `causal`, `bidirectional` or `block(B)`;
        `own`: as the model was trained.
        """
        rule = self.traits.visibility if visibility == "own" else parse_visibility(visibility)
        token_ids = token_ids_of(token_ids)
        longest = min(self.traits.max_positions, self.engine.capacity)
        if not 0 < len(token_ids) <= longest:
            raise RequestError(
                f"{len(token_ids)} tokens: expected from 1 to {longest}, the model's context or K/V pool"
            )
        if not is_whole(cached) or not 0 <= cached < len(token_ids):
            raise RequestError(f"cached={cached!r}: expected from 0 to {len(token_ids) - 1}, as one row must be left")
        bad = next((token for token in token_ids if not 0 <= token < self.traits.vocab_size), None)
        if bad is not None:
            raise RequestError(f"token id {bad} is not in the vocabulary (0 to {self.traits.vocab_size - 1})")
        table = PageTable(("logits",))
        if not self.engine.cache.reserve(table, len(token_ids)):
            raise RequestError(f"{len(token_ids)} tokens do not fit: the K/V pool holds {self.engine.capacity}")
        try:
            logits = None
            for start, stop in ((0, cached), (cached, len(token_ids))):
                if start == stop:
                    continue
                positions = np.arange(start, stop, dtype=np.int64)
                read = Readout.of(positions - start, positions, sampled=False, measures={"logits"})
                query = Query(ints(token_ids[start:stop]), positions, rule, read)
                entry = Entry(query, start, self.engine.cache.slots(table, stop))
                batch = Batch((entry,), plain_selection(stop - start))
                logits = self.executor.forward(batch).answers[0].logits
            assert logits is not None
            return logits
        finally:
            self.engine.cache.release(table)

    def _run(self, requests: list[Request]) -> Generator[Delta, None, None]:
        """Step until `requests` are finished. Several calls may be open at once: each gets what is its own."""
        call = Call([request.request_id for request in requests])
        self._calls.append(call)
        self.steps = call.steps
        self._last_methods = {request.method.label: request.method for request in requests}
        try:
            for request in requests:
                self.engine.add(request)
            while True:
                while call.deltas:
                    yield call.deltas.popleft()
                if not call.unfinished:
                    return
                assert self.engine.busy, f"{sorted(call.unfinished)} are not finished, but the engine is idle"
                self._step()
        finally:
            for name in sorted(call.unfinished):
                aborted = self.engine.abort(name)
                if aborted is not None:
                    call.finished[name] = aborted
            self._share(self.engine.reports())
            self._calls.remove(call)
            self.steps, self.outputs = call.steps, call.outputs
            self.save_learned()

    def save_learned(self) -> None:
        """Keep for later processes what steps taught: ceilings that one beat, and ratios to estimates. Every call does
        so at its end.
        """
        if self.cost_model.machine != self.machine:  # a step beat its floor: the ceiling was too low
            self.machine = self.cost_model.machine
            remember(self.machine)
        for learned in self._learned:
            learned.save()

    def _cost_model(self, model: Model, executor: Executor) -> CostModel:
        """Of the model in that executor; on this machine with what was learned of it before."""
        cost_model = CostModel.of(model.config, executor, self.machine)
        learned = Learned.of(model, executor, cost_model) if self._remembers else None
        if learned is not None:
            self._learned.append(learned)
        return cost_model

    def _share(self, reports: Iterable[StepReport]) -> None:
        """Every open call gets a report of every weight stream."""
        for call in self._calls:
            call.steps.extend(reports)

    def _step(self) -> None:
        """One engine step, its results handed to the calls that they belong to."""
        result = self.engine.step()
        self._share(result.reports)
        for call in self._calls:
            call.deltas.extend(delta for delta in result.deltas if delta.request_id in call.names)
            call.finished |= {o.request_id: o for o in result.finished if o.request_id in call.names}

    def _requests(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None,
        method: Method | Sequence[Method],
    ) -> list[Request]:
        listed = as_prompts(prompts)
        each_params = _for_each(params if params is not None else SamplingParams(), len(listed), "params")
        each_method = _for_each(method, len(listed), "method")
        requests = []
        call = next(self._numbers)
        for place, (prompt, one, how) in enumerate(zip(listed, each_params, each_method, strict=True)):
            if not isinstance(one, SamplingParams):
                raise RequestError(f"params are SamplingParams, not {type(one).__name__}")
            text, ids = self._encode(prompt)
            decoding = self.method(how)
            tokenizer = self.model.tokenizer
            new_text = None
            if tokenizer is not None:
                new_text = partial(tokenizer.stream, one.skip_special_tokens, after=ids)
            request = Request(
                request_id=f"{call}-{place}",
                prompt=ids,
                params=one,
                method=decoding,
                prompt_text=text,
                new_text=new_text,
                token_text=None if tokenizer is None else tokenizer.token_text,
            )
            self.engine.check_request(request)
            requests.append(request)
        return requests

    def _encode(self, prompt: Prompt) -> tuple[str | None, list[int]]:
        if isinstance(prompt, Mapping):
            if "prompt_token_ids" in prompt:
                return prompt.get("prompt"), token_ids_of(prompt["prompt_token_ids"])
            if "prompt" in prompt:
                return self._encode(prompt["prompt"])
            raise RequestError(f"a prompt has the key prompt or prompt_token_ids; found {sorted(prompt)}")
        if isinstance(prompt, str):
            return prompt, self.tokenizer.encode(prompt)
        return None, token_ids_of(prompt)


@overload
def _for_each(value: SamplingParams | Sequence[SamplingParams], n: int, what: str) -> list[SamplingParams]: ...
@overload
def _for_each(value: Method | Sequence[Method], n: int, what: str) -> list[Method]: ...
def _for_each(value: Any, n: int, what: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        return [value] * n
    if len(value) != n:
        raise RequestError(f"{len(value)} {what} for {n} prompts: give one for all, or one for each")
    return list(value)


def _together(answers: list[CompletionOutput]) -> RevealCounts | None:
    """What became of the masks of all answers that were denoised; None if there are none."""
    counts = [answer.reveals for answer in answers if answer.reveals is not None]
    return sum(counts[1:], counts[0]) if counts else None


def _one_of(
    params: SamplingParams | Sequence[SamplingParams] | None,
    sampling_params: SamplingParams | Sequence[SamplingParams] | None,
) -> SamplingParams | Sequence[SamplingParams] | None:
    if params is not None and sampling_params is not None:
        raise RequestError("params and sampling_params are two words for one thing; give one of them")
    return params if params is not None else sampling_params
