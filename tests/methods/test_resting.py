"""Where nothing is worth drafting the controller rests: ever longer, and several sequences wake together."""

from itertools import count, pairwise

import pytest

from ridgeway.core.sampling_params import SamplingParams
from ridgeway.engine.request import Request
from ridgeway.methods.auto import Auto, Controller
from ridgeway.methods.trie import Guesser, Trie
from ridgeway.testing import toy_llm


class Silent(Guesser):
    """Has no guess."""

    def guess(self, sequence, budget):
        return Trie()

    def observe(self, sequence, query, answer, commit):
        pass


def decided(delays, thinking=1.0, tokens=60):
    """At which steps the controller decided, and for how many sequences, which join after so many steps.

    thinking: seconds of guessing, by the controller's clock.
    """
    engine = toy_llm().engine
    ticks = count()
    method = Auto()
    controller = method.__dict__["drafter"] = Controller({"silent": Silent()}, clock=lambda: thinking * next(ticks))
    steps, propose = [], controller.propose

    def noted(sequences, depths, streams):
        steps.append((number, len(sequences)))
        return propose(sequences, depths, streams)

    controller.propose = noted
    params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
    for number in range(tokens + max(delays)):
        for sequence, delay in enumerate(delays):
            if delay == number:
                engine.add(Request(f"{sequence}", [1, 2, 3 + sequence], params, method))
        engine.step()
    return steps


def test_a_sequence_without_guesses_is_asked_ever_more_rarely():
    steps = [step for step, _ in decided([0])]
    waited = [after - before for before, after in pairwise(steps)]
    assert waited == [1, 1, 3, 7, 15, 16]


def test_in_a_full_batch_all_rest_long_at_once():
    assert [step for step, number in decided([0] * 16)] == [0, 1, 17, 33, 49]


def test_a_sequence_that_joins_many_that_rest_does_as_well_but_not_beside_a_single_one():
    assert (31, 1) in decided([0, 30])
    joined = [step for step, number in decided([0] * 16 + [25]) if number % 16]
    assert joined[:2] == [35, 49]


def test_where_guessing_takes_next_to_nothing_it_does_not_rest():
    assert len(decided([0], thinking=1e-12)) > 50


@pytest.mark.parametrize("delays", [[0, 0, 0, 0], [0, 0, 3, 9], [0, 5, 10, 20]])
def test_sequences_of_a_batch_soon_wake_together(delays):
    late = [number for step, number in decided(delays, tokens=130) if 45 <= step < 125]
    assert late == [len(delays)] * 5


def test_a_hiccup_while_guessing_does_not_make_it_rest_for_long():
    engine = toy_llm().engine
    method = Auto()
    times = iter([0.0, 1e-12] * 10 + [0.0, 1e6] + [0.0, 1e-12] * 1000)
    controller = method.__dict__["drafter"] = Controller({"silent": Silent()}, clock=lambda: next(times))
    params = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)
    engine.add(Request("one", [1, 2, 3], params, method))
    for _ in engine.run():
        pass
    assert controller.thinking.seconds < 1e-11
