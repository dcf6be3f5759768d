"""One record for everyone: when the prefill ends, and which tokens are decode."""

import pytest

from ridgeway.bench.timeline import Timeline

TWO = Timeline.of([[1, 2, 3], [4]], [(1.0, 2.0, 4.0), (3.0, 4.0, 5.0)], [(7, 7, 7), (8, 8, 8)])


def test_prefill_ends_when_the_last_request_has_its_first_token():
    assert TWO.prefill_seconds == 3.0
    assert TWO.decode_seconds == 2.0


def test_tokens_that_came_while_others_were_in_their_prompt_are_not_decode():
    assert TWO.decode_tokens == 3  # 4.0 of the first; 4.0 and 5.0 of the second


def test_a_request_has_a_decode_rate_of_its_own():
    assert TWO.own_decode(0) == (2, 3.0)
    assert Timeline.of([[1]], [(1.0, 1.0, 2.0, 2.0)], None).own_decode(0) == (2, 1.0)  # two tokens at a time


def test_another_number_of_tokens_is_told():
    assert TWO.wrong_count(3) is None
    assert TWO.wrong_count(4) == "produced 3 tokens where 4 were asked for"
    short = Timeline.of([[1], [2]], [(1.0,)], None)
    assert short.wrong_count(1) == "answered 1 prompts where 2 were given"


def test_one_token_has_no_decode():
    one = Timeline.of([[1]], [(0.5,)], None)
    assert (one.decode_tokens, one.decode_seconds) == (0, pytest.approx(0.0))
