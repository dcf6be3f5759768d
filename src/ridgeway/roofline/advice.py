"""What would bring a run closer to the roof, or raise the roof, by how much; and the same wall elsewhere.

Every figure comes out of the cost model: the candidates are steps that were not run, so they are predicted,
with the interval of the estimate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from ridgeway.core.visibility import BIDIRECTIONAL
from ridgeway.models.config import ModelConfig
from ridgeway.roofline.cost import Cost, CostModel, Estimate
from ridgeway.roofline.hardware import machine
from ridgeway.roofline.report import RunReport
from ridgeway.roofline.shape import QueryShape

_MORE_REQUESTS = 8
_WORTH_SAYING = 1.1  # gains below a tenth are within the noise of a shared machine

# Eight billion weights, all streamed: the layers of a Llama 3 8B under a tied head, with the vocabulary that
# makes the sum round. The textbook argument about decoding counts this way.
EIGHT_BILLION = ModelConfig(
    architecture="llama",
    hidden=4096,
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    intermediate=14336,
    vocab_size=249216,
    max_positions=8192,
    rms_eps=1e-5,
    rope_theta=500000.0,
    tied_head=True,
)


@dataclass(frozen=True)
class Plain:
    """Plain autoregressive decoding of as many requests at the run's mean length: a row of each, read.

    arithmetic, memory: tokens per second if nothing else took time; memory is the wall. estimate: of a step. With more
    than one row for each request it is a denoising step, and the rates are of steps of a request.
    """

    requests: int
    cost: Cost
    arithmetic: float
    memory: float
    estimate: Estimate

    @classmethod
    def of(cls, cost_model: CostModel, requests: int, context: int, rows: int = 1) -> "Plain":
        step = QueryShape(1, cached=context) if rows == 1 else QueryShape(rows, context, rows, BIDIRECTIONAL)
        cost = cost_model.count([step] * requests)
        return cls(
            requests=requests,
            cost=cost,
            arithmetic=requests / cost_model.compute_seconds(cost),
            memory=requests / cost_model.memory_seconds(cost),
            estimate=cost_model.estimate(cost),
        )

    @property
    def tokens_per_second(self) -> tuple[float, float, float]:
        """Predicted: middle, low, high."""
        seconds, low, high = self.estimate
        return self.requests / seconds, self.requests / high, self.requests / low


@dataclass(frozen=True)
class Advice:
    """text: what to do. gain: how many times the tokens per second, predicted between low and high."""

    text: str
    gain: float
    low: float
    high: float


def mean_context(report: RunReport) -> int:
    """Cached tokens of a sequence of the run half way through its answer, on average."""
    return (report.prompt_tokens + report.tokens // 2) // report.main.requests


def _mean_step(report: RunReport) -> tuple[int, int]:
    """Cached tokens of a sequence, and rows that a step computes for it: one, unless positions are denoised.

    A canvas as long as the text is the whole text, which sees no cache.
    """
    context, counts = mean_context(report), report.reveals
    if counts is None or not counts.streams:
        return context, 1
    rows = max(1, round(counts.rows / counts.streams))
    return (context, rows) if rows < context else (0, rows)


def advice(report: RunReport, cost_model: CostModel, packed_bytes: Mapping[str, int] | None = None) -> list[Advice]:
    """What would help, most helpful first; may be empty.

    packed_bytes: bytes of each tensor as the model's file packs it, if the executor may hold it otherwise.
    """
    requests = report.main.requests
    context, rows = _mean_step(report)
    now = Plain.of(cost_model, requests, context, rows)
    found = []
    more = requests * _MORE_REQUESTS
    if report.kv_pool_fraction * _MORE_REQUESTS <= 1:
        gain = _gain(f"{more} requests at once", now, Plain.of(cost_model, more, context, rows))
        # More rows never make a step shorter, so the gain stays below the number of requests.
        found.append(replace(gain, gain=min(gain.gain, _MORE_REQUESTS), high=min(gain.high, _MORE_REQUESTS)))
    packed = None if packed_bytes is None else cost_model.holding(packed_bytes)
    if packed is not None and packed.weight_bytes < cost_model.weight_bytes:
        # That is another executor, of which nothing was observed: both are judged alike, by what executors reach.
        now = Plain.of(cost_model.holding(cost_model.held_bytes), requests, context, rows)
        then = Plain.of(packed, requests, context, rows)
        sizes = f"{then.cost.weight_bytes / 1e6:,.0f} MB instead of {now.cost.weight_bytes / 1e6:,.0f} MB"
        found.append(_gain(f"an executor that keeps the weights packed ({sizes})", now, then))
    worth = [item for item in found if item.gain >= _WORTH_SAYING]
    return sorted(worth, key=lambda item: -item.gain)


@cache
def elsewhere() -> Plain:
    """The wall of the textbook: eight billion weights in bf16 on an H100, one request, no context."""
    return Plain.of(CostModel.predicted(EIGHT_BILLION, "BF16", machine("h100")), requests=1, context=0)


def _gain(text: str, now: Plain, then: Plain) -> Advice:
    """The run now is known well by its own steps, so the interval is that of what would be."""
    today = now.tokens_per_second[0]
    middle, low, high = (rate / today for rate in then.tokens_per_second)
    return Advice(text, middle, low, high)
