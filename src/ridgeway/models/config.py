"""What a decoder of the Llama family is, as data.

One definition serves every architecture; an architecture file in `models/architectures` says how a checkpoint's
configuration and tensor names translate into it.
"""

from dataclasses import dataclass, field
from typing import Literal

from ridgeway.core.traits import LogitShift, ModelTraits


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's stretch of rotary frequencies (Llama 3.1 reference, `apply_scaling`)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a decoder and the switches in which architectures differ.

    windows: for each layer how many positions back a row sees, itself included; None: all. rope_scaling: a rule, or
    factors per frequency (head_dim / 2,) as some GGUF files carry them (a frequency is divided by its factor).
    """

    architecture: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab_size: int
    max_positions: int
    rms_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | tuple[float, ...] | None = None
    tied_head: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    windows: tuple[int | None, ...] = field(default=())
    end_ids: tuple[int, ...] = ()
    attention: Literal["causal", "bidirectional", "block"] = "causal"
    logit_shift: LogitShift = LogitShift.NEXT
    mask_id: int | None = None
    block_size: int | None = None

    def __post_init__(self) -> None:
        if not self.windows:
            object.__setattr__(self, "windows", (None,) * self.layers)

    @property
    def traits(self) -> ModelTraits:
        return ModelTraits(
            vocab_size=self.vocab_size,
            max_positions=self.max_positions,
            end_ids=self.end_ids,
            attention=self.attention,
            logit_shift=self.logit_shift,
            mask_id=self.mask_id,
            block_size=self.block_size,
        )

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight tensor by canonical name; matrices are (outputs, inputs).

        Names: `embed`, `final_norm`, `head` (absent when tied), and for layer i `layers.i.` followed by `attn_norm`,
        `q`, `k`, `v`, `o`, `q_bias`, `k_bias`, `v_bias`, `o_bias`, `q_norm`, `k_norm`, `mlp_norm`, `gate`, `up`,
        `down`, `gate_bias`, `up_bias`, `down_bias`.
        """
        d, f = self.hidden, self.intermediate
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        layer: dict[str, tuple[int, ...]] = {
            "attn_norm": (d,),
            "q": (q, d),
            "k": (kv, d),
            "v": (kv, d),
            "o": (d, q),
            "mlp_norm": (d,),
            "gate": (f, d),
            "up": (f, d),
            "down": (d, f),
        }
        if self.qkv_bias:
            layer |= {"q_bias": (q,), "k_bias": (kv,), "v_bias": (kv,)}
        if self.output_bias:
            layer |= {"o_bias": (d,)}
        if self.mlp_bias:
            layer |= {"gate_bias": (f,), "up_bias": (f,), "down_bias": (d,)}
        if self.qk_norm:
            layer |= {"q_norm": (self.head_dim,), "k_norm": (self.head_dim,)}
        shapes: dict[str, tuple[int, ...]] = {"embed": (self.vocab_size, d)}
        for i in range(self.layers):
            shapes |= {f"layers.{i}.{name}": shape for name, shape in layer.items()}
        shapes["final_norm"] = (d,)
        if not self.tied_head:
            shapes["head"] = (self.vocab_size, d)
        return shapes
