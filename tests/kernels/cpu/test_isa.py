"""The instruction set is the fastest that the processor has, or the one that was asked for."""

import pytest

from ridgeway.core.errors import MachineError
from ridgeway.kernels.cpu import isa


def test_the_first_that_the_processor_can_run_is_taken(monkeypatch):
    monkeypatch.delenv(isa.VARIABLE, raising=False)
    for features, expected in (
        ({"avx512f", "avx512bw", "avx512vl", "avx512vnni", "avx2", "fma", "f16c"}, "avx512vnni"),
        ({"avx2", "fma", "f16c", "avxvnni"}, "avxvnni"),
        ({"avx2", "fma", "f16c"}, "avx2"),
        (set(), "portable"),
    ):
        monkeypatch.setattr(isa, "processor_features", lambda features=features: frozenset(features))
        assert isa.choose_instruction_set().name == expected


def test_a_variable_overrides_the_choice_and_an_argument_the_variable(monkeypatch):
    monkeypatch.setattr(isa, "processor_features", lambda: frozenset({"avx2", "fma", "f16c"}))
    monkeypatch.setenv(isa.VARIABLE, "portable")
    assert isa.choose_instruction_set().name == "portable"
    assert isa.choose_instruction_set("avx2").name == "avx2"


def test_what_the_processor_lacks_is_said(monkeypatch):
    monkeypatch.setattr(isa, "processor_features", lambda: frozenset({"avx2", "fma", "f16c"}))
    with pytest.raises(MachineError, match="this processor lacks avxvnni"):
        isa.choose_instruction_set("avxvnni")
    with pytest.raises(MachineError, match="instruction set 'avx3'"):
        isa.choose_instruction_set("avx3")
