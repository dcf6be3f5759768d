"""How many tokens to draft: as many as raise the expected tokens per second, and none where none do.

A drafted token is worth its survival probability and costs what its row adds to the step. Sorted by survival, the best
set of guesses, over all sequences of the batch, is always a beginning of the list, so the best of all is found by
going through its lengths. Where rows are nearly free (memory-bound steps) that is deep; where each row costs arithmetic
time (a full batch, beyond the ridge point) it is nothing.

After the argmax over prefixes in TurboSpec (Liu et al. 2024, arXiv 2406.14066) and vLLM's adaptive verification; the
prices come from the cost model, so nothing has to be profiled beforehand.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

_SWITCH_ON = 1.02  # a gain below this is not worth the risk that an estimate is wrong
_MARGIN = 0.08  # more for several sequences: gains are small there, and the best of many sets is the most overrated


class Choice(NamedTuple):
    """drafted: how many tokens. gain: expected tokens per second over those of drafting nothing, of the best that was
    looked at; where nothing can pay not all are.

    price: seconds of the step without drafts. first: what the likeliest drafted token adds to that, in seconds, and
    chance: how likely it survives (0 without guesses). certain: tokens that come anyway.
    """

    drafted: int
    gain: float
    price: float
    first: float
    chance: float
    certain: int


def least_gain(certain: int, was_on: bool) -> float:
    """The expected gain from which on drafting is worth it, and so is asking for more drafts than come for nothing.
    certain: tokens that come anyway. was_on: hysteresis: going on needs less than beginning.
    """
    return (1.0 if was_on else _SWITCH_ON) + (_MARGIN if certain > 1 else 0.0)


def choose(
    survival: Sequence[float],
    certain: int,
    price: Callable[[int], float],
    was_on: bool = False,
) -> Choice:
    """The best number of drafts. survival: of all candidates, highest first. price: seconds of a step by drafts.

    was_on: whether something was drafted in the step before.
    """
    plain = price(0)
    if not survival:
        return Choice(0, 1.0, plain, price(1) - plain, 0.0, certain)
    best, best_rate = 0, 0.0
    tokens, most = float(certain), certain + sum(survival)
    for drafted, chance in enumerate(survival, start=1):
        tokens += chance
        seconds = price(drafted)
        if tokens / seconds > best_rate:
            best, best_rate = drafted, tokens / seconds
        elif most / seconds <= max(best_rate, certain / plain):
            break  # as prices never fall: not even if all the rest came true would it beat this, or drafting nothing
    gain = best_rate * plain / certain
    if gain < least_gain(certain, was_on):
        best = 0
    return Choice(best, gain, plain, price(1) - plain, survival[0], certain)
