import pytest

from ridgeway.core.errors import RidgewayError
from ridgeway.executors.registry import make_executor
from ridgeway.models.loading import load_model
from ridgeway.testing import toy_model


def test_auto_keeps_float32_weights_in_float32_throughout():
    assert make_executor("auto", toy_model()).name == "reference"


def test_auto_takes_the_cpu_executor_for_packed_weights():
    assert make_executor("auto", load_model("smollm2-135m")).name == "cpu"


@pytest.mark.parametrize(("name", "says"), [("torch", "not part of this version"), ("cup", "did you mean cpu")])
def test_an_executor_that_is_not_there_is_explained(name, says):
    with pytest.raises(RidgewayError, match=says):
        make_executor(name, toy_model())
