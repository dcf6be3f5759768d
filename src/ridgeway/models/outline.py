"""The sizes of any decoder, read from its `config.json`, for predictions: no weights, and no executor that runs it.

`models.architectures` is strict, since a detail that is missed there makes text wrong. What a model costs depends on
sizes alone, so this reader takes mixtures of experts, latent attention and any activation. It still refuses what it
would count wrongly (state-space and linear-attention layers), and says which field told it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ridgeway.core.errors import ModelError
from ridgeway.models.config import Experts, LatentAttention, ModelConfig
from ridgeway.models.fields import Fields

_MOST_LAYERS = 4096
_TIED_BY_DEFAULT = ("gemma", "gpt2", "smollm")
_PLAIN_MLP = ("phi", "gpt2", "gptj", "gpt_neox", "starcoder2", "falcon", "opt", "bloom", "nemotron", "bd3lm")
_NOT_COUNTED = (
    *("hybrid_override_pattern", "linear_num_key_heads", "ssm_cfg", "state_size", "mamba_d_state", "mamba_d_ssm"),
    *("linear_attn_config", "attn_layer_period", "global_head_dim", "index_topk", "block_configs"),
)
_QKV_BIAS = ("qwen2", "phi", "Dream", "Fast_dLLM_Qwen")
# LLaDA, BD3-LM and GPT-2 name the same sizes otherwise.
_ALSO = {
    "hidden_size": ("d_model", "n_embd", "hidden_dim"),
    "num_hidden_layers": ("n_layers", "n_layer", "n_blocks"),
    "num_attention_heads": ("n_heads", "n_head"),
    "num_key_value_heads": ("n_kv_heads",),
    "intermediate_size": ("mlp_hidden_size", "n_inner"),
    "max_position_embeddings": ("max_sequence_length", "n_positions", "seq_length", "model_length"),
    "vocab_size": ("embedding_size", "padded_vocab_size"),
    "tie_word_embeddings": ("weight_tying",),
    "num_experts": ("num_local_experts", "n_routed_experts"),
    "num_experts_per_tok": ("experts_per_token", "num_experts_per_token", "moe_topk"),
}
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


@dataclass(frozen=True)
class Outline:
    """What a prediction needs of a model. precision: that of its checkpoint. held_bytes: of each tensor, where a file
    says so. source: where the sizes come from.
    """

    name: str
    config: ModelConfig
    precision: str = "bf16"
    source: str = ""
    held_bytes: Mapping[str, int] | None = None


def outline_of(name: str, fields: Fields) -> Outline:
    """Raises ModelError for a configuration without the needed fields, or with layers that are not counted."""
    nested = fields.section("text_config")
    whole = _renamed(nested if nested is not None and "hidden_size" in nested else fields)
    dtype = whole.text("torch_dtype", whole.text("dtype", fields.text("torch_dtype", "bfloat16")))
    return Outline(name, _config(whole), _precision(fields, dtype), str(fields.source))


def _precision(fields: Fields, dtype: str) -> str:
    packing = fields.section("quantization_config")
    if packing is not None:
        method = packing.text("quant_method", packing.text("quant_algo", ""))
        known = {"mxfp4": "mxfp4", "fp8": "fp8", "gptq": "int4-g128", "awq": "int4-g128", "bitsandbytes": "llm.int8"}
        if method in known:
            return known[method]
    return _DTYPES.get(dtype, "bf16")


def _renamed(fields: Fields) -> Fields:
    values = dict(fields.values)
    for ours, others in _ALSO.items():
        if values.get(ours) is None:
            values[ours] = next((values[other] for other in others if values.get(other) is not None), None)
    return Fields(fields.source, values)


def _config(fields: Fields) -> ModelConfig:
    _refuse_what_is_not_counted(fields)
    family = fields.text("model_type", "llama")
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    layers = fields.integer("num_hidden_layers", most=_MOST_LAYERS)
    latent = _latent(fields)
    head_dim = fields.integer("head_dim", max(1, hidden // heads))
    kv_heads = fields.integer("num_key_value_heads", heads)
    if heads % kv_heads:
        raise fields.wrong("num_key_value_heads", f"a number that divides num_attention_heads, {heads}")
    experts = _experts(fields, layers)
    default = None if experts is None else experts.intermediate
    if family in ("gpt2", "gpt_bigcode", "bd3lm", "llada"):
        default = fields.integer("mlp_ratio", 4) * hidden
    bias = fields.flag("attention_bias", family in _QKV_BIAS)
    return ModelConfig(
        architecture=family,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=fields.integer("intermediate_size", default),
        vocab_size=fields.integer("vocab_size"),
        max_positions=fields.integer("max_position_embeddings", 4096),
        rms_eps=1e-6,
        rope_theta=10000.0,
        tied_head=fields.flag("tie_word_embeddings", family.startswith(_TIED_BY_DEFAULT)),
        qkv_bias=bias,
        windows=tuple(_windows(fields, family, layers)),
        gated_mlp=not (family in _PLAIN_MLP and "gated" not in fields),
        experts=experts,
        latent=latent,
    )


def _refuse_what_is_not_counted(fields: Fields) -> None:
    for name in _NOT_COUNTED:
        if name in fields:
            raise ModelError(
                fields.source, f"{name} is set: layers other than full or windowed attention are not counted"
            )
    types = fields.values.get("layer_types")
    if types is not None and (
        not isinstance(types, list) or not set(map(str, types)) <= {"full_attention", "sliding_attention"}
    ):
        raise fields.wrong("layer_types", "a list of 'full_attention' and 'sliding_attention'")
    if fields.integer("interleave_moe_layer_step", 1) != 1 or fields.integer("decoder_sparse_step", 1) != 1:
        raise ModelError(fields.source, "experts in some layers only (every second, say) are not counted")


def _experts(fields: Fields, layers: int) -> Experts | None:
    if "num_experts" not in fields or fields.integer("num_experts", least=0) <= 1:
        return None
    count = fields.integer("num_experts")
    width = fields.integer("moe_intermediate_size", fields.integer("expert_intermediate_size", 0, least=0), least=0)
    width = width or fields.integer("intermediate_size")
    shared = fields.integer("shared_expert_intermediate_size", 0, least=0)
    shared = shared or width * fields.integer("n_shared_experts", 0, least=0)
    if fields.text("model_type", "") == "llama4_text":
        shared = width
    return Experts(
        count=count,
        active=fields.integer("num_experts_per_tok", most=count),
        intermediate=width,
        shared_intermediate=shared,
        first=fields.integer("first_k_dense_replace", 0, least=0, most=layers),
    )


def _latent(fields: Fields) -> LatentAttention | None:
    if "kv_lora_rank" not in fields:
        return None
    return LatentAttention(
        rank=fields.integer("kv_lora_rank"),
        rope_dim=fields.integer("qk_rope_head_dim"),
        key_dim=fields.integer("qk_nope_head_dim"),
        value_dim=fields.integer("v_head_dim"),
        query_rank=fields.integer("q_lora_rank") if "q_lora_rank" in fields else None,
    )


def _windows(fields: Fields, family: str, layers: int) -> Iterator[int | None]:
    """Positions back that each layer sees, as the class of each family reads its fields."""
    used = fields.flag("use_sliding_window", not family.startswith("qwen"))
    window = fields.integer("sliding_window") if "sliding_window" in fields and used else None
    types = fields.values.get("layer_types")
    if isinstance(types, list):
        if len(types) != layers:
            raise fields.wrong("layer_types", f"{layers} entries")
        yield from (window if kind == "sliding_attention" else None for kind in types)
        return
    pattern = fields.integer("sliding_window_pattern", 6 if family.startswith("gemma3") else 1)
    for layer in range(layers):
        full = pattern > 1 and (layer + 1) % pattern == 0
        yield None if full else window
