from pathlib import Path

import pytest

from ridgeway.core.errors import MethodError
from ridgeway.methods.autoregressive import Autoregressive
from ridgeway.methods.registry import default_method, make_method, options_of
from ridgeway.testing import check_lossless, toy_llm

MINE = Path(__file__).parent.parent.parent / "examples" / "my_method.py"


def test_a_method_is_a_name_an_object_or_a_class():
    one = Autoregressive()
    assert make_method(one) is one
    assert make_method("ar") == make_method(Autoregressive) == one


def test_a_causal_model_is_decoded_by_auto_unless_told_otherwise():
    llm = toy_llm()
    assert default_method(llm.traits) == "auto"
    assert llm.method() is llm.method("auto")  # what it learned serves both


def test_a_method_of_ones_own_is_named_by_file_and_class_and_takes_options():
    method = make_method(f"{MINE}:Echo:depth=5")
    assert (method.name, method.depth) == ("echo", 5)
    assert options_of(type(method)) == {"depth": "3"}


def test_the_example_is_about_forty_lines_and_lossless():
    code = [line for line in MINE.read_text().splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(code) < 70
    check_lossless(make_method(f"{MINE}:Echo"))


def test_the_example_saves_weight_streams_on_text_that_repeats():
    llm = toy_llm()
    output = llm.generate([[1, 2, 3, 4] * 6], method=f"{MINE}:Echo")[0]
    plain = llm.generate([[1, 2, 3, 4] * 6], method="ar")[0]
    assert output.metrics.weight_streams <= plain.metrics.weight_streams


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("arr", "did you mean ar"),
        ("nonsense", "known: ar"),
        ("ar:depth=3", "has no option 'depth': it takes none"),
        ("ar:depth", "expected key=value"),
        ("ngram:depth=2,depth=3", "depth is given twice"),
        (f"{MINE}:Echo:dept=3", "did you mean depth"),
        (f"{MINE}:Echo:depth=three", "expected a whole number"),
        (f"{MINE}:Ehco", "it has: Echo"),
        (f"{MINE}", "say which class"),
        ("nowhere.py:Mine", "there is no file nowhere.py"),
        (3, "not int"),
    ],
)
def test_what_cannot_be_named_is_explained(spec, says):
    with pytest.raises(MethodError, match=says):
        make_method(spec)
