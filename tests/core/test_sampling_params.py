import numpy as np
import pytest

from ridgeway.core.errors import RequestError
from ridgeway.core.sampling_params import SamplingParams


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 0},
        {"n": 1.5},
        {"n": True},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -2},
        {"min_p": 2},
        {"seed": -1},
        {"seed": 2**64},
        {"max_tokens": 0},
        {"min_tokens": 5, "max_tokens": 4},
        {"stop": ""},
        {"stop": ["a", 3]},
        {"stop_token_ids": [-1]},
        {"logprobs": -1},
        {"presence_penalty": 3},
        {"repetition_penalty": 0},
        {"logit_bias": {"x": 1}},
        {"logit_bias": {3: float("nan")}},
        {"logit_bias": {3: float("inf")}},
        {"logit_bias": {5.7: 1}},
        {"logit_bias": 3},
        {"stop": 5},
        {"stop_token_ids": 5},
        {"temperature": 1e-310},
        {"repetition_penalty": 1e-300},
    ],
)
def test_a_wrong_value_is_refused_by_name(wrong):
    name = next(iter(wrong))
    with pytest.raises(RequestError, match=name):
        SamplingParams(**wrong)


def test_one_stop_string_may_stand_alone():
    assert SamplingParams(stop="END").stop_strings == ("END",)
    assert SamplingParams(stop=["a", "b"]).stop_strings == ("a", "b")


def test_numpy_numbers_are_numbers():
    assert SamplingParams(temperature=np.float32(0.5), seed=np.int64(3), max_tokens=np.int64(4)).max_tokens == 4


def test_an_unknown_name_is_refused():
    with pytest.raises(TypeError, match="temprature"):
        SamplingParams(temprature=1)
