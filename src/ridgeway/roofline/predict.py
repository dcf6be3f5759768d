"""What a model would do on a machine, before anybody has either: every figure comes out of the cost model.

A workload decoded by a method at a precision becomes weight streams; the cost model says what each moves and
computes, how long it takes at least (the floor) and how long it will take (the estimate, with an interval). Nothing
is computed here that the cost model can compute, so that predictions and the judgement of real runs cannot differ.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Self

from ridgeway.core.errors import RequestError
from ridgeway.core.visibility import Visibility
from ridgeway.models.config import ModelConfig
from ridgeway.roofline.capacity import Capacity
from ridgeway.roofline.cost import CostModel
from ridgeway.roofline.decoding import Autoregressive, Decoding, Stream
from ridgeway.roofline.experts import DEFAULT_SKEW, distinct_experts
from ridgeway.roofline.law import default_law
from ridgeway.roofline.machine import Machine
from ridgeway.roofline.precision import Precision, precision
from ridgeway.roofline.prediction import ExpertsTouched, Prediction, Work
from ridgeway.roofline.reach import TYPICAL, Reach
from ridgeway.roofline.workload import Workload


class Predictor:
    """Predictions for one model at one precision on one machine; keeps the cost model and what it said of a stream, so
    that many are cheap. The cost model must not learn meanwhile.

    config: the model's. weights: a precision or its name. held_bytes: bytes of each tensor where a file says
    so; None: what the precision takes. engine: a family of `roofline.engines`; empty: what engines reach on the
    whole. reach: None: fitted for data sheets, typical for measured machines. Raises ModelError or
    MachineError.
    """

    def __init__(
        self,
        model: str,
        config: ModelConfig,
        machine: Machine,
        weights: str | Precision = "bf16",
        *,
        held_bytes: Mapping[str, int] | None = None,
        kv_itemsize: int = 2,
        expert_skew: float = DEFAULT_SKEW,
        engine: str = "",
        reach: Reach | None = None,
    ) -> None:
        self.model = model
        packed = weights if isinstance(weights, Precision) else precision(weights)
        self.precision = packed.name
        machine, arithmetic = packed.on(machine)
        if reach is None:
            measured = machine.source == "measured"
            reach = TYPICAL if measured else default_law().reach(machine, packed, engine, config.experts is not None)
        self.cost_model = CostModel(
            config,
            held_bytes or packed.held_bytes(config),
            kv_itemsize,
            activation_itemsize=4 if packed.name == "fp32" else 2,
            arithmetic=arithmetic,
            machine=machine,
            reach=reach,
            expert_skew=expert_skew,
        )

    @classmethod
    def of(cls, model: str, cost_model: CostModel, precision: str) -> Self:
        """For a model as an executor holds it."""
        predictor = cls.__new__(cls)
        predictor.model, predictor.precision, predictor.cost_model = model, precision, cost_model
        return predictor

    @property
    def machine(self) -> Machine:
        return self.cost_model.machine

    @cached_property
    def _seen(self) -> dict[tuple[int, ...], tuple[Visibility, Work]]:
        return {}

    @cached_property
    def _config(self) -> ModelConfig:
        return self.cost_model.config

    def predict(self, workload: Workload, method: Decoding | None = None) -> Prediction:
        """What would come out; whether it fits into memory stands in `capacity`, and is not demanded."""
        method = method or Autoregressive()
        model = self.cost_model
        shape = method.prefill(workload, self._config)
        one = Work() if shape is None else self._phase([Stream(shape)], 1)
        decode, tokens, rows, passes, widest = Work(), 0.0, 0.0, 0.0, 1
        for part in method.rounds(workload, self._config):
            decode += self._phase(part.streams, workload.concurrency, part.times)
            tokens += part.tokens * part.times
            passes += part.times * sum(stream.times for stream in part.streams if stream.is_whole)
            rows += part.times * sum(stream.times * stream.shape.rows for stream in part.streams)
            widest = max(widest, part.streams[-1].shape.rows)
        return Prediction(
            model=self.model,
            machine=self.machine.name,
            machine_source=self.machine.source,
            method=method.name,
            assumptions=method.assumptions,
            lossless=method.lossless,
            precision=self.precision,
            arithmetic=model.arithmetic,
            workload=workload,
            prefill=one.times(workload.concurrency),
            decode=decode,
            tokens=tokens,
            rows=rows,
            passes=passes,
            ridge=model.ridge(decode.cost),
            prefill_yields=method.prefill_yields,
            capacity=Capacity.of(model, workload, caches=shape is not None),
            experts=self._experts(workload.concurrency * widest),
            peak_bandwidth=self.machine.bandwidth(decode.cost.working_set),
            peak_compute=self.machine.compute(model.arithmetic),
        )

    def check_fits(self, workload: Workload) -> None:
        """Raises RequestError if weights and K/V do not fit into memory; says the largest batch that does."""
        capacity = Capacity.of(self.cost_model, workload)
        if capacity.fits:
            return
        where = f"{self.machine.name} ({capacity.usable / 2**30:.4g} GiB of {capacity.memory / 2**30:.4g} for them)"
        if not capacity.largest_batch:
            need = (capacity.weights + capacity.kv_paged // workload.concurrency) / 2**30
            raise RequestError(
                f"{self.model} in {self.precision} does not fit on {where}: one request of {workload.length:,} "
                f"tokens needs {need:,.1f} GiB; fewer bits, shorter requests or more devices would do"
            )
        raise RequestError(
            f"batch {workload.concurrency} does not fit on {where}: {self.model} in {self.precision} leaves room "
            f"for {capacity.largest_batch} requests of {workload.length:,} tokens"
        )

    def _phase(self, streams: Iterable[Stream], requests: int, times: float = 1.0) -> Work:
        """All these streams, so many times."""
        # A cheaper stream is still a stream.
        scaled = [
            self._once(stream, requests).times(times * stream.times * stream.share, streams=times * stream.times)
            for stream in streams
            if stream.times
        ]
        return sum(scaled[1:], scaled[0]) if scaled else Work()

    def _once(self, stream: Stream, requests: int) -> Work:
        """One such stream of the whole model, or of its sublayers; kept, as tables ask for the same ones often."""
        shape, known = stream.shape, stream.sublayers is None and stream.shape.follows
        key = (shape.rows, shape.cached, shape.reads, id(shape.visibility), requests)
        if known and key in self._seen:
            return self._seen[key][1]
        model = self.cost_model
        cost = model.count([shape] * requests, stream.sublayers)
        seconds, low, high = model.estimate(cost)
        memory, compute = model.likely_memory_seconds(cost), model.compute_seconds(cost)
        one = Work(1.0, cost, model.floor(cost), memory, compute, model.overhead, seconds, low, high)
        if known:
            self._seen[key] = shape.visibility, one  # the visibility is kept too, so that its id stays its own
        return one

    def _experts(self, rows: int) -> ExpertsTouched | None:
        experts, skew = self._config.experts, self.cost_model.expert_skew
        if experts is None:
            return None
        uniform = distinct_experts(experts, rows, 0.0)
        return ExpertsTouched(experts.count, experts.active, uniform, distinct_experts(experts, rows, skew), skew)
