"""Bytes of a tensor that is not there, packed in a format."""

from math import prod

from ridgeway.core.errors import ModelError, did_you_mean
from ridgeway.quant.formats import F32, FORMATS


def packed_bytes(shape: tuple[int, ...], weights: str | float) -> int:
    """Bytes of a tensor; vectors stay in float32 where matrices are packed in blocks, as in GGUF files."""
    elements = prod(shape)
    if not isinstance(weights, str):
        return round(elements * weights)
    name = weights.upper()
    if name not in FORMATS:
        raise ModelError(weights, f"not a weight format; {did_you_mean(name, FORMATS)}")
    form = FORMATS[name]
    packs = len(shape) > 1 and shape[-1] % form.block == 0
    return (form if form.block == 1 or packs else F32).nbytes(elements)
