"""When the controller asks the draft head: where that adds more tokens per second than it takes."""

from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest

from ridgeway.core.drafting import GUESSES, Guessed
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.methods.acceptance import Acceptance
from ridgeway.methods.asking import Asking
from ridgeway.methods.auto import Auto, Controller, Known
from ridgeway.methods.depth import Choice
from ridgeway.methods.head_drafter import HeadDrafter, tree_of
from ridgeway.methods.matches import TextDrafter
from ridgeway.testing import check_lossless, toy_config, toy_draft_head, toy_llm, toy_model

DRAWN = SamplingParams(temperature=0.8, seed=5, max_tokens=40)


def llm_with_head(**options):
    model = toy_model(toy_config(layers=3), sharpness=2.5)
    llm = toy_llm(model, **options)
    llm.add_draft_head(toy_draft_head(model, layer=1))
    # Prices are the data sheet's, however busy this machine is.
    llm.engine.prices.observe_host = lambda seconds, drafting, reading: None
    llm.engine.prices.observe = lambda listed, drafted, seconds: None
    llm.cost_model.observe = lambda cost, seconds: None
    return llm


class Knowing:
    """An unroller that knows the answers, or the opposite of them. calls: sequences of each call."""

    held_bytes, seen_bytes, operations = 1000, 100, 1000

    def __init__(self, answers, right=True):
        self.answers, self.right, self.calls = answers, right, []

    def unroll(self, asked):
        self.calls.append(len(asked.tokens))
        tokens = np.zeros((len(asked.tokens), asked.depth, GUESSES), dtype=np.int64)
        for row, position in enumerate(asked.positions):
            said = self.answers[position : position + asked.depth]
            tokens[row, : len(said), 0] = said if self.right else [(token + 1) % 61 for token in said]
        chances = np.zeros(tokens.shape)
        chances[:, :, 0] = 0.9
        return Guessed(tokens, chances, asked.depth)


def answered(llm, right=True):
    """A generation by `auto` whose head is `Knowing`; its output, unroller and controller."""
    prompt = [3, 1, 4, 1, 5]
    plain = llm.generate([prompt], DRAWN, method="ar")[0]
    llm.engine.unroller = Knowing([*prompt, *plain.outputs[0].token_ids], right)
    method = Auto(drafters="text+head")
    ticks = deque(range(10**6))
    method.__dict__["drafter"] = Controller(
        {"text": TextDrafter(16)}, clock=lambda: 1e-9 * ticks.popleft(), head=HeadDrafter(3)
    )
    output = llm.generate([prompt], DRAWN, method=method)[0]
    assert output.outputs[0].token_ids == plain.outputs[0].token_ids
    return output, llm.engine.unroller, method.drafter


def test_a_head_that_is_right_is_asked_at_every_step_and_saves_streams():
    output, unroller, controller = answered(llm_with_head())
    assert output.metrics.weight_streams < 20  # of 40 tokens
    assert len(unroller.calls) == pytest.approx(output.metrics.weight_streams, abs=3)
    assert controller.asking.added(0.0) > Asking().added(0.0)
    assert "the draft head" in output.outputs[0].explanation[-1]


def test_a_head_that_is_always_wrong_is_soon_left_alone():
    llm = llm_with_head()
    answered(llm, right=False)  # the counts of one answer
    output, _, controller = answered(llm, right=False)
    before = Asking().added(0.0)
    assert controller.asking.added(0.0) < before
    assert output.metrics.weight_streams <= 40


def test_what_asking_adds_is_counted_by_how_sure_the_free_guesses_are():
    asking = Asking()
    for _ in range(400):
        asking.brought(0.0, 3, 0.0)
        asking.brought(0.9, 2, 2.0)
    assert asking.added(0.0) > 2
    assert asking.added(0.9) < 0.05
    assert asking.added(0.5) == Asking().added(0.5)


def test_what_asking_takes_is_measured_by_the_number_of_sequences():
    asking = Asking()
    assert asking.seconds(1, step=1.0) < 0.5
    for _ in range(50):
        asking.took(1, 2e-3)
        asking.took(8, 4e-3)
    assert asking.seconds(1, 1.0) == pytest.approx(2e-3)
    assert asking.seconds(8, 1.0) == pytest.approx(4e-3)
    assert asking.seconds(16, 1.0) == pytest.approx(8e-3)


