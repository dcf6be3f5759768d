"""The decoder of the Llama family in torch, for training: the one definition that the executors run, with gradients.

Parameters carry the canonical names of `ModelConfig.tensor_shapes`, so that weights go in and out without a table.
Which rows see which is an argument: autoregressive, masked-diffusion and block-diffusion models differ in nothing else.
"""

from collections.abc import Mapping, MutableMapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ridgeway.core.errors import RequestError
from ridgeway.models.config import ModelConfig
from ridgeway.models.rope import rope_frequencies
from ridgeway.training.lora import LowRank


class Layer(nn.Module):
    """One layer: its weights by their short names, and its forward pass."""

    def __init__(self, config: ModelConfig, number: int) -> None:
        super().__init__()
        self.config = config
        self.window = config.windows[number]
        prefix = f"layers.{number}."
        for name, shape in config.tensor_shapes().items():
            if name.startswith(prefix):
                self.register_parameter(name.removeprefix(prefix), nn.Parameter(torch.empty(shape)))
        self.adapters: MutableMapping[str, LowRank] = nn.ModuleDict()  # type: ignore[assignment]  # by matrix

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], sees: Tensor, distance: Tensor) -> Tensor:
        """x: (batch, rows, hidden). sees: (rows, rows). distance: (rows, rows), how far back each row lies."""
        x = x + self._attention(self._norm("attn_norm", x), angles, sees, distance)
        h = self._norm("mlp_norm", x)
        return x + self._project("down", functional.silu(self._project("gate", h)) * self._project("up", h))

    def _attention(self, h: Tensor, angles: tuple[Tensor, Tensor], sees: Tensor, distance: Tensor) -> Tensor:
        batch, rows, _ = h.shape
        q = self._project("q", h).view(batch, rows, self.config.heads, -1)  # (batch, rows, heads, head_dim)
        k = self._project("k", h).view(batch, rows, self.config.kv_heads, -1)
        v = self._project("v", h).view(batch, rows, self.config.kv_heads, -1)
        if self.config.qk_norm:
            q, k = self._norm("q_norm", q), self._norm("k_norm", k)
        q, k = rotate(q, *angles), rotate(k, *angles)
        if self.window is not None:
            sees = sees & (distance < self.window)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # (batch, heads, rows, head_dim)
        grouped = self.config.heads != self.config.kv_heads
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=sees, enable_gqa=grouped)
        return self._project("o", mixed.transpose(1, 2).flatten(-2))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight = self.get_parameter(name)
        return functional.rms_norm(x, weight.shape, weight, self.config.rms_eps)

    def _project(self, name: str, x: Tensor) -> Tensor:
        y = functional.linear(x, self.get_parameter(name), getattr(self, f"{name}_bias", None))
        return y + self.adapters[name](x) if name in self.adapters else y


class Decoder(nn.Module):
    """Logits of rows that see what they are told to.

    Raises RequestError for a configuration with parts that are not trained here (experts, latent attention).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        plain = config.norm == "rms" and not config.norm_bias and config.activation == "silu" and config.gated_mlp
        if not plain or config.experts is not None or config.latent is not None or config.residual_gates:
            raise RequestError(
                f"{config.architecture} models are not trained: expected a dense decoder of Llama's kind"
            )
        self.config = config
        shapes = config.tensor_shapes()
        self.layers: Sequence[Layer] = nn.ModuleList(Layer(config, i) for i in range(config.layers))  # type: ignore
        for name in shapes.keys() - dict(self.named_parameters()).keys():
            self.register_parameter(name, nn.Parameter(torch.empty(shapes[name])))
        self.frequencies = torch.from_numpy(rope_frequencies(config))

    def forward(self, tokens: Tensor, positions: Tensor, sees: Tensor) -> Tensor:
        """Logits (batch, rows, vocabulary), float32.

        tokens: (batch, rows). positions: (rows,). sees: (rows, rows) boolean, [i, j]: row i sees row j.
        """
        angles = positions[:, None].double() * self.frequencies  # (rows, head_dim / 2)
        turn = angles.cos().float()[:, None, :], angles.sin().float()[:, None, :]
        distance = positions[:, None] - positions[None, :]
        x = functional.embedding(tokens, self.get_parameter("embed"))
        for layer in self.layers:
            x = layer(x, turn, sees, distance)
        x = functional.rms_norm(x, (self.config.hidden,), self.get_parameter("final_norm"), self.config.rms_eps)
        head = self.get_parameter("embed" if self.config.tied_head else "head")
        return functional.linear(x, head, getattr(self, "head_bias", None)).float()

    def initialize(self, generator: torch.Generator) -> None:
        """Fresh weights: matrices normal with variance 1 / inputs, those that write to the residual stream smaller by
        sqrt(2 layers) (GPT-2, section 2.3), norms 1, biases 0.
        """
        for name, weight in self.named_parameters():
            part = name.rsplit(".", 1)[-1]
            with torch.no_grad():
                if part.endswith("norm"):
                    weight.fill_(1.0)
                elif part.endswith("bias"):
                    weight.zero_()
                else:
                    deviation = weight.shape[-1] ** -0.5
                    if part in ("o", "down"):
                        deviation /= (2 * self.config.layers) ** 0.5
                    weight.normal_(0.0, deviation, generator=generator)

    def adapt(self, rank: int, scale: float, generator: torch.Generator) -> None:
        """Train low-rank changes of the layers' matrices, and of nothing else."""
        self.requires_grad_(False)
        for layer in self.layers:
            for name in ("q", "k", "v", "o", "gate", "up", "down"):
                layer.adapters[name] = LowRank(layer.get_parameter(name), rank, scale, generator)

    def weights(self) -> Mapping[str, Tensor]:
        """Every weight by its canonical name, low-rank changes added."""
        merged = {name: weight.detach() for name, weight in self.named_parameters() if ".adapters." not in name}
        for number, layer in enumerate(self.layers):
            for name, adapter in layer.adapters.items():
                merged[f"layers.{number}.{name}"] = merged[f"layers.{number}.{name}"] + adapter.change().detach()
        return merged

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Take weights by canonical name, such as those of `Model.tensors`, dequantized."""
        for name, weight in self.named_parameters():
            with torch.no_grad():
                weight.copy_(torch.from_numpy(np.array(weights[name])))


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021): x (..., rows, heads, head_dim), halves rotated as pairs."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1).to(x.dtype)
