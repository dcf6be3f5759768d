"""The offline API: the only place where model, executor, engine and cost model are wired together."""

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, overload

import numpy as np

from ridgeway.cache.pages import PageTable
from ridgeway.core.arrays import FloatArray, ints
from ridgeway.core.errors import RequestError
from ridgeway.core.method import DecodingMethod
from ridgeway.core.outputs import Delta, RequestOutput
from ridgeway.core.query import Batch, Entry, Query, Readout
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.core.traits import ModelTraits
from ridgeway.core.visibility import parse_visibility
from ridgeway.engine.engine import Engine
from ridgeway.engine.request import Request
from ridgeway.engine.sampling import plain_selection
from ridgeway.engine.scheduler import Limits
from ridgeway.engine.workbench import EngineWorkbench
from ridgeway.executors.memory import slots_that_fit
from ridgeway.executors.registry import make_executor
from ridgeway.methods.registry import check_fit, make_method
from ridgeway.models.loading import load_model
from ridgeway.models.model import Model
from ridgeway.models.tokenizer import Tokenizer
from ridgeway.models.vocabulary import check_vocabulary
from ridgeway.roofline.cost import CostModel
from ridgeway.roofline.hardware import machine as machine_named
from ridgeway.roofline.machine import Machine
from ridgeway.roofline.report import StepReport
from ridgeway.roofline.this_machine import remember, this_machine

Prompt = str | Sequence[int] | Mapping[str, Any]
Method = str | DecodingMethod | type[DecodingMethod] | None
Message = Mapping[str, Any]


_SAMPLE_TEXT = "The history of the city begins with a small harbour. In the"


