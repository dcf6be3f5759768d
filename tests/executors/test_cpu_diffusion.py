"""Diffusion models on the CPU executor: the reference's logits, and bits that do not depend on company."""

import dataclasses

import gguf
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ridgeway.core.errors import ModelError
from ridgeway.core.traits import LogitShift
from ridgeway.executors.registry import make_executor
from ridgeway.quant.formats import FORMATS
from ridgeway.quant.tensor import Tensor
from ridgeway.testing import bf16, toy_config, toy_llm, toy_model

SIZES = {"hidden": 64, "head_dim": 16, "heads": 4, "kv_heads": 2, "intermediate": 96, "mask_id": 60}
CONFIGS = {
    "in both directions": toy_config(**SIZES, attention="bidirectional", logit_shift=LogitShift.IN_PLACE),
    "blocks": toy_config(
        **SIZES, attention="block", block_size=4, logit_shift=LogitShift.IN_PLACE, qk_norm=True, tied_head=False
    ),
    "blocks, biases": toy_config(**SIZES, attention="block", block_size=8, qkv_bias=True),
}
TOKENS = [int(token) for token in np.random.default_rng(1).integers(0, 61, 70)]


def packed(config, name):
    """A toy model with its matrices in the format `name`."""
    model = toy_model(config)
    tensors = {}
    for key, tensor in model.tensors.items():
        if len(tensor.shape) == 2:
            data = gguf.quants.quantize(tensor.dequantize(), gguf.GGMLQuantizationType[name])
            tensor = Tensor(key, FORMATS[name], tensor.shape, data.view(np.uint8).reshape(tensor.rows, -1))
        tensors[key] = tensor
    return dataclasses.replace(model, tensors=tensors)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize(("name", "share"), [("BF16", 2e-3), ("F16", 2e-3), ("Q8_0", 2e-2)])
def test_the_cpu_executor_stays_near_the_reference(kind, name, share):
    model = packed(CONFIGS[kind], name)
    reference, cpu = toy_llm(model), toy_llm(model, executor="cpu", threads=1)
    reference.executor._rounded = bf16
    for cached in (0, 64):
        expected, found = reference.logits(TOKENS, cached=cached), cpu.logits(TOKENS, cached=cached)
        assert np.abs(found - expected).mean() < share * expected.std()


@pytest.mark.parametrize("kind", ["blocks", "blocks, biases"])
def test_cached_blocks_change_no_bit_on_the_cpu_executor(kind):
    llm = toy_llm(packed(CONFIGS[kind], "BF16"), executor="cpu", threads=1)
    whole = llm.logits(TOKENS)
    for cached in range(8, len(TOKENS), 8):
        assert_array_equal(llm.logits(TOKENS, cached=cached), whole[cached:])


def test_what_the_cpu_executor_does_not_compute_is_left_to_the_reference():
    model = packed(toy_config(norm="layer", norm_bias=True, gated_mlp=False, activation="gelu", hidden=64), "BF16")
    assert make_executor("auto", model).name == "reference"
    with pytest.raises(ModelError, match=r"norms by mean and variance, biases of norms, GELU, .*use the reference"):
        make_executor("cpu", model)
