"""BD3-LM (Arriola et al. 2025): a diffusion transformer (Peebles and Xie 2023) over blocks of text, without a time.

The network has an input for the noise level that modulates its norms and residuals (adaLN). The published models are
trained without it: the level they see is always zero. So what adaLN makes of it is computed here, once, and becomes a
part of the norms and a vector of gates for each sublayer; a weight stream never reads adaLN's matrices.

A row predicts its own position. The mask is the last id, unless the checkpoint names another.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ridgeway.core.arrays import DoubleArray
from ridgeway.core.errors import ModelError
from ridgeway.core.traits import Attention, LogitShift
from ridgeway.models.architectures.architecture import Architecture, Names, TensorSource
from ridgeway.models.architectures.llama_family import HARMLESS, MOST_LAYERS, check_heads, divided
from ridgeway.models.architectures.masking import block_size, end_ids, mask_id
from ridgeway.models.config import ModelConfig
from ridgeway.models.fields import Fields
from ridgeway.quant.tensor import Tensor

_MLP_RATIO, _EPS, _ENDS = 4, 1e-5, (50256,)  # the last: of GPT-2's vocabulary
_BLOCK, _OUTPUT, _TIME = "backbone.blocks.{i}.", "backbone.output_layer.", "backbone.sigma_map.mlp."
_QKV = "attn_qkv.weight"

# A name that ends in brackets is a part, or a function, of the file's tensor.
_NAMES: Names = {
    "embed": "backbone.vocab_embed.embedding",
    "final_norm": _OUTPUT + "norm_final.weight",
    "final_norm_bias": _OUTPUT + "adaLN_modulation[shift]",
    "head": _OUTPUT + "linear.weight",
    "head_bias": _OUTPUT + "linear.bias",
    **{
        "layers.{i}." + ours: _BLOCK + theirs
        for ours, theirs in {
            "attn_norm": "norm1.weight",
            "attn_norm_bias": "adaLN_modulation[attention shift]",
            "q": _QKV + "[q]",
            "k": _QKV + "[k]",
            "v": _QKV + "[v]",
            "o": "attn_out.weight",
            "attn_scale": "adaLN_modulation[attention gate]",
            "mlp_norm": "norm2.weight",
            "mlp_norm_bias": "adaLN_modulation[mlp shift]",
            "up": "mlp.0.weight",
            "up_bias": "mlp.0.bias",
            "down": "mlp.2.weight",
            "down_bias": "mlp.2.bias",
            "mlp_scale": "adaLN_modulation[mlp gate]",
        }.items()
    },
}


def _config(fields: Fields) -> ModelConfig:
    hidden, heads = fields.integer("hidden_dim", 768), fields.integer("n_heads", 12)
    vocab_size, length = fields.integer("vocab_size", 50258), fields.integer("model_length", 1024)
    modulated = fields.flag("adaln", True)
    if modulated and fields.flag("time_conditioning", False):
        raise fields.wrong("time_conditioning", "false (models that are told the noise level are not supported)")
    attention = _attention(fields)
    config = ModelConfig(
        architecture="bd3lm",
        hidden=hidden,
        layers=fields.integer("n_blocks", 12, most=MOST_LAYERS),
        heads=heads,
        kv_heads=heads,
        head_dim=divided(fields, "hidden_dim", hidden, "n_heads", heads),
        intermediate=_MLP_RATIO * hidden,
        vocab_size=vocab_size,
        max_positions=length,
        rms_eps=_EPS,
        rope_theta=10000.0,
        mlp_bias=True,
        head_bias=True,
        norm="layer",
        norm_bias=modulated,
        residual_gates=modulated,
        activation="gelu",
        gated_mlp=False,
        attention=attention,
        logit_shift=LogitShift.NEXT if attention == "causal" else LogitShift.IN_PLACE,
        block_size=block_size(fields, "block_size", None, length) if attention == "block" else None,
        mask_id=mask_id(fields, vocab_size, vocab_size - 1),
        end_ids=end_ids(fields, vocab_size, _ENDS),
    )
    check_heads(fields, config)
    return config


def _attention(fields: Fields) -> Attention:
    """The class holds the paper's baselines too: autoregressive (causal), and diffusion of whole sequences."""
    blocks = fields.flag("cross_attn", True)
    if not fields.flag("causal", False):
        return "block" if blocks else "bidirectional"
    if blocks:
        raise fields.wrong("causal", "false, as cross_attn is true")
    return "causal"


