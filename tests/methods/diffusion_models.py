"""Toy models of every kind of attention that is denoised, and denoising spelt out without a cache."""

import numpy as np

from ridgeway.core.arrays import ints
from ridgeway.core.query import Batch, Entry, Query, Readout
from ridgeway.core.traits import LogitShift
from ridgeway.core.visibility import Tree
from ridgeway.engine.sampling import plain_selection
from ridgeway.testing import toy_config, toy_model

MASK = 60
IN_PLACE, NEXT = LogitShift.IN_PLACE, LogitShift.NEXT


def model_of(attention, shift=IN_PLACE, block_size=4, **changes):
    """A toy that was trained, if it had been, with that attention. `causal-block`: shift is that of its mask rows."""
    shifts = {"mask_shift": shift} if attention == "causal-block" else {"logit_shift": shift}
    block = None if attention == "bidirectional" else block_size
    config = toy_config(attention=attention, block_size=block, mask_id=MASK, tied_head=False, **shifts, **changes)
    return toy_model(config, sharpness=2.0)


def uncached(llm, tokens, start, stop):
    """Logits (stop - start, vocabulary) of the rows of a canvas, computed at once with all tokens before it."""
    traits, positions = llm.traits, np.arange(len(tokens))
    if traits.attention == "causal-block":
        sees = np.tri(len(tokens), dtype=bool)
        sees[start:stop, start:stop] = True
    else:
        sees = traits.visibility.matrix(positions)
    read = Readout.of(np.arange(start, stop), np.arange(start, stop), sampled=False, measures={"logits"})
    query = Query(ints(tokens), positions, Tree(sees), read)
    entry = Entry(query, 0, np.arange(len(tokens)))
    return llm.executor.forward(Batch((entry,), plain_selection(stop - start))).answers[0].logits
