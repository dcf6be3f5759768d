"""The test that a lossless method has to pass: token for token the text of plain autoregressive decoding."""

from collections.abc import Sequence

import numpy as np

from ridgeway.core.method import DecodingMethod
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.llm import LLM
from ridgeway.methods.autoregressive import Autoregressive
from ridgeway.testing.toy import toy_llm

PARAMS = (
    SamplingParams(temperature=0.0, max_tokens=24),
    SamplingParams(temperature=0.7, top_p=0.9, seed=1, max_tokens=24),
    SamplingParams(temperature=1.0, top_k=8, seed=2, max_tokens=24),
    SamplingParams(temperature=1.0, seed=3, max_tokens=17, presence_penalty=0.5, repetition_penalty=1.3),
    SamplingParams(temperature=0.9, min_p=0.05, seed=4, max_tokens=24, min_tokens=9, stop_token_ids=(5, 6, 7)),
)


def check_lossless(
    method: DecodingMethod | type[DecodingMethod] | str,
    llm: LLM | None = None,
    prompts: Sequence[list[int]] | None = None,
    params: Sequence[SamplingParams] = PARAMS,
) -> None:
    """Raise AssertionError at the first token that differs from plain decoding.

    Every prompt is decoded with every element of `params`: alone, in one batch with plain decoding of the same
    requests, and once more with few K/V slots so that sequences are preempted. llm: by default a toy model's.
    """
    llm = llm or toy_llm()
    prompts = _prompts(llm.traits.vocab_size) if prompts is None else prompts
    jobs = [(prompt, one) for prompt in prompts for one in params]
    asked = [prompt for prompt, _ in jobs]
    wanted_params = [one for _, one in jobs]
    plain = [llm.generate([p], [one], method=Autoregressive())[0].outputs[0] for p, one in jobs]

    for place, (prompt, one) in enumerate(jobs):
        found = llm.generate([prompt], [one], method=method)[0]
        _compare(plain[place].token_ids, found.outputs[0].token_ids, f"alone, {one}", found.error)

    mixed = llm.generate(
        asked + asked,
        wanted_params + wanted_params,
        method=[method] * len(jobs) + [Autoregressive()] * len(jobs),
    )
    for place, found in enumerate(mixed):
        expected = plain[place % len(jobs)].token_ids
        _compare(
            expected,
            found.outputs[0].token_ids,
            f"in a mixed batch, {wanted_params[place % len(jobs)]}",
            found.error,
        )

    longest = max(len(p) + (one.max_tokens or 0) for p, one in jobs)
    if 2 * longest + 64 < llm.engine.capacity:
        tight = LLM(llm.model, executor=llm.executor.name, machine=llm.machine, slots=2 * longest + 64)
        for name, model in llm.draft_models.items():
            tight.add_draft_model(name, model)
        if llm.draft_head is not None:
            tight.add_draft_head(llm.draft_head)
        squeezed = tight.generate(asked, wanted_params, method=method)
        for place, found in enumerate(squeezed):
            _compare(
                plain[place].token_ids,
                found.outputs[0].token_ids,
                f"with few K/V pages, {wanted_params[place]}",
                found.error,
            )


def _prompts(vocabulary: int) -> list[list[int]]:
    """Short, long and repetitive prompts."""
    generator = np.random.default_rng(7)
    random = [[int(t) for t in generator.integers(0, vocabulary, length)] for length in (1, 6, 37)]
    phrase = [int(t) for t in generator.integers(0, vocabulary, 5)]
    return [*random, phrase * 4]


def _compare(expected: list[int], found: list[int], where: str, error: str | None) -> None:
    assert error is None, f"{where}: the request failed: {error}"
    if expected == found:
        return
    place = next(
        (i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b),
        min(len(expected), len(found)),
    )
    raise AssertionError(
        f"not lossless {where}: token {place} of the answer differs: "
        f"plain decoding gives {expected[place : place + 8]}, the method {found[place : place + 8]}"
    )