def _presented(source: Path, config: ModelConfig, tensors: TensorSource) -> TensorSource:
    """The file with q, k and v apart, and with what adaLN makes of the noise level 0."""
    shown = _Presented(source, tensors)
    d = config.hidden
    condition = shown.condition() if config.residual_gates else None
    for i in range(config.layers):
        block = _BLOCK.replace("{i}", str(i))
        shown.split(block + _QKV, ("q", "k", "v"), (3 * d, d))
        if condition is not None:
            parts = ("attention shift", "attention scale", "attention gate", "mlp shift", "mlp scale", "mlp gate")
            made = shown.modulation(block + "adaLN_modulation", condition, d, parts)
            shown.scale(block + "norm1.weight", made["attention scale"])
            shown.scale(block + "norm2.weight", made["mlp scale"])
    if condition is not None:
        made = shown.modulation(_OUTPUT + "adaLN_modulation", condition, d, ("shift", "scale"))
        shown.scale(_OUTPUT + "norm_final.weight", made["scale"])
    return shown


@dataclass
class _Presented:
    """A checkpoint some of whose tensors are replaced by what is computed from them. Raises ModelError like the loader
    for those that are missing or have another shape.
    """

    source: Path
    tensors: TensorSource
    computed: dict[str, Tensor] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        rest = {name: shape for name, shape in self.tensors.shapes.items() if name not in self.used}
        return rest | {name: tensor.shape for name, tensor in self.computed.items()}

    def read(self, name: str, canonical: str | None = None) -> Tensor:
        if name not in self.computed:
            return self.tensors.read(name, canonical)
        tensor = self.computed[name]
        return Tensor(canonical or name, tensor.format, tensor.shape, tensor.data)

    def condition(self) -> DoubleArray:
        """(c,) what the embedding of noise level 0 becomes: its cosines are 1 and its sines 0."""
        first, second = _TIME + "0.weight", _TIME + "2.weight"
        shape = self.tensors.shapes.get(first, ())
        if len(shape) != 2:
            raise ModelError(self.source, f"tensor {first} is missing or no matrix")
        width, frequencies = shape
        inner = self._take(first, shape) @ (np.arange(frequencies) < frequencies // 2)
        inner = _silu(inner + self._take(_TIME + "0.bias", (width,)))
        return _silu(self._take(second, (width, width)) @ inner + self._take(_TIME + "2.bias", (width,)))

    def modulation(
        self, name: str, condition: DoubleArray, hidden: int, parts: tuple[str, ...]
    ) -> Mapping[str, DoubleArray]:
        """The vectors (hidden,) that one adaLN layer makes of the condition; shifts and gates are shown as tensors."""
        size = len(parts) * hidden
        made = self._take(name + ".weight", (size, len(condition))) @ condition + self._take(name + ".bias", (size,))
        vectors = dict(zip(parts, np.split(made, len(parts)), strict=True))
        for part, vector in vectors.items():
            if not part.endswith("scale"):
                shown = f"{name}[{part}]"
                self.computed[shown] = Tensor.of(shown, vector.astype(np.float32))
        return vectors

    def scale(self, name: str, scale: DoubleArray) -> None:
        """A norm's weight times 1 + scale."""
        self.computed[name] = Tensor.of(name, (self._take(name, scale.shape) * (1 + scale)).astype(np.float32))

    def split(self, name: str, parts: tuple[str, ...], shape: tuple[int, int]) -> None:
        """A matrix (outputs, inputs) as equal matrices of consecutive outputs; they stay views of the file."""
        self._expect(name, shape)
        whole = self.tensors.read(name)
        rows = shape[0] // len(parts)
        for place, part in enumerate(parts):
            data = whole.data[place * rows : (place + 1) * rows]
            self.computed[f"{name}[{part}]"] = Tensor(name, whole.format, (rows, shape[1]), data)

    def _take(self, name: str, shape: tuple[int, ...]) -> DoubleArray:
        self._expect(name, shape)
        return self.tensors.read(name).dequantize().astype(np.float64)

    def _expect(self, name: str, shape: tuple[int, ...]) -> None:
        found = self.tensors.shapes.get(name)
        if found is None:
            raise ModelError(self.source, f"tensor {name} is missing; expected one of shape {shape}")
        if found != shape:
            raise ModelError(self.source, f"tensor {name} has shape {found}; expected {shape}")
        self.used.add(name)


def _silu(x: DoubleArray) -> DoubleArray:
    activated: DoubleArray = x * 0.5 * (np.tanh(0.5 * x) + 1.0)
    return activated


ARCHITECTURE = Architecture(
    name="bd3lm",
    hf_class="BD3LM",
    config_from_hf=_config,
    hf_names=_NAMES,
    presented=_presented,
    harmless=(*HARMLESS, re.compile("sampling_eps_(min|max)")),
)
