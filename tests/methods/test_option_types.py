"""Options are what their type hints say, whoever makes the method; and one that changes nothing is said to."""

import dataclasses

import numpy as np
import pytest

from ridgeway.core.errors import MethodError
from ridgeway.core.traits import LogitShift, ModelTraits
from ridgeway.methods.block_diffusion import BlockDiffusion
from ridgeway.methods.diffusion import Diffusion
from ridgeway.methods.registry import METHODS, make_method, options_of
from ridgeway.methods.reveal import Threshold
from ridgeway.methods.verified_diffusion import VerifiedDiffusion

BLOCK = ModelTraits(61, 128, attention="block", block_size=4, mask_id=60, logit_shift=LogitShift.IN_PLACE)


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        (BlockDiffusion, {"steps": "3"}, "steps='3': expected a whole number or None"),
        (BlockDiffusion, {"steps": 1.5}, "steps=1.5: expected a whole number"),
        (BlockDiffusion, {"steps": True}, "steps=True: expected a whole number"),
        (BlockDiffusion, {"mask_id": 1.5}, "mask_id=1.5: expected a whole number"),
        (BlockDiffusion, {"threshold": "high"}, "threshold='high': expected a number"),
        (BlockDiffusion, {"factor": float("nan")}, "factor=nan: expected a number"),
        (BlockDiffusion, {"bound": None}, "bound=None: expected a number"),
        (BlockDiffusion, {"fuse": "no"}, "fuse='no': expected true or false"),
        (BlockDiffusion, {"sampler": []}, r"sampler=\[\]: expected a name"),
        (BlockDiffusion, {"reveal": 3}, "reveal=3: expected a name or a RevealRule"),
        (Diffusion, {"length": 2.5}, "length=2.5: expected a whole number"),
        (VerifiedDiffusion, {"block": "4"}, "block='4': expected a whole number"),
        (VerifiedDiffusion, {"layout": None}, "layout=None: expected a name"),
    ],
)
def test_a_value_of_another_type_is_refused_where_the_method_is_made(method, options, says):
    with pytest.raises(TypeError, match=says):
        method(**options)


def test_numbers_and_rules_of_any_kind_are_taken():
    method = BlockDiffusion(steps=np.int64(3), threshold=1, reveal=Threshold(0.5))
    assert (method.steps, method.threshold) == (3, 1)


@pytest.mark.parametrize("spec", ["block-diffusion:factor=nan", "block-diffusion:bound=nan", "diffusion:remask=nan"])
def test_what_is_not_a_number_is_refused_as_text_too(spec):
    with pytest.raises(MethodError, match="=nan: expected a number"):
        make_method(spec)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "draft"])  # that needs a model
def test_the_default_of_every_option_may_be_given_as_text(name):
    for key, text in options_of(METHODS[name]).items():
        if text:
            made = make_method(f"{name}:{key}={text}")
            assert getattr(made, key) == getattr(make_method(name), key)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("steps=2,threshold=0.5", "threshold=0.5 changes nothing with reveal=confidence, sampler=fixed and steps=2"),
        ("reveal=factor,threshold=0.5,bound=1", "threshold=0.5, bound=1.0 change nothing with reveal=factor"),
        ("pace=ceiling", "pace=ceiling changes nothing with reveal=threshold, sampler=fixed and no steps"),
        ("steps=2,end_time=0.1", "end_time=0.1 changes nothing"),
        ("block=8,factor=2", "blocks of 4 tokens, and block=8 differs; factor=2.0 changes nothing"),
    ],
)
def test_an_option_that_changes_nothing_beside_the_others_is_warned_about(options, says):
    assert says in make_method(f"block-diffusion:{options}").caution(BLOCK)


@pytest.mark.parametrize(
    "options",
    [
        "",
        "threshold=0.5",
        "reveal=longest-prefix,threshold=0.5",
        "reveal=factor,factor=0.5",
        "reveal=entropy-bounded,bound=1",
        "steps=2,reveal=threshold,threshold=0.5,pace=ceiling",
        "steps=2,sampler=expected,end_time=0.1",
        "sampler=ancestral,steps=2,remask=0.5,measured=drawn",
    ],
)
def test_options_that_fit_each_other_are_not_warned_about(options):
    assert make_method(f"block-diffusion:{options}").caution(BLOCK) is None


def test_a_rule_of_ones_own_has_its_own_threshold():
    caution = dataclasses.replace(BlockDiffusion(), reveal=Threshold(0.5), threshold=0.7).caution(BLOCK)
    assert caution is not None
    assert caution.startswith("threshold=0.7 changes nothing with reveal=Threshold")
