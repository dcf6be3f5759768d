"""The sizes of a model in a GGUF file, and the bytes that each tensor takes there, packed in whatever way."""

from math import prod
from pathlib import Path

from ridgeway.core.errors import ModelError
from ridgeway.models.architectures import architecture_of_gguf
from ridgeway.models.architectures.architecture import file_name
from ridgeway.models.fields import Fields
from ridgeway.models.gguf import read_gguf
from ridgeway.models.outline import Outline
from ridgeway.quant.formats import BY_GGUF_TYPE

# Bits per weight, scales included, of formats that no executor unpacks (ggml, `ggml-common.h`).
_BITS = {
    "Q5_0": 5.5, "Q5_1": 6.0, "Q2_K": 2.625, "Q3_K": 3.4375, "Q4_K": 4.5, "Q5_K": 5.5, "Q6_K": 6.5625, "Q8_K": 9.125,
    "IQ4_NL": 4.5, "IQ4_XS": 4.25, "IQ3_S": 3.4375, "IQ2_XS": 2.3125, "MXFP4": 4.25,
}  # fmt: skip
_GGUF_FORMATS = {"Q4_0": "Q4_0", "Q4_1": "Q4_1", "Q8_0": "Q8_0", "F16": "fp16", "BF16": "bf16", "F32": "fp32"}


def outline_of_gguf(path: Path) -> Outline:
    """Raises ModelError for a broken file, an unknown architecture, or a format whose size is not known."""
    file = read_gguf(path)
    fields = Fields(path, file.metadata)
    architecture = architecture_of_gguf(fields)
    assert architecture.config_from_gguf is not None
    assert architecture.gguf_names is not None
    config = architecture.config_from_gguf(fields, file)
    held: dict[str, int] = {}
    weights: dict[str, int] = {}
    for canonical, shape in config.tensor_shapes().items():
        name = file_name(architecture.gguf_names, canonical)
        if name not in file.types:
            raise ModelError(path, f"tensor {name} is missing")
        kind = file.types[name]
        known = next((form for form in BY_GGUF_TYPE.values() if form.name == kind), None)
        bits = _BITS.get(kind) if known is None else known.bits_per_weight
        if bits is None:
            raise ModelError(path, f"tensor {name} has type {kind}, whose size is not known")
        held[canonical] = round(prod(shape) * bits / 8)
        weights[kind] = weights.get(kind, 0) + prod(shape)
    main = max(weights, key=lambda kind: weights[kind])
    return Outline(path.stem, config, _GGUF_FORMATS.get(main, "4-bit"), str(path), held)
