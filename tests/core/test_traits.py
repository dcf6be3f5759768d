import itertools

import pytest

from ridgeway.core.traits import LogitShift, ModelTraits
from ridgeway.core.visibility import BIDIRECTIONAL, CAUSAL, Block

KINDS = ("causal", "bidirectional", "block", "causal-block")


def traits(attention="causal", shift=LogitShift.NEXT, mask_id=None, block_size=4):
    return ModelTraits(100, 64, attention=attention, logit_shift=shift, mask_id=mask_id, block_size=block_size)


@pytest.mark.parametrize(("attention", "shift"), [*itertools.product(KINDS, LogitShift)])
def test_a_mask_id_changes_no_other_axis(attention, shift):
    with_mask, without = traits(attention, shift, 7), traits(attention, shift)
    assert with_mask.visibility == without.visibility
    assert with_mask.autoregressive == without.autoregressive
    assert with_mask.mask_id == 7


def test_committed_tokens_see_as_the_model_was_trained():
    seen = [traits(attention).visibility for attention in KINDS]
    assert seen == [CAUSAL, BIDIRECTIONAL, Block(4), CAUSAL]


def test_a_model_whose_finished_tokens_see_causally_can_be_read_autoregressively():
    assert [traits(attention).autoregressive for attention in KINDS] == [True, False, False, True]
    assert not any(traits(attention, LogitShift.IN_PLACE).autoregressive for attention in KINDS)


def test_words_tell_the_axes_apart():
    assert len({traits(attention, shift).words for attention, shift in itertools.product(KINDS, LogitShift)}) == 8


@pytest.mark.parametrize("wrong", [{"mask_id": 100}, {"block_size": 0}, {"attention": "block", "block_size": None}])
def test_traits_that_contradict_themselves_cannot_be_made(wrong):
    with pytest.raises(AssertionError):
        traits(**wrong)
