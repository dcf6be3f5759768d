"""Models of random weights, small enough to test an engine in milliseconds."""

from dataclasses import replace
from typing import Any

import numpy as np

from ridgeway.core.arrays import AnyArray, FloatArray
from ridgeway.llm import LLM
from ridgeway.models.config import ModelConfig
from ridgeway.models.draft_head import DraftHead
from ridgeway.models.model import Model
from ridgeway.quant.tensor import Tensor

_CONFIG = ModelConfig(
    architecture="llama",
    hidden=32,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    intermediate=48,
    vocab_size=61,
    max_positions=512,
    rms_eps=1e-5,
    rope_theta=10000.0,
    tied_head=True,
)


def toy_config(**changes: Any) -> ModelConfig:
    """A decoder of two layers with a vocabulary of 61, with `changes`."""
    if "layers" in changes:
        changes = {"windows": ()} | changes  # one for each layer
    return replace(_CONFIG, **changes)


def toy_model(config: ModelConfig | None = None, seed: int = 0, sharpness: float = 1.5) -> Model:
    """A model of random weights. sharpness: standard deviation of its logits, about; the higher, the surer it is."""
    config = config or _CONFIG
    generator = np.random.default_rng(seed)
    tensors = {}
    for name, shape in config.tensor_shapes().items():
        kind = name.rsplit(".", 1)[-1]
        if kind.endswith("norm"):
            values = 1 + 0.1 * generator.standard_normal(shape)
        elif kind == "head" or (kind == "embed" and config.tied_head):
            values = sharpness * generator.standard_normal(shape) / np.sqrt(config.hidden)
        elif kind == "embed":
            values = generator.standard_normal(shape)
        else:
            values = generator.standard_normal(shape) / np.sqrt(shape[-1])
        tensors[name] = Tensor.of(name, values.astype(np.float32))
    return Model(name=f"toy-{config.architecture}", config=config, tensors=tensors)


def toy_draft_head(model: Model, inner: int = 64, seed: int = 0, layer: int | None = None) -> DraftHead:
    """A draft head of random weights, which guesses badly; it knows every second token. layer: whose K/V it sees."""
    generator = np.random.default_rng(seed)
    config = model.config
    hidden, tokens = config.hidden, np.arange(0, config.vocab_size, 2)
    width = 0 if layer is None else config.heads * config.head_dim

    def matrix(name: str, outputs: int, inputs: int) -> Tensor:
        values = generator.standard_normal((outputs, inputs)) / np.sqrt(inputs)
        return Tensor.of(name, values.astype(np.float32))

    inputs = 2 * hidden + width
    parts = (matrix("gate", inner, inputs), matrix("up", inner, inputs), matrix("down", hidden, inner))
    query = None if layer is None else matrix("query", width, 2 * hidden)
    return DraftHead.of(model, tokens, *parts, query, layer or 0)


def toy_llm(model: Model | str | None = None, **options: Any) -> LLM:
    """An `LLM` of a toy model, judged by a machine from the data sheets so that nothing has to be measured."""
    settings: dict[str, Any] = {"machine": "h100", "slots": 4096, "executor": "reference"} | options
    return LLM(model or toy_model(), **settings)


def bf16(numbers: AnyArray) -> FloatArray:
    """Numbers rounded to bf16, to nearest even, as floats: what attention of the CPU executor multiplies."""
    bits = np.ascontiguousarray(numbers, dtype=np.float32).view(np.uint32)
    rounded: FloatArray = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return rounded
