"""K/V as they are stored: each head's slots in a row, as fp16 or as int8 with a scale per token and head."""

from typing import Literal

import numpy as np

from ridgeway.core.arrays import AnyArray, FloatArray, IntArray
from ridgeway.kernels.cpu.layout import L
from ridgeway.kernels.cpu.residence import untouched
from ridgeway.models.config import ModelConfig


class PagedCache:
    """keys, values: (layers, kv_heads, slots, width) uint16 (fp16 bits) or int8; scales: (layers, kv_heads, slots)."""

    def __init__(self, config: ModelConfig, width: int, kv: Literal["fp16", "int8"]) -> None:
        self._heads = (config.layers, config.kv_heads)
        self._width = width
        self._quantized = kv == "int8"
        self.itemsize = 1 if self._quantized else 2
        self._arrays: dict[str, AnyArray] = {}

    @property
    def layer_bytes(self) -> int:
        """Bytes of the K/V of one token in a layer."""
        scales = 4 if self._quantized else 0
        return 2 * self._heads[1] * (self._width * self.itemsize + scales)

    @property
    def slot_bytes(self) -> int:
        """Bytes of the K/V of one token, all layers."""
        return self._heads[0] * self.layer_bytes

    def allocate(self, slots: int) -> None:
        shape = (*self._heads, slots)
        type_: type[np.generic] = np.int8 if self._quantized else np.uint16
        self._arrays = {name: untouched((*shape, self._width), type_) for name in ("keys", "values")}
        if self._quantized:
            self._arrays |= {name: untouched(shape, np.float32) for name in ("key_scales", "value_scales")}

    def fill_tables(self, layers: IntArray) -> None:
        """Writes the addresses of each layer's storage into its table."""
        for name, array in self._arrays.items():
            place = getattr(L, name)
            for layer, table in enumerate(layers):
                table[place] = array[layer].ctypes.data

    def read(self, layer: int, slots: IntArray) -> tuple[FloatArray, FloatArray]:
        """Keys and values of a layer in some slots, each (n, kv_heads, width) float32."""
        found = []
        for name in ("keys", "values"):
            stored = self._arrays[name][layer][:, slots]  # (kv_heads, n, width)
            if self._quantized:
                scales = self._arrays[f"{name[:-1]}_scales"][layer][:, slots]
                whole = stored.astype(np.float32) * scales[:, :, None]
            else:
                whole = stored.view(np.float16).astype(np.float32)
            found.append(np.ascontiguousarray(whole.transpose(1, 0, 2)))
        return found[0], found[1]

    def move(self, source: IntArray, target: IntArray) -> None:
        for array in self._arrays.values():
            array[:, :, target] = array[:, :, source]
