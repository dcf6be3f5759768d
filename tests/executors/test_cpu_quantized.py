"""Quantized models: the stream against the reference executor, which multiplies the same weights as floats."""

import dataclasses

import gguf
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ridgeway.core.arrays import ints
from ridgeway.core.query import Batch, Entry, Query, Readout
from ridgeway.engine.sampling import plain_selection
from ridgeway.executors.cpu import CpuExecutor
from ridgeway.executors.reference import ReferenceExecutor
from ridgeway.kernels.cpu.isa import INSTRUCTION_SETS, processor_features
from ridgeway.quant.formats import FORMATS
from ridgeway.quant.tensor import Tensor
from ridgeway.testing import toy_config, toy_model

CONFIG = toy_config(hidden=64, head_dim=32, heads=4, kv_heads=2, intermediate=160)
TOKENS = np.random.default_rng(6).integers(0, 61, 90)
RUNNABLE = [name for name, isa in INSTRUCTION_SETS.items() if processor_features().issuperset(isa.needs)]


def packed_model(name):
    """The toy model with its matrices in the format `name`."""
    model = toy_model(CONFIG)
    tensors = {}
    for key, tensor in model.tensors.items():
        if len(tensor.shape) == 2:
            data = gguf.quants.quantize(tensor.dequantize(), gguf.GGMLQuantizationType[name])
            tensor = Tensor(key, FORMATS[name], tensor.shape, data.view(np.uint8).reshape(tensor.rows, -1))
        tensors[key] = tensor
    return dataclasses.replace(model, tensors=tensors)


def logits(executor, *lengths):
    executor.allocate(1000)
    entries, base = [], 0
    for length in lengths:
        rows = np.arange(length)
        read = Readout.of(rows, rows + 1, sampled=False, measures={"logits"})
        entries.append(Entry(Query(ints(TOKENS[:length]), rows, read=read), 0, base + rows))
        base += length
    batch = Batch(tuple(entries), plain_selection(sum(lengths)))
    return [answer.logits for answer in executor.forward(batch).answers]


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16"])
def test_every_format_runs_and_stays_near_the_reference(name):
    model = packed_model(name)
    reference = ReferenceExecutor(model)
    (expected,), (found,) = logits(reference, 90), logits(CpuExecutor(model), 90)
    spread = expected.std()
    assert np.abs(found - expected).mean() < 0.02 * spread  # activations have eight bits


@pytest.mark.parametrize("name", ["Q4_1", "Q8_0"])
def test_bits_do_not_depend_on_instructions_threads_or_company(name):
    model = packed_model(name)
    (expected,) = logits(CpuExecutor(model, 1, isa="portable"), 60)
    for isa in RUNNABLE:
        for threads in (1, 2, 3):
            found = logits(CpuExecutor(model, threads, isa=isa), 7, 60, 90)[1]
            assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["q8_0", "q4_0"])
def test_a_model_of_floats_is_quantized_as_it_is_loaded(name):
    executor = CpuExecutor(toy_model(CONFIG), quant=name.upper())
    assert executor.arithmetic == "int8"
    (found,) = logits(executor, 40)
    (expected,) = logits(CpuExecutor(packed_model(name.upper())), 40)
    # The embedding is looked up in its own type, so tokens enter a little different.
    assert np.abs(found - expected).mean() < 0.2 * expected.std()
    floats = sum(CpuExecutor(toy_model(CONFIG)).held_bytes.values())
    assert sum(executor.held_bytes.values()) < 0.6 * floats


def test_weights_are_held_once_in_the_size_of_the_file():
    model = packed_model("Q4_1")
    held = CpuExecutor(model).held_bytes
    for name in ("layers.0.gate", "layers.1.down", "layers.0.q"):
        assert held[name] == model.tensors[name].nbytes
