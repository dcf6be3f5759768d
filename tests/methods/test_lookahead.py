"""The window is a Jacobi iteration, the pool holds the n-grams it went through, and the text stays the same."""

import numpy as np
import pytest

from ridgeway.core.sampling_params import SamplingParams
from ridgeway.methods.registry import make_method
from ridgeway.testing import check_lossless, toy_config, toy_llm, toy_model

GREEDY = SamplingParams(temperature=0, max_tokens=40)


@pytest.mark.parametrize("options", ["", "window=1,ngram=2,guesses=1", "window=3,ngram=5,guesses=2"])
def test_the_text_is_that_of_plain_decoding(options):
    check_lossless(f"lookahead:{options}")


def queries_of(llm, method, prompt, params):
    """The queries of a run with their answers' tokens, decode steps only."""
    seen = []
    forward = llm.executor.forward

    def watched(batch):
        result = forward(batch)
        seen.append((batch.entries[0].query, result.answers[0].tokens))
        return result

    llm.executor.forward = watched
    llm.generate(prompt, params, method=method)
    return seen[1:]


def test_window_and_guesses_are_laid_out_as_in_the_paper():
    """W = 3, N = 4, filled: one row for the newest token, W (N - 1) - 1 for the rest of the window."""
    query, tokens = queries_of(toy_llm(), make_method("lookahead:window=3,ngram=4,guesses=1"), [1, 2, 3], GREEDY)[4]
    t = query.positions[0]
    assert (query.positions[:9] - t).tolist() == [0, 1, 2, 1, 2, 3, 2, 3, 4]
    sees = query.visibility.matrix(query.positions)
    assert np.flatnonzero(sees[8]).tolist() == [0, 1, 2, 5, 8]  # level 2, column 2: level 0 up to it, its own column
    assert np.flatnonzero(sees[3]).tolist() == [0, 3]
    assert not sees[9:, 1:9].any()  # guesses see the newest token and themselves
    assert len(tokens) == len(query.read)


def test_the_window_is_what_the_model_says_and_nothing_that_is_sampled():
    """Each new token of the window is the argmax behind its own row's path, recomputed from nothing."""
    model = toy_model(toy_config(tied_head=False), sharpness=2.0)
    params = SamplingParams(temperature=1.0, seed=3, max_tokens=12)
    llm, judge = toy_llm(model), toy_llm(model)
    prompt = [5, 6, 7, 8]
    answer = toy_llm(model).generate(prompt, params, method="ar")[0].outputs[0].token_ids
    checked = 0
    for query, tokens in queries_of(llm, make_method("lookahead:window=3,ngram=3"), prompt, params):
        before = (prompt + answer)[: int(query.positions[0])]
        for read, row in enumerate(query.read.rows):
            if not query.read.sampled[read]:
                assert tokens[read] == judge.logits(before + query.path(int(row)))[-1].argmax()
                checked += 1
    assert checked > 10


def test_a_guess_that_is_accepted_whole_brings_a_token_more():
    """The reference implementation commits at most N - 1 tokens a step; the row behind them is there for the taking."""
    llm = toy_llm(toy_model(toy_config(tied_head=False), sharpness=4.0))
    output = llm.generate([1, 2, 3, 1, 2, 3], SamplingParams(temperature=0, max_tokens=120), method="lookahead")[0]
    assert max(step.committed for step in llm.steps) == 3  # N: two tokens of a guess, and one more
    assert output.metrics.weight_streams < 100
    assert output.outputs[0].drafts.accepted[1] > 0