def test_how_many_rows_its_guesses_take_is_learned():
    asking = Asking()
    assert asking.rows(4) == 10
    for _ in range(200):
        asking.drafted(2, 8)
    assert asking.rows(1) == 4
    for _ in range(200):
        asking.drafted(1, -2)
    assert asking.rows(4) == 0


@pytest.mark.parametrize(("certain", "added", "asked"), [(1, 0.19, []), (1, 0.21, [0]), (2, 0.58, []), (2, 0.61, [0])])
def test_asking_must_promise_what_drafting_must(certain, added, asked):
    """A step of one second; the head takes 0.2 seconds and no rows: one sequence alone must gain 1.2 - 1 tokens, two
    1.08 * 1.2 * 2 - 2.
    """
    head = SimpleNamespace(ready=lambda sequence: True)
    controller = Controller({"text": TextDrafter(16)}, head=head)
    controller.asking = SimpleNamespace(
        added=lambda surest: added, rows=lambda sequences: 0, seconds=lambda sequences, step: 0.2
    )
    known, choice = Known(Acceptance(), [0, 1], 0), Choice(0, 1.0, 1.0, 0.1, 0.0, certain)
    streams = SimpleNamespace(price=lambda drafted: 1.0)
    assert controller._worth_asking([None], [known], [], choice, streams) == asked


def test_a_dear_head_is_not_asked():
    llm = llm_with_head()
    prompt = [3, 1, 4, 1, 5]
    llm.engine.unroller = Knowing([0] * 100)
    method = Auto(drafters="text+head")
    for _ in range(2):
        method.drafter.asking.took(1, 10.0)
    llm.generate([prompt], DRAWN, method=method)
    assert not llm.engine.unroller.calls


def test_without_a_head_auto_says_that_there_is_none():
    output = toy_llm().generate([[1, 2, 3]], DRAWN, method="auto:drafters=head")[0]
    assert output.error is None
    assert output.outputs[0].explanation[-1] in (
        "off: this model has no draft head",
        "plain decoding so far: the answer was too short to draft",
    )


def test_guesses_are_a_chain_with_runners_up():
    tokens = np.array([[[5, 6], [7, 8], [9, 1]]])
    chances = np.array([[[0.5, 0.25], [0.5, 0.1], [0.0, 0.0]]])
    tree = tree_of(Guessed(tokens, chances, 2), 0).tree()
    assert tree.tokens.tolist() == [5, 6, 7, 8]
    assert tree.parent.tolist() == [-1, -1, 0, 0]
    assert tree.survival.tolist() == pytest.approx([0.5, 0.25, 0.25, 0.05])


@pytest.mark.parametrize("method", ["draft-head", "draft-head:depth=5,nodes=9", "auto", "auto:drafters=head"])
def test_no_head_can_change_the_text(method):
    check_lossless(method, llm=llm_with_head())


def test_the_state_of_the_newest_token_is_known_from_the_second_step_on():
    drafter = HeadDrafter(2)
    llm = llm_with_head()
    seen = []
    ready = drafter.ready
    drafter.ready = lambda sequence: seen.append(ready(sequence)) or seen[-1]
    method = Auto(drafters="text+head")
    method.__dict__["drafter"] = Controller({"text": TextDrafter(16)}, head=drafter)
    llm.generate([[1, 2, 3], [4, 5, 6]], [DRAWN, DRAWN], method=method)
    assert seen[:2] == [False, False]
    assert len(seen) > 10
    assert all(seen[2:])


def test_only_steps_in_which_somebody_might_draft_tell_what_they_take_the_host():
    llm, told = toy_llm(), []
    llm.engine.prices.observe_host = lambda *seconds: told.append(seconds)
    params = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    llm.generate([[1, 2, 3]], [params], method="ar")
    assert not told
    llm.generate([[1, 2, 3]], [params], method="ngram")
    assert told
