import pytest

from ridgeway.core.errors import RidgewayError
from ridgeway.executors.registry import Storage, make_executor
from ridgeway.models.loading import load_model
from ridgeway.testing import toy_llm, toy_model


def test_auto_keeps_float32_weights_in_float32_throughout():
    assert make_executor("auto", toy_model()).name == "reference"


def test_auto_takes_the_cpu_executor_for_packed_weights():
    assert make_executor("auto", load_model("smollm2-135m")).name == "cpu"


@pytest.mark.parametrize(("name", "says"), [("torch", "not part of this version"), ("cup", "did you mean cpu")])
def test_an_executor_that_is_not_there_is_explained(name, says):
    with pytest.raises(RidgewayError, match=says):
        make_executor(name, toy_model())


def test_weights_in_floats_are_quantized_as_they_are_loaded_when_that_is_asked_for():
    llm = toy_llm(executor="auto", quant="q8_0", kv_cache="int8")
    assert llm.executor.name == "cpu"
    assert llm.executor.arithmetic == "int8"
    assert llm.executor.kv_itemsize == 1
    assert llm.title.endswith("Q8_0")
    assert len(llm.generate([[1, 2, 3]])[0].outputs[0].token_ids) > 0


@pytest.mark.parametrize(
    ("executor", "model", "asked", "says"),
    [
        ("auto", "toy", {"quant": "q5_9"}, "expected one of q8_0, q4_0"),
        ("auto", "toy", {"kv_cache": "fp8"}, "expected one of bf16, int8"),
        ("auto", "smollm2-135m", {"quant": "q8_0"}, "is Q4_1 already"),
        ("reference", "toy", {"kv_cache": "int8"}, "need the cpu one"),
    ],
)
def test_a_storage_that_cannot_be_is_refused(executor, model, asked, says):
    with pytest.raises(RidgewayError, match=says):
        make_executor(executor, toy_model() if model == "toy" else load_model(model), storage=Storage(**asked))
