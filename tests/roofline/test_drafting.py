"""Drafts: good, too long, too short, too weak; and the best length shrinks as the batch uses up the idle arithmetic."""

import pytest

from ridgeway.models.known import find_outline
from ridgeway.roofline.decoding import Speculative
from ridgeway.roofline.drafting import drafting, draftings
from ridgeway.roofline.hardware import machine
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.workload import Workload

LLAMA = find_outline("llama-3.1-8b")
PREDICTOR = Predictor(LLAMA.name, LLAMA.config, machine("h100"), "bf16")


def judged(method: Speculative, batch: int = 1):
    return drafting(PREDICTOR, Workload(200, 100, batch), method)


@pytest.mark.parametrize(
    ("method", "verdict"),
    [
        (Speculative(5, 0.8, 0.05), "good"),
        (Speculative(16, 0.5, 0.1), "too long"),
        (Speculative(1, 0.95, 0.02), "too short"),
        (Speculative(4, 0.1, 0.5), "too weak"),
    ],
)
def test_a_draft_is_judged_by_the_best_one_of_its_kind(method, verdict):
    assert judged(method).verdict == verdict


def test_the_best_length_falls_as_the_batch_grows():
    lengths = [judged(Speculative(4, 0.7, 0.05), batch).best_length for batch in (1, 64, 512)]
    assert lengths[0] > lengths[1] >= lengths[2]


def test_a_weak_draft_is_slower_than_none():
    found = judged(Speculative(4, 0.1, 0.5))
    assert found.speedup < 1
    assert (found.best_length, found.best_speedup) == (0, 1.0)


def test_all_lengths_are_judged_by_the_same_best_one():
    found = draftings(PREDICTOR, Workload(200, 100), Speculative(4, 0.7, 0.05))
    assert [judged(Speculative(length, 0.7, 0.05)) for length in range(1, 17)] == found
    assert max(item.speedup for item in found) == found[0].best_speedup
