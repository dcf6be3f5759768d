"""The distribution that is reported is the one that tokens are drawn from."""

import numpy as np
import pytest

from ridgeway.core.arrays import ints
from ridgeway.core.query import Batch, Entry, Query, Readout
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.core.sequence import Sequence
from ridgeway.core.traits import ModelTraits
from ridgeway.engine.sampling import selection_of
from ridgeway.kernels.reference.selection import answer
from ridgeway.methods.autoregressive import Autoregressive

DRAWS = 4000


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 1.0},
        {"temperature": 0.6, "top_k": 3},
        {"temperature": 1.3, "top_p": 0.7},
        {"temperature": 1.0, "min_p": 0.2},
        {"temperature": 1.0, "top_k": 5, "top_p": 0.8, "logit_bias": {2: 1.5}, "presence_penalty": 1.0},
        {"temperature": 0},
    ],
    ids=str,
)
def test_tokens_are_drawn_from_the_distribution_that_is_reported(params):
    """Many positions over the same logits: counts against the distribution, within five standard deviations."""
    traits = ModelTraits(vocab_size=8, max_positions=2 * DRAWS)
    sequence = Sequence("r", 0, [1, 2], SamplingParams(seed=1, max_tokens=None, **params), 1, Autoregressive(), traits)
    sequence.extend([3, 3, 5], 0)
    row = np.random.default_rng(2).standard_normal(8).astype(np.float32) * 1.5
    predicts = np.arange(5, 5 + DRAWS)
    read = Readout.of(np.zeros(DRAWS, dtype=np.int64), predicts, measures={"distribution"})
    query = Query(ints([5]), ints([4]), read=read)
    batch = Batch((Entry(query, 4, np.arange(5)),), selection_of([(sequence, query)]))
    found = answer(np.tile(row, (DRAWS, 1)), batch)[0]
    law = found.distribution[0]
    counts = np.bincount(found.tokens, minlength=8)
    assert law.sum() == pytest.approx(1)
    assert (counts[law == 0] == 0).all()
    assert (np.abs(counts - DRAWS * law) <= 5 * np.sqrt(DRAWS * law * (1 - law)) + 1e-9).all()
