"""Truncated draws of the compiled selector: the oracle's tokens, however flat a row and whatever truncates it."""

import numpy as np
import pytest

from ridgeway.core.query import Selection
from ridgeway.executors.cpu import CpuExecutor
from ridgeway.kernels.reference.selection import choose
from ridgeway.testing import toy_model

VOCABULARY, ROWS = 20_011, 6


@pytest.fixture(scope="module")
def selector():
    return CpuExecutor(toy_model(), 2)._selector


@pytest.mark.parametrize("seed", range(12))
def test_truncated_draws_are_the_oracles(selector, seed):
    generator = np.random.default_rng(seed)
    scale = generator.choice([0.3, 1.0, 3.0, 6.0], size=(ROWS, 1))
    logits = (generator.standard_normal((ROWS, VOCABULARY)) * scale).astype(np.float32)
    logits[:, ::7] = np.round(logits[:, ::7])  # some are equal
    selection = Selection(
        sampled=np.ones(ROWS, dtype=bool),
        temperature=generator.choice([0.3, 0.7, 1.0, 1.5], size=ROWS),
        top_k=generator.choice([0, 0, 1, 5, 40, 3000], size=ROWS),
        top_p=generator.choice([1.0, 0.5, 0.9, 0.95, 0.99], size=ROWS),
        min_p=generator.choice([0.0, 0.0, 0.05, 1e-7], size=ROWS),
        seed=generator.integers(0, 2**60, ROWS).astype(np.uint64),
        sample=np.zeros(ROWS, dtype=np.int64),
        position=generator.integers(0, 1000, ROWS),
        adjustments={},
    )
    best = logits.argmax(axis=1)
    found = selector._draw(logits, selection, np.arange(ROWS), best.copy(), logits.max(axis=1).astype(np.float64))
    assert found.tolist() == choose(logits, selection).tolist()
