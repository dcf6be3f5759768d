"""The reference executor: NumPy, float32, plain and slow. The oracle of every other executor.

Weights are dequantized once, so a weight stream here moves four bytes a weight whatever the file's format; the cost
model counts them as such.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from threadpoolctl import ThreadpoolController

from ridgeway.core.arrays import BoolArray, FloatArray, IntArray
from ridgeway.core.query import Answer, Batch, Forward
from ridgeway.core.traits import ModelTraits
from ridgeway.kernels.reference.attention import Rounding, attend, exactly
from ridgeway.kernels.reference.layers import (
    gelu,
    layer_norm,
    linear,
    linear_in_order,
    rms_norm,
    rope_angles,
    rotate,
    silu,
)
from ridgeway.kernels.reference.selection import answer
from ridgeway.models.model import Model
from ridgeway.models.rope import rope_frequencies


class ReferenceExecutor:
    """Runs any model that a `ModelConfig` without experts and latent attention describes; see
    `core.executor.Executor` for the contract.

    rounded: what happens to queries, keys, values and weights before attention multiplies them: for an executor that
    rounds them, so that little more than the order of sums tells it from this one.
    """

    name: ClassVar[str] = "reference"
    arithmetic: ClassVar[str] = "fp32"
    kv_itemsize = 4
    activation_itemsize = 4

    def __init__(self, model: Model, threads: int = 1, rounded: Rounding = exactly) -> None:
        self.config = model.config
        self.threads = threads
        self._rounded = rounded
        self._libraries = ThreadpoolController()
        self._embed = model.tensors["embed"]  # stays packed: only a few rows are used
        self._weights = {
            name: tensor.dequantize()
            for name, tensor in model.tensors.items()
            if name != "embed" or model.config.tied_head
        }
        self._head = self._weights["embed" if model.config.tied_head else "head"]
        self._normed = rms_norm if model.config.norm == "rms" else layer_norm
        # A norm with a mean and modulation leaves scores so large that a rounding of q or k moves logits by 1e-4; the
        # order of the sums is then a part of agreeing with other implementations.
        self._linear_of_scores = linear if model.config.norm == "rms" else linear_in_order
        self._activation = silu if model.config.activation == "silu" else gelu
        self._frequencies = rope_frequencies(model.config)
        self._keys: FloatArray = np.zeros((0,), dtype=np.float32)
        self._values: FloatArray = np.zeros((0,), dtype=np.float32)
        self.allocate(0)

    @property
    def traits(self) -> ModelTraits:
        return self.config.traits

    @property
    def held_bytes(self) -> Mapping[str, int]:
        held = {name: weight.nbytes for name, weight in self._weights.items()}
        return held if self.config.tied_head else held | {"embed": self._embed.nbytes}

    @property
    def slot_bytes(self) -> int:
        return 2 * self.config.layers * self.config.kv_heads * self.config.head_dim * self.kv_itemsize

    def allocate(self, slots: int) -> None:
        shape = (self.config.layers, slots, self.config.kv_heads, self.config.head_dim)
        self._keys = np.zeros(shape, dtype=np.float32)
        self._values = np.zeros(shape, dtype=np.float32)

    def move(self, source: IntArray, target: IntArray) -> None:
        self._keys[:, target] = self._keys[:, source]
        self._values[:, target] = self._values[:, source]

    def kv(self, layer: int, slots: IntArray) -> tuple[FloatArray, FloatArray]:
        """Keys, rotated to their positions, and values of `layer` in some slots: each (n, kv_heads, head_dim)."""
        return self._keys[layer, slots], self._values[layer, slots]

    def forward(self, batch: Batch) -> Forward:
        with self._libraries.limit(limits=self.threads, user_api="blas"):
            return self._stream(batch)

    def _stream(self, batch: Batch) -> Forward:
        tokens = np.concatenate([entry.query.tokens for entry in batch.entries])
        positions = np.concatenate([entry.query.positions for entry in batch.entries])
        angles = rope_angles(positions, self._frequencies)
        seen = [entry.query.visibility.matrix(entry.query.positions) for entry in batch.entries]
        x = self._embed.take(tokens)  # (rows, hidden)
        for layer in range(self.config.layers):
            runs = (True, True) if batch.sublayers is None else batch.sublayers[layer]
            if runs[0]:
                x = x + self._attention(layer, x, angles, batch, seen)
            if runs[1]:
                x = x + self._mlp(layer, x)
        return Forward(_with_hidden(answer(self._logits(x, batch), batch), batch, x[batch.read_rows]))

    def _attention(
        self,
        layer: int,
        x: FloatArray,
        angles: tuple[FloatArray, FloatArray],
        batch: Batch,
        seen: list[BoolArray],
    ) -> FloatArray:
        config = self.config
        h = self._norm(x, f"layers.{layer}.attn_norm")
        q = self._project(layer, "q", h).reshape(len(x), config.heads, config.head_dim)
        k = self._project(layer, "k", h).reshape(len(x), config.kv_heads, config.head_dim)
        v = self._project(layer, "v", h).reshape(len(x), config.kv_heads, config.head_dim)
        if config.qk_norm:
            q = rms_norm(q, self._of(layer, "q_norm"), config.rms_eps)
            k = rms_norm(k, self._of(layer, "k_norm"), config.rms_eps)
        q, k = rotate(q, *angles), rotate(k, *angles)
        q = q * np.float32(config.head_dim**-0.5)
        mixed = np.empty_like(q)
        start = 0
        for entry, sees in zip(batch.entries, seen, strict=True):
            rows = slice(start, start + len(entry.query))
            slots = entry.slots[entry.cached :]
            self._keys[layer, slots], self._values[layer, slots] = self._rounded(k[rows]), self._rounded(v[rows])
            keys, values, window = self._keys[layer], self._values[layer], config.windows[layer]
            mixed[rows] = attend(q[rows], keys, values, entry, sees, window, self._rounded)
            start = rows.stop
        return self._scaled(layer, "attn_scale", self._project(layer, "o", mixed.reshape(len(x), -1)))

    def _mlp(self, layer: int, x: FloatArray) -> FloatArray:
        h = self._norm(x, f"layers.{layer}.mlp_norm")
        if self.config.gated_mlp:
            inner = self._activation(self._project(layer, "gate", h)) * self._project(layer, "up", h)
        else:
            inner = self._activation(self._project(layer, "up", h))
        return self._scaled(layer, "mlp_scale", self._project(layer, "down", inner))

    def _logits(self, x: FloatArray, batch: Batch) -> FloatArray:
        """(read rows, vocabulary); rows that nobody reads never meet the head."""
        start, read = 0, []
        for entry in batch.entries:
            read.append(start + entry.query.read.rows)
            start += len(entry.query)
        final = self._norm(x[np.concatenate(read)], "final_norm")
        return linear(final, self._head, self._weights.get("head_bias"))

    def _norm(self, x: FloatArray, name: str) -> FloatArray:
        normed = self._normed(x, self._weights[name], self.config.rms_eps)
        return normed + self._weights[f"{name}_bias"] if self.config.norm_bias else normed

    def _scaled(self, layer: int, name: str, x: FloatArray) -> FloatArray:
        return x * self._of(layer, name) if self.config.residual_gates else x

    def _project(self, layer: int, name: str, x: FloatArray) -> FloatArray:
        multiply = self._linear_of_scores if name in ("q", "k") else linear
        return multiply(x, self._of(layer, name), self._weights.get(f"layers.{layer}.{name}_bias"))

    def _of(self, layer: int, name: str) -> FloatArray:
        return self._weights[f"layers.{layer}.{name}"]


def _with_hidden(answers: tuple[Answer, ...], batch: Batch, states: FloatArray) -> tuple[Answer, ...]:
    """The answers, with the hidden states of those whose readout measures them. states: (reads, hidden)."""
    result, start = [], 0
    for found, entry in zip(answers, batch.entries, strict=True):
        stop = start + len(entry.query.read)
        wanted = "hidden" in entry.query.read.measures
        result.append(found._replace(hidden=states[start:stop]) if wanted else found)
        start = stop
    return tuple(result)