class LLM:
    """A model on this machine, ready to generate.

    model: a name (`smollm2-135m`), a folder, a `.gguf` file, a hub id, or a loaded `Model`.
    executor: `auto`, or one of `executors.registry.EXECUTORS`. threads: at most the cores this process may use; None:
    what suits the executor.
    slots: how many tokens' K/V fit; None: as many as a share of the free memory holds, 64 contexts at most.
    machine: whose ceilings judge the runs; None: this one's, measured once and remembered.
    max_rows, max_sequences: of one weight stream. prefix_caching: reuse K/V of equal beginnings of prompts.

    After `generate`, `chat` or `stream`, `outputs` holds what came out and `steps` the report of every weight stream.
    """

    def __init__(
        self,
        model: str | Path | Model,
        *,
        executor: str = "auto",
        threads: int | None = None,
        slots: int | None = None,
        machine: Machine | str | None = None,
        max_rows: int = 512,
        max_sequences: int = 64,
        prefix_caching: bool = True,
        progress: bool = True,
    ) -> None:
        self.model = model if isinstance(model, Model) else load_model(model, progress=progress)
        if machine is None:
            machine = this_machine(progress=progress)
        self.machine = machine_named(machine) if isinstance(machine, str) else machine
        self.executor = make_executor(executor, self.model, threads)
        self.cost_model = CostModel.of(self.model.config, self.executor, self.machine)
        if slots is None:
            slots = slots_that_fit(self.executor.slot_bytes, 64 * self.traits.max_positions)
        self.engine = Engine(self.executor, self.cost_model, slots, Limits(max_rows, max_sequences), prefix_caching)
        self.steps: list[StepReport] = []
        self.outputs: list[RequestOutput] = []
        self._numbers = count()
        self.draft_models: dict[str, Model] = {}
        self._methods: dict[Method, DecodingMethod] = {}
        self._fitting: dict[int, DecodingMethod] = {}  # by identity: what was checked and prepared for this model

    @property
    def traits(self) -> ModelTraits:
        return self.executor.traits

    @property
    def title(self) -> str:
        """The model's name and precision, for people."""
        named = self.model.precision in self.model.name
        return self.model.name if named else f"{self.model.name} {self.model.precision}"

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
        for _ in self._run(requests):
            pass
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
        several = bool(messages) and not isinstance(messages[0], Mapping)
        conversations = messages if several else [messages]
        prompts = [self.chat_prompt(conversation) for conversation in conversations]  # type: ignore[arg-type]
        return self.generate(prompts, params, method=method, sampling_params=sampling_params)

    def method(self, spec: Method = None) -> DecodingMethod:
        """The method that `spec` names, ready for this model. Raises MethodError.

        Methods that are named are made once: what their drafters learned serves later requests.
        """
        named = spec is None or (isinstance(spec, str) and ".py" not in spec)
        method = self._methods[spec] if named and spec in self._methods else make_method(spec)
        if id(method) not in self._fitting:
            check_fit(method, self.traits)
            for name in method.draft_models:
                if name not in self.draft_models:
                    self.add_draft_model(name, load_model(name))
            sample = self.model.tokenizer.encode(_SAMPLE_TEXT) if self.model.tokenizer is not None else [0]
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
        self.engine.add_draft_model(name, executor, CostModel.of(model.config, executor, self.machine))

    def chat_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation in the model's chat template, ready for the assistant's answer."""
        return self.tokenizer.chat_ids(messages)

    def logits(self, token_ids: Sequence[int], visibility: str = "causal", cached: int = 0) -> FloatArray:
        """Logits (rows, vocabulary), float32, of one query of `token_ids` after the first `cached` of them.

        The first `cached` tokens go through the K/V cache first. visibility: `causal`, `bidirectional` or `block(B)`.
        """
        rule = parse_visibility(visibility)
        if not 0 <= cached < len(token_ids):
            raise RequestError(f"cached={cached}: expected from 0 to {len(token_ids) - 1}, as one row must be left")
        bad = next((token for token in token_ids if not 0 <= token < self.traits.vocab_size), None)
        if bad is not None:
            raise RequestError(f"token id {bad} is not in the vocabulary (0 to {self.traits.vocab_size - 1})")
        table = PageTable(scope="logits")
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
        """Step until `requests` are finished; their outputs and the steps' reports are kept on the way."""
        self.steps, self.outputs = [], []
        finished: dict[str, RequestOutput] = {}
        left = {request.request_id for request in requests}
        try:
            for request in requests:
                self.engine.add(request)
            while left:
                result = self.engine.step()
                self.steps.extend(result.reports)
                for output in result.finished:
                    finished[output.request_id] = output
                    left.discard(output.request_id)
                yield from result.deltas
        finally:
            for name in left:
                aborted = self.engine.abort(name)
                if aborted is not None:
                    finished[name] = aborted
            names = [request.request_id for request in requests]
            self.outputs = [finished[name] for name in names if name in finished]
            if self.cost_model.machine != self.machine:  # a step beat its floor: the ceiling was too low
                self.machine = self.cost_model.machine
                remember(self.machine)

    def _requests(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None,
        method: Method | Sequence[Method],
    ) -> list[Request]:
        listed = _as_prompts(prompts)
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
                return prompt.get("prompt"), [int(token) for token in prompt["prompt_token_ids"]]
            if "prompt" in prompt:
                return self._encode(prompt["prompt"])
            raise RequestError(f"a prompt has the key prompt or prompt_token_ids; found {sorted(prompt)}")
        if isinstance(prompt, str):
            return prompt, self.tokenizer.encode(prompt)
        return None, [int(token) for token in prompt]


def _as_prompts(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """A list of prompts, whether one was given or several; a list of whole numbers is one prompt."""
    if isinstance(prompts, str | Mapping):
        return [prompts]
    listed = list(prompts)
    if listed and all(isinstance(item, int | np.integer) for item in listed):
        return [listed]  # type: ignore[list-item]
    return listed  # type: ignore[return-value]


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


def _one_of(
    params: SamplingParams | Sequence[SamplingParams] | None,
    sampling_params: SamplingParams | Sequence[SamplingParams] | None,
) -> SamplingParams | Sequence[SamplingParams] | None:
    if params is not None and sampling_params is not None:
        raise RequestError("params and sampling_params are two words for one thing; give one of them")
    return params if params is not None else sampling_params
