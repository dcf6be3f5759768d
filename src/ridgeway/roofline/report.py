"""What was measured, step by step and for a whole run, beside what the cost model counted.

Only the seconds of weight streams count, so that rates hold no idle time: waiting for a next request,
printing, a tokenizer. A step belongs to the prefill until the first token is there (revealed, where an answer
is denoised), or if a query of it was still working through a prompt; everything else is decode, and the roof
fraction is that of decode.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ridgeway.core.outputs import DraftCounts, RevealCounts
from ridgeway.roofline.cost import Bound, Cost, CostModel, Estimate


@dataclass(frozen=True)
class StepReport:
    """One weight stream (or several that a step needed), or the work of a draft head, which is none (`cost.streams` 0).

    rows, reads, requests: how many it had. prefill_rows: rows that predict tokens that the prompt holds
    already. committed: tokens that became final; revealed: that became known, which denoising
    does before they are final. pool_fraction: share of the K/V pool that sequences held. seconds: taken.
    floor: least seconds possible; estimate:
    expected beforehand.
    """

    rows: int
    reads: int
    requests: int
    prefill_rows: int
    committed: int
    seconds: float
    cost: Cost
    floor: float
    estimate: Estimate
    bound: Bound
    pool_fraction: float = 0.0
    revealed: int = 0

    @classmethod
    def of(
        cls,
        cost_model: CostModel,
        cost: Cost,
        *,
        rows: int,
        reads: int,
        requests: int,
        prefill_rows: int,
        committed: int,
        seconds: float,
        pool_fraction: float = 0.0,
        revealed: int = 0,
    ) -> Self:
        """A step of that cost, judged by the cost model as it is now; let it `observe` it afterwards."""
        return cls(
            rows=rows,
            reads=reads,
            requests=requests,
            prefill_rows=prefill_rows,
            committed=committed,
            seconds=seconds,
            cost=cost,
            floor=cost_model.floor(cost),
            estimate=cost_model.estimate(cost),
            bound=cost_model.bound(cost),
            pool_fraction=pool_fraction,
            revealed=revealed,
        )

    @classmethod
    def of_drafts(cls, cost_model: CostModel, cost: Cost, requests: int, seconds: float) -> Self:
        """Work of a drafter that is no weight stream of the model. It is small, and nothing is learned from it."""
        floor = cost_model.floor(cost)
        estimate = Estimate(seconds, seconds, seconds)
        bound = cost_model.bound(cost)
        return cls(0, 0, requests, 0, 0, seconds, cost, min(floor, seconds), estimate, bound)

    @property
    def roof_fraction(self) -> float:
        """Time the roof allows / time taken."""
        return self.floor / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class Phase:
    """Steps taken together: prefill, decode, or a whole run."""

    steps: tuple[StepReport, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)

    @property
    def tokens(self) -> int:
        """Tokens that became final in these steps."""
        return sum(step.committed for step in self.steps)

    @property
    def cost(self) -> Cost:
        return sum((step.cost for step in self.steps), Cost())

    @property
    def streams(self) -> int:
        return self.cost.streams

    @property
    def floor(self) -> float:
        """Least seconds: of each step its own floor."""
        return sum(step.floor for step in self.steps)

    @property
    def estimate(self) -> Estimate:
        """Seconds expected, each step judged before it ran; errors are taken to go together."""
        return Estimate(
            sum(step.estimate.seconds for step in self.steps),
            sum(step.estimate.low for step in self.steps),
            sum(step.estimate.high for step in self.steps),
        )

    @property
    def roof_fraction(self) -> float:
        """Time the roof allows / time taken."""
        return self.floor / self.seconds if self.seconds > 0 else 0.0

    @property
    def bound(self) -> Bound:
        """What bounds most of the time."""
        taken: dict[Bound, float] = {"memory": 0.0, "compute": 0.0, "overhead": 0.0}
        for step in self.steps:
            taken[step.bound] += step.seconds
        return max(taken, key=lambda name: taken[name])

    @property
    def bytes_per_second(self) -> float:
        return self.cost.bytes / self.seconds if self.seconds > 0 else 0.0

    @property
    def flops_per_second(self) -> float:
        return self.cost.flops / self.seconds if self.seconds > 0 else 0.0

    @property
    def requests(self) -> int:
        """How many requests shared a step, on average and at least 1."""
        return max(1, round(sum(step.requests for step in self.steps) / max(1, len(self.steps))))


@dataclass(frozen=True)
class RunReport:
    """A run: what was asked, what came out, and all its steps.

    model, method: names for people. lossless: whether the method yields the tokens of plain decoding.
    prompt_tokens: how many. token_ids: of the answer (of all answers, if there are several).
    kv_pool_fraction: largest share of the K/V pool that was in use in a step. price: dollars per hour, if known. notes:
    lines that a method adds to the card. drafts: what became of the drafts, of a method that drafts; reveals: what
    became of the masks, of methods that denoise, all answers together; explanation: what the method chose and why.
    """

    model: str
    method: str
    machine: str
    ridge: float
    prefill: Phase
    decode: Phase
    first_token_seconds: float
    prompt_tokens: int
    token_ids: tuple[int, ...]
    text: str = ""
    kv_pool_fraction: float = 0.0
    lossless: bool = True
    price: float | None = None
    notes: tuple[str, ...] = ()
    drafts: DraftCounts | None = None
    reveals: RevealCounts | None = None
    explanation: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        steps: Iterable[StepReport],
        cost_model: CostModel,
        *,
        model: str,
        method: str,
        prompt_tokens: int,
        token_ids: Sequence[int],
        text: str = "",
        kv_pool_fraction: float | None = None,
        lossless: bool = True,
        price: float | None = None,
        notes: Sequence[str] = (),
        drafts: DraftCounts | None = None,
        reveals: RevealCounts | None = None,
        explanation: Sequence[str] = (),
    ) -> Self:
        """The run that consists of these steps, in order."""
        steps = tuple(steps)
        first = next((n + 1 for n, step in enumerate(steps) if step.committed), len(steps))
        begun = next((n + 1 for n, step in enumerate(steps) if step.committed or step.revealed), len(steps))
        later = steps[begun:]
        prefill = Phase((*steps[:begun], *(step for step in later if step.prefill_rows)))
        decode = Phase(tuple(step for step in later if not step.prefill_rows))
        return cls(
            model=model,
            method=method,
            machine=cost_model.machine.name,
            ridge=cost_model.ridge((decode if decode.steps else prefill).cost),
            prefill=prefill,
            decode=decode,
            first_token_seconds=Phase(steps[:first]).seconds,
            prompt_tokens=prompt_tokens,
            token_ids=tuple(int(token) for token in token_ids),
            text=text,
            kv_pool_fraction=(
                max((step.pool_fraction for step in steps), default=0.0)
                if kv_pool_fraction is None
                else kv_pool_fraction
            ),
            lossless=lossless,
            price=price,
            notes=tuple(notes),
            drafts=drafts,
            reveals=reveals,
            explanation=tuple(explanation),
        )

    @property
    def whole(self) -> Phase:
        return Phase(self.prefill.steps + self.decode.steps)

    @property
    def main(self) -> Phase:
        """What the run is judged by: decode, or the prefill if one step was enough."""
        return self.decode if self.decode.steps else self.prefill

    @property
    def tokens(self) -> int:
        return len(self.token_ids)

    @property
    def weight_streams(self) -> int:
        return self.whole.streams

    @property
    def tokens_per_forward(self) -> float:
        """Tokens of the answer / weight streams, those of the prefill and of drafters included."""
        return self.tokens / self.weight_streams if self.weight_streams else 0.0

    @property
    def decode_tokens_per_second(self) -> float:
        """Tokens after those of the prefill / seconds of decode; 0 if there was no decode step."""
        later = max(0, self.tokens - self.prefill.tokens)
        return later / self.decode.seconds if self.decode.seconds > 0 else 0.0

    @property
    def dollars_per_million_tokens(self) -> float | None:
        """Price of a million tokens at this run's pace, its prefill included; None without a price."""
        if self.price is None or not self.tokens:
            return None
        return self.price / 3600 * self.whole.seconds / self.tokens * 1e6

    def as_json(self) -> dict[str, Any]:
        """Plain data, for `--json`.

        Bytes, FLOPs, intensity and achieved rates are of the whole run, with those of decode apart;
        roof_fraction, bound and ridge are of decode (of the prefill if one step was enough).
        """
        cost = self.whole.cost
        return {
            "model": self.model,
            "method": self.method,
            "machine": self.machine,
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            "token_ids": list(self.token_ids),
            "text": self.text,
            "weight_streams": self.weight_streams,
            "tokens_per_forward": self.tokens_per_forward,
            "seconds": {
                "first_token": self.first_token_seconds,
                "prefill": self.prefill.seconds,
                "decode": self.decode.seconds,
            },
            "decode_tokens_per_second": self.decode_tokens_per_second,
            "bytes": _bytes(cost),
            "flops": cost.flops,
            "intensity": cost.intensity,
            "ridge": self.ridge,
            "achieved": _achieved(self.whole),
            "roof_fraction": self.main.roof_fraction,
            "bound": self.main.bound,
            "kv_pool_fraction": self.kv_pool_fraction,
            "decode": {
                "tokens": self.decode.tokens,
                "weight_streams": self.decode.streams,
                "bytes": _bytes(self.decode.cost),
                "flops": self.decode.cost.flops,
                "intensity": self.decode.cost.intensity,
                "achieved": _achieved(self.decode),
                "floor_seconds": self.decode.floor,
                "estimated_seconds": self.decode.estimate._asdict(),
            },
            "drafts": _drafts(self.drafts),
            "reveals": _reveals(self.reveals),
            "explanation": list(self.explanation),
            "dollars_per_million_tokens": self.dollars_per_million_tokens,
        }


def _drafts(counts: DraftCounts | None) -> dict[str, Any] | None:
    if counts is None:
        return None
    return {
        "steps": counts.steps,
        "drafted": counts.drafted,
        "reached": counts.reached,
        "accepted": counts.accepted,
        "acceptance": counts.acceptance,
        "label": counts.label,
    }


def _reveals(counts: RevealCounts | None) -> dict[str, Any] | None:
    if counts is None:
        return None
    return {
        "streams": counts.streams,
        "rows": counts.rows,
        "masked": counts.masked,
        "revealed": counts.revealed,
        "revealed_share": counts.revealed_share,
        "in_vain": counts.in_vain,
        "saved_streams": counts.left,
        "saved_streams_exact": counts.exact,
        "approximate": counts.approximate,
    }


def _bytes(cost: Cost) -> dict[str, int]:
    return {"weights": cost.weight_bytes, "kv": cost.kv_bytes, "activations": cost.activation_bytes}


def _achieved(phase: Phase) -> dict[str, float]:
    return {"bytes_per_second": phase.bytes_per_second, "flops_per_second": phase.flops_per_second}
