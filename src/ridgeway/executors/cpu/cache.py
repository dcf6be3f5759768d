"""K/V as they are stored, as bf16 or as int8 with a scale per token and head.

The K/V of 64 slots, of all layers and heads, lie together: a megabyte or two for a small model, so that huge pages hold
what a sequence reads, and memory is still taken little by little. Within a group each head's slots are a row. From a
head's row in one group to its row in the next it is always as far, so `places` are numbers that serve all heads.
"""

from typing import Literal

import numpy as np

from ridgeway.core.arrays import AnyArray, FloatArray, IntArray
from ridgeway.kernels.cpu.layout import L
from ridgeway.kernels.cpu.residence import Room
from ridgeway.models.config import ModelConfig

_SHIFT = 6
GROUP_SLOTS = 1 << _SHIFT
_TABLE = {"kv": (L.keys, L.values), "scales": (L.key_scales, L.value_scales)}  # where a layer's addresses go


class PagedCache:
    """kv: (groups, layers, 2, kv_heads, 64, width) uint16 (bf16 bits) or int8, keys before values; scales: likewise
    without width, float32.
    """

    def __init__(self, config: ModelConfig, width: int, kv: Literal["bf16", "int8"]) -> None:
        self._layers, self._heads = config.layers, config.kv_heads
        self._width = width
        self._quantized = kv == "int8"
        self.itemsize = 1 if self._quantized else 2
        self._jump = GROUP_SLOTS * (2 * config.layers * config.kv_heads - 1)
        self._arrays: dict[str, AnyArray] = {}

    @property
    def layer_bytes(self) -> int:
        """Bytes of the K/V of one token in a layer."""
        scales = 4 if self._quantized else 0
        return 2 * self._heads * (self._width * self.itemsize + scales)

    @property
    def slot_bytes(self) -> int:
        """Bytes of the K/V of one token, all layers."""
        return self._layers * self.layer_bytes

    def allocate(self, slots: int) -> None:
        room, shape = Room(), (-(-slots // GROUP_SLOTS), self._layers, 2, self._heads, GROUP_SLOTS)
        type_: type[np.generic] = np.int8 if self._quantized else np.uint16
        self._arrays = {"kv": room.take(*shape, self._width * self.itemsize).view(type_)}
        if self._quantized:
            self._arrays["scales"] = room.take(*shape, 4).view(np.float32)[..., 0]

    def fill_tables(self, layers: IntArray) -> None:
        """Writes the addresses of each layer's first keys and values into its table."""
        for name, array in self._arrays.items():
            for layer, table in enumerate(layers):
                for part, place in enumerate(_TABLE[name]):
                    table[place] = array.ctypes.data + layer * array.strides[1] + part * array.strides[2]

    def places(self, slots: IntArray) -> IntArray:
        """Where `slots` are, counted in a head's K/V of one token from the first slot's."""
        found: IntArray = slots + (slots >> _SHIFT) * self._jump
        return found

    def read(self, layer: int, slots: IntArray) -> tuple[FloatArray, FloatArray]:
        """Keys and values of a layer in some slots, each (n, kv_heads, width) float32."""
        group, own = slots >> _SHIFT, slots % GROUP_SLOTS
        found = []
        for part in range(2):
            stored = self._arrays["kv"][:, layer, part][group, :, own]
            if self._quantized:
                found.append(stored.astype(np.float32) * self._arrays["scales"][:, layer, part][group, :, own, None])
            else:
                found.append((stored.astype(np.uint32) << 16).view(np.float32))
        return found[0], found[1]

    def move(self, source: IntArray, target: IntArray) -> None:
        (group, own), (new_group, new_own) = ((slots >> _SHIFT, slots % GROUP_SLOTS) for slots in (source, target))
        for array in self._arrays.values():
            array[new_group, :, :, :, new_own] = array[group, :, :, :, own]
