"""What a decoder of the Llama family is, as data.

One definition serves every architecture; an architecture file in `models/architectures` says how a checkpoint's
configuration and tensor names translate into it.
"""

from dataclasses import dataclass, field
from math import prod
from typing import Literal

from ridgeway.core.traits import Attention, LogitShift, ModelTraits


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's stretch of rotary frequencies (Llama 3.1 reference, `apply_scaling`)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of the MLP (Shazeer et al. 2017): a router sends each row to `active` of `count`.

    intermediate: width of one expert. shared_intermediate: of an MLP that every row passes besides. first: layers
    before it have a plain MLP.
    """

    count: int
    active: int
    intermediate: int
    shared_intermediate: int = 0
    first: int = 0


@dataclass(frozen=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, section 2.1): a row caches one compressed vector, not keys and values.

    rank: of that vector; rope_dim: of the rotated key beside it, shared by all heads. query_rank: of compressed
    queries, None: they are not compressed. key_dim, value_dim: of a head, unrotated, once decompressed.
    """

    rank: int
    rope_dim: int
    key_dim: int
    value_dim: int
    query_rank: int | None = None


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a decoder and the switches in which architectures differ.

    windows: for each layer how many positions back a row sees, itself included; None: all. rope_scaling: a rule, or
    factors per frequency (head_dim / 2,) as some GGUF files carry them (a frequency is divided by its factor).
    norm, norm_bias: root mean square or mean and variance (Ba et al. 2016), plus a vector; rms_eps: of either.
    residual_gates: a vector that what a sublayer adds to the residual is multiplied with. gated_mlp: three matrices,
    not two. attention to block_size: see `core.traits`. experts, latent: None but for mixtures of experts and latent
    attention, whose costs are known though no executor runs them.
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
    head_bias: bool = False
    qk_norm: bool = False
    norm: Literal["rms", "layer"] = "rms"
    norm_bias: bool = False
    residual_gates: bool = False
    activation: Literal["silu", "gelu"] = "silu"
    windows: tuple[int | None, ...] = field(default=())
    end_ids: tuple[int, ...] = ()
    attention: Attention = "causal"
    logit_shift: LogitShift = LogitShift.NEXT
    mask_id: int | None = None
    block_size: int | None = None
    mask_shift: LogitShift = LogitShift.NEXT
    gated_mlp: bool = True
    experts: Experts | None = None
    latent: LatentAttention | None = None

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
            mask_shift=self.mask_shift,
        )

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight tensor by canonical name; matrices are (outputs, inputs).

        Names: `embed`, `final_norm`, `head` (absent when tied), `final_norm_bias`, `head_bias`, and for layer i
        `layers.i.` followed by `attn_norm`, `attn_norm_bias`, `q`, `k`, `v`, `o`, `q_bias`, `k_bias`, `v_bias`,
        `o_bias`, `q_norm`, `k_norm`, `attn_scale`, `mlp_norm`, `mlp_norm_bias`, `gate`, `up`, `down`, `gate_bias`,
        `up_bias`, `down_bias`, `mlp_scale` (this and `attn_scale` are the residual gates). Mixtures of experts:
        `router`, `expert_gate`, `expert_up`, `expert_down` (experts, outputs, inputs), `shared_gate`, `shared_up`,
        `shared_down`. Latent attention: `q_a`, `q_a_norm`, `q_b` (or `q`), `kv_a`, `kv_a_norm`, `kv_b`, `o`.
        """
        d = self.hidden
        shapes: dict[str, tuple[int, ...]] = {"embed": (self.vocab_size, d)}
        attention, plain = self._attention_shapes(), self._mlp_shapes()
        mixture = plain if self.experts is None else self._expert_shapes(self.experts)
        if self.norm_bias:
            attention |= {"attn_norm_bias": (d,)}
            plain, mixture = (mlp | {"mlp_norm_bias": (d,)} for mlp in (plain, mixture))
        if self.residual_gates:
            attention |= {"attn_scale": (d,)}
            plain, mixture = (mlp | {"mlp_scale": (d,)} for mlp in (plain, mixture))
        first = self.experts.first if self.experts is not None else 0
        for i in range(self.layers):
            layer = attention | (plain if i < first else mixture)
            shapes |= {f"layers.{i}.{name}": shape for name, shape in layer.items()}
        shapes["final_norm"] = (d,)
        if self.norm_bias:
            shapes["final_norm_bias"] = (d,)
        if not self.tied_head:
            shapes["head"] = (self.vocab_size, d)
        if self.head_bias:
            shapes["head_bias"] = (self.vocab_size,)
        return shapes

    @property
    def parameters(self) -> int:
        """Weights of all tensors."""
        return sum(prod(shape) for shape in self.tensor_shapes().values())

    def _attention_shapes(self) -> dict[str, tuple[int, ...]]:
        d = self.hidden
        if self.latent is not None:
            return {"attn_norm": (d,)} | self._latent_shapes(self.latent)
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        layer: dict[str, tuple[int, ...]] = {
            "attn_norm": (d,),
            "q": (q, d),
            "k": (kv, d),
            "v": (kv, d),
            "o": (d, q),
        }
        if self.qkv_bias:
            layer |= {"q_bias": (q,), "k_bias": (kv,), "v_bias": (kv,)}
        if self.output_bias:
            layer |= {"o_bias": (d,)}
        if self.qk_norm:
            layer |= {"q_norm": (self.head_dim,), "k_norm": (self.head_dim,)}
        return layer

    def _latent_shapes(self, latent: LatentAttention) -> dict[str, tuple[int, ...]]:
        d, queries = self.hidden, self.heads * (latent.key_dim + latent.rope_dim)
        layer: dict[str, tuple[int, ...]] = {"q": (queries, d)}
        if latent.query_rank is not None:
            rank = latent.query_rank
            layer = {"q_a": (rank, d), "q_a_norm": (rank,), "q_b": (queries, rank)}
        return layer | {
            "kv_a": (latent.rank + latent.rope_dim, d),
            "kv_a_norm": (latent.rank,),
            "kv_b": (self.heads * (latent.key_dim + latent.value_dim), latent.rank),
            "o": (d, self.heads * latent.value_dim),
        }

    def _mlp_shapes(self) -> dict[str, tuple[int, ...]]:
        d, f = self.hidden, self.intermediate
        layer: dict[str, tuple[int, ...]] = {"mlp_norm": (d,), "gate": (f, d), "up": (f, d), "down": (d, f)}
        if self.mlp_bias:
            layer |= {"gate_bias": (f,), "up_bias": (f,), "down_bias": (d,)}
        if not self.gated_mlp:
            layer = {name: shape for name, shape in layer.items() if not name.startswith("gate")}
        return layer

    def _expert_shapes(self, experts: Experts) -> dict[str, tuple[int, ...]]:
        d, f, n = self.hidden, experts.intermediate, experts.count
        layer: dict[str, tuple[int, ...]] = {
            "mlp_norm": (d,),
            "router": (n, d),
            "expert_gate": (n, f, d),
            "expert_up": (n, f, d),
            "expert_down": (n, d, f),
        }
        if experts.shared_intermediate:
            f = experts.shared_intermediate
            layer |= {"shared_gate": (f, d), "shared_up": (f, d), "shared_down": (d, f)}
        return layer
