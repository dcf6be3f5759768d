"""The bytes and FLOPs of a weight stream, counted from the tensors as an executor holds them.

A packed model costs what its packing costs. What is counted, of one stream:

- weights: every tensor of the sublayers that run, once; of the embedding only the rows used; the head only if a row is
  read. A tied head is the embedding, counted once, as the head.
- K/V: each layer reads the keys and values that its rows see (once for all rows of a query, its own rows included, no
  further back than the layer's window) and writes those of its rows.
- activations, per row and layer: the hidden state in and out of both sublayers (4 d), queries, keys and values written
  and read (2 (q + 2 kv)), gate and up written and their product read (3 f; 2 f without a gate); per read row the
  hidden state and the logits. They can stay in a cache, so the floor leaves them out.
- FLOPs: 2 per weight of a matrix and row; the head's per read row only; 4 per visible (row, key), head and element of a
  head (scores and mixing). Norms, rotations and softmax are some thousandths and left out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np

from ridgeway.core.arrays import BoolArray
from ridgeway.core.errors import ModelError, RequestError
from ridgeway.core.query import Batch
from ridgeway.models.config import ModelConfig
from ridgeway.roofline.experts import DEFAULT_SKEW, distinct_experts
from ridgeway.roofline.shape import QueryShape, attention_flops, shared_keys, slot_elements
from ridgeway.roofline.traffic import Cost

_ATTENTION = (
    *("attn_norm", "q", "k", "v", "o", "q_bias", "k_bias", "v_bias", "o_bias", "q_norm", "k_norm"),
    *("attn_norm_bias", "attn_scale"),
    *("q_a", "q_a_norm", "q_b", "kv_a", "kv_a_norm", "kv_b"),
)


class _Running(NamedTuple):
    """The sublayers that run: how many, their bytes (of the experts' one each), and the FLOPs of a row."""

    attention_layers: int
    mlp_layers: int
    weight_bytes: int
    expert_bytes: int
    row_flops: int


class StreamCounter:
    """Counts the weight streams of one model, as one executor holds it.

    held_bytes: bytes of each tensor by canonical name; a tied model has a `head` of its own only if the executor keeps
    a second copy. kv_itemsize, activation_itemsize: bytes of a number of the K/V, and of what passes between matrices.
    expert_skew: how unevenly rows choose experts. Raises ModelError if a tensor is missing, RequestError
    for a skew that is none.
    """

    def __init__(
        self,
        config: ModelConfig,
        held_bytes: Mapping[str, int],
        kv_itemsize: int,
        activation_itemsize: int,
        expert_skew: float = DEFAULT_SKEW,
    ) -> None:
        shapes = config.tensor_shapes()
        missing = [name for name in shapes if name not in held_bytes]
        if missing:
            raise ModelError("cost model", f"bytes of {missing[0]} are not known; every tensor's are needed")
        if not expert_skew >= 0:
            raise RequestError(f"skew={expert_skew:g}: expected 0 (uniform) or more")
        self.config = config
        self.held_bytes = dict(held_bytes)
        self.kv_itemsize = kv_itemsize
        self.activation_itemsize = activation_itemsize
        self.expert_skew = expert_skew
        self._all_windows = Counter(config.windows)
        self._layer_bytes = np.zeros((config.layers, 2), dtype=np.int64)  # (layers, attention or MLP)
        self._layer_flops = np.zeros_like(self._layer_bytes)  # per row
        self._routed_flops = 0  # per row, of all layers
        self._expert_bytes = np.zeros(config.layers, dtype=np.int64)  # of one expert
        for name, shape in shapes.items():
            if name.startswith("layers."):
                _, layer, part = name.split(".")
                place = int(layer), int(part not in _ATTENTION)
                if len(shape) == 3:  # an expert per entry
                    assert config.experts is not None
                    self._expert_bytes[int(layer)] += held_bytes[name] // shape[0]
                    routed = 2 * config.experts.active * shape[1] * shape[2]
                    self._layer_flops[place] += routed
                    self._routed_flops += routed
                    continue
                self._layer_bytes[place] += held_bytes[name]
                self._layer_flops[place] += 2 * shape[0] * shape[1] if len(shape) == 2 else 0
        self._whole = self._running(np.ones((config.layers, 2), dtype=np.bool_))
        self._embed_row_bytes = held_bytes["embed"] // config.vocab_size
        beyond = [name for name in shapes if not name.startswith("layers.") and name not in ("embed", "head")]
        self._head_bytes = held_bytes.get("head", held_bytes["embed"]) + sum(held_bytes[name] for name in beyond)
        self._head_is_embedding = "head" not in held_bytes
        self.slot_bytes = slot_elements(config) * kv_itemsize

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors held."""
        return sum(self.held_bytes.values())

    def count(
        self,
        shapes: Iterable[QueryShape],
        sublayers: BoolArray | None = None,
        experts_touched: float | None = None,
    ) -> Cost:
        """Bytes and FLOPs of one weight stream over these queries.

        sublayers: (layers, 2) which attention and MLP sublayers run; None: all. experts_touched: distinct experts of
        a layer, if an executor counted them; None: as many as the skew says.
        """
        config = self.config
        shapes = list(shapes)
        rows = sum(shape.rows for shape in shapes)
        reads = sum(shape.reads for shape in shapes)
        run = self._whole if sublayers is None else self._running(sublayers)
        alike = [(next(same), 1 + sum(1 for _ in same)) for _, same in groupby(shapes, key=id)]
        kv_read = attention = 0
        for window, layers in self._windows(sublayers).items():
            for shape, times in alike:
                seen = shape.seen(window)
                kv_read += times * layers * seen.keys * self.slot_bytes
                attention += times * layers * attention_flops(config, shape, seen)
        weights = run.weight_bytes + (self._head_bytes if reads else 0)
        if not (reads and self._head_is_embedding):
            weights += rows * self._embed_row_bytes
        spread = 0
        if config.experts is not None and rows:
            active, one = config.experts.active, run.expert_bytes
            touched = experts_touched or distinct_experts(config.experts, rows, self.expert_skew)
            spread = round((touched - active) * one)
            weights += active * one + spread
        return Cost(
            weight_bytes=weights,
            expert_spread_bytes=spread,
            kv_read_bytes=kv_read,
            kv_write_bytes=rows * run.attention_layers * self.slot_bytes,
            activation_bytes=self._activations(rows, reads, run.attention_layers, run.mlp_layers),
            matrix_flops=rows * run.row_flops,
            attention_flops=attention,
            head_flops=reads * 2 * config.vocab_size * config.hidden,
            rows=rows,
            streams=1,
        )

    def _running(self, sublayers: BoolArray) -> _Running:
        attention_layers, mlp_layers = sublayers.sum(axis=0).tolist()
        return _Running(
            attention_layers,
            mlp_layers,
            weight_bytes=int(self._layer_bytes[sublayers].sum()),
            expert_bytes=int(self._expert_bytes[sublayers[:, 1]].sum()),
            row_flops=int(self._layer_flops[sublayers].sum()),
        )

    def count_batch(self, batch: Batch) -> Cost:
        """Bytes and FLOPs of the weight stream that runs `batch`."""
        cost = self.count((QueryShape.of(entry) for entry in batch.entries), batch.sublayers)
        windows = self._windows(batch.sublayers)
        shared = sum(layers * shared_keys(batch.entries, window) for window, layers in windows.items())
        return replace(cost, kv_shared_bytes=shared * self.slot_bytes) if shared else cost

    def _windows(self, sublayers: BoolArray | None) -> Counter[int | None]:
        """How many of the attention sublayers that run have each window."""
        if sublayers is None:
            return self._all_windows
        return Counter(window for window, run in zip(self.config.windows, sublayers[:, 0], strict=True) if run)

    def _activations(self, rows: int, reads: int, attention_layers: int, mlp_layers: int) -> int:
        config = self.config
        q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
        if config.latent is not None:
            q, kv = config.heads * (config.latent.key_dim + config.latent.rope_dim), slot_elements(config) // 2
        experts, width = config.experts, config.intermediate
        if experts is not None:
            width = experts.active * experts.intermediate + experts.shared_intermediate
        attention = attention_layers * (2 * config.hidden + 2 * (q + 2 * kv))
        mlp = mlp_layers * (2 * config.hidden + (3 if config.gated_mlp else 2) * width)
        head = config.hidden + config.vocab_size
        return (rows * (attention + mlp) + reads * head) * self.activation_itemsize
