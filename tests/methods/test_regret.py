"""The controller's regret: recorded acceptance and one price list, so that every policy is priced exactly.

A drafter that errs at recorded places is replayed with every fixed depth and with the controller. The controller knows
nothing beforehand but the prices.
"""

import numpy as np
import pytest

from ridgeway.methods.auto import Auto, Controller
from ridgeway.methods.depth import choose, least_gain
from ridgeway.methods.trie import Guesser, Trie
from ridgeway.methods.verify import Verify
from ridgeway.testing.replay import replay

ROWS = [1, 2, 4, 8, 16, 32]
DEPTHS = (0, 1, 2, 3, 5, 8)


def memory_bound(rows):
    """A few rows are nearly free, as measured on a small machine: 1, 1.07, 1.05, 1.6, 3.4 times one row's."""
    return 0.008 * float(np.interp(rows, ROWS, [1, 1.07, 1.07, 1.6, 3.4, 6.8]))


def compute_bound(rows):
    return 0.008 * rows


class Recorded(Guesser):
    """Guesses the text itself, wrong where the record says so; it states a chance that may be far off."""

    def __init__(self, acceptance, stated=0.6):
        self.acceptance, self.stated = acceptance, stated
        self.texts = {}

    def record(self, lengths, seed=0):
        """(prompt, answer) pairs; acceptance is a number for each text, or one for all."""
        generator = np.random.default_rng(seed)
        shares = np.broadcast_to(self.acceptance, len(lengths))
        pairs = []
        for number, (length, share) in enumerate(zip(lengths, shares, strict=True)):
            answer = generator.integers(1000, 2000, length).tolist()
            right = generator.random(length) < share
            self.texts[number] = (answer, right)
            pairs.append(([number], answer))
        return pairs

    def guess(self, sequence, budget):
        answer, right = self.texts[sequence.tokens[0]]
        trie, node, survival = Trie(), -1, 1.0
        for place in range(sequence.generated, min(len(answer), sequence.generated + budget)):
            survival *= self.stated
            node = trie.child(node, answer[place] if right[place] else 0, survival)
        return trie


class Watched(Auto):
    """The controller over one recorded drafter; thinking takes no time, so that the replay is the same everywhere."""

    def use(self, guesser):
        self.__dict__["drafter"] = Controller({"recorded": guesser}, clock=lambda: 0.0)
        return self


def rates(acceptance, price, lengths, stated=0.6, together=1, **options):
    """Tokens per second of the controller, and of the best fixed depth with that depth."""
    guesser = Recorded(acceptance, stated)
    texts = guesser.record(lengths)
    fixed = {
        depth: replay(Verify(guesser, depth), texts, price, together=together, **options).tokens_per_second
        for depth in DEPTHS
    }
    auto = replay(Watched().use(guesser), texts, price, together=together, **options).tokens_per_second
    best = max(fixed, key=fixed.get)
    return auto, fixed[best], best


SLOW = pytest.mark.slow


@pytest.mark.parametrize("price", [memory_bound, pytest.param(compute_bound, marks=SLOW)])
@pytest.mark.parametrize("acceptance", [0.02, pytest.param(0.3, marks=SLOW), 0.6, pytest.param(0.8, marks=SLOW), 0.95])
def test_regret_is_under_two_percent_of_the_best_fixed_depth(acceptance, price):
    auto, best, depth = rates(acceptance, price, [300] * 6)
    assert auto > 0.98 * best, (auto / best, depth)


@pytest.mark.parametrize("stated", [0.05, pytest.param(0.95, marks=SLOW)])
def test_a_drafter_that_misjudges_itself_is_found_out(stated):
    auto, best, depth = rates(0.7, memory_bound, [400] * 8, stated)
    assert auto > 0.98 * best, (auto / best, depth)


@pytest.mark.parametrize("shares", [(0.9, 0.05), (0.05, 0.9)])
def test_regret_stays_small_when_acceptance_changes_midway(shares):
    auto, best, depth = rates([shares[0]] * 4 + [shares[1]] * 4, memory_bound, [300] * 8)
    assert auto > 0.98 * best, (auto / best, depth)


def test_regret_stays_small_when_the_load_changes_midway():
    def price(step):
        return memory_bound if step < 1000 else compute_bound

    auto, best, depth = rates(0.7, price, [400] * 10, priced_by_step=True)
    assert auto > 0.98 * best, (auto / best, depth)


@pytest.mark.parametrize("together", [4, pytest.param(16, marks=SLOW)])
def test_regret_is_small_in_a_batch_of_good_and_bad_requests(together):
    auto, best, depth = rates([0.9, 0.1] * 8, memory_bound, [200] * 16, together=together)
    assert auto > 0.98 * best, (auto / best, depth)


def test_a_drafter_that_is_always_wrong_costs_next_to_nothing():
    guesser = Recorded(0.0, stated=0.9)
    texts = guesser.record([200] * 6)
    plain = replay(Verify(guesser, 0), texts, memory_bound).seconds
    assert replay(Watched().use(guesser), texts, memory_bound).seconds < 1.02 * plain


def test_the_choice_is_the_best_prefix_of_all_guesses():
    generator = np.random.default_rng(3)
    for _ in range(200):
        survival = np.sort(generator.random(12))[::-1].tolist()
        seconds = np.maximum.accumulate(0.01 + 0.004 * generator.random(13)).tolist()
        certain = int(generator.integers(1, 5))
        rates_of = [(certain + sum(survival[:n])) / seconds[n] for n in range(13)]
        by_hand = int(np.argmax(rates_of))
        if rates_of[by_hand] < least_gain(certain, was_on=True) * rates_of[0]:
            by_hand = 0
        found = choose(survival, certain, seconds.__getitem__, was_on=True)
        assert found.drafted == by_hand
