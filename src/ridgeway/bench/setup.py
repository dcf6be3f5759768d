"""Everything that a bench needs, made ready from what the command line names; what cannot work is told here."""

from collections.abc import Sequence
from typing import Any

from ridgeway.bench.contenders import Contender, OwnMethod
from ridgeway.bench.peers import peer_named, thread_counts
from ridgeway.bench.runs import Plan
from ridgeway.bench.workload import PromptLine, Workload, encoded
from ridgeway.core.errors import RequestError
from ridgeway.executors.registry import usable_cores
from ridgeway.llm import LLM
from ridgeway.models.loading import load_model
from ridgeway.models.model import Model

_SPARE_SLOTS = 256  # of each sequence, for drafts and whole pages
_MAX_ROWS, _MAX_SEQUENCES = 512, 64


def load_workload(
    model_name: str, source: str, lines: Sequence[PromptLine], max_tokens: int, raw: bool
) -> tuple[Model, Workload]:
    """The model, and the prompts in its tokens. Raises RequestError if a prompt and its answer exceed its context."""
    model = load_model(model_name)
    if model.tokenizer is None:
        raise RequestError(f"{model.name} has no tokenizer, and a bench is given text")
    workload = encoded(source, lines, model.tokenizer, raw)
    longest = workload.longest + max_tokens
    if longest > model.config.max_positions:
        raise RequestError(
            f"{source}: a prompt of {workload.longest} tokens and {max_tokens} new ones exceed the "
            f"{model.config.max_positions} tokens that {model.name} takes; shorten it or lower --max-tokens"
        )
    return model, workload


def bench_llm(model: Model, plan: Plan, **loading: Any) -> LLM:
    """An `LLM` without prefix cache and with room for the largest batch, all of which is decoded at once.

    loading: executor, threads and how weights and K/V are stored; see `LLM`.
    """
    largest = max(plan.batches)
    return LLM(
        model,
        **loading,
        slots=largest * (plan.workload.longest + plan.max_tokens + _SPARE_SLOTS),
        max_rows=max(_MAX_ROWS, largest),
        max_sequences=max(_MAX_SEQUENCES, largest),
        prefix_caching=False,
    )


def contenders_of(
    llm: LLM, plan: Plan, specs: Sequence[str], peers: Sequence[str], threads: int | None
) -> list[Contender]:
    """Methods and peers, in the table's order. Methods that cannot run the model are refused: MethodError."""
    own = [OwnMethod(llm, spec) for spec in specs]
    cores = usable_cores()
    others = [
        peer_named(
            name,
            llm.model.source,
            context=plan.workload.longest + plan.max_tokens,
            threads=thread_counts(min(threads or cores, cores)),
            batches=plan.batches,
        )
        for name in peers
    ]
    return [*own, *others]
