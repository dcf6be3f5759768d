"""Writes the golden Hugging Face checkpoints as GGUF files, with the `gguf` package and the converter's
conventions.
"""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

from ridgeway.models.architectures.architecture import file_name
from ridgeway.models.architectures.llama_family import GGUF_NAMES, HF_NAMES
from ridgeway.models.json_file import read_json
from ridgeway.models.model import Model

GOLDEN = Path(__file__).parent.parent / "golden"


def interleaved(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rows in the order of rotary pairs next to each other, as `llama` GGUF files have them."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def gguf_tensors(golden: str) -> dict[str, np.ndarray]:
    """The tensors of a golden checkpoint by GGUF name, float32."""
    config = read_json(GOLDEN / golden / "config.json")
    theirs = load_file(GOLDEN / golden / "model.safetensors")
    by_hf_name = {
        file_name(HF_NAMES, name): (file_name(GGUF_NAMES, name), name)
        for name in [*_plain_names(), *_layer_names(config["num_hidden_layers"])]
    }
    tensors = {}
    for hf_name, values in theirs.items():
        name, canonical = by_hf_name[hf_name]
        part = canonical.rsplit(".", 1)[-1]
        if config["model_type"] == "llama" and part in ("q", "k"):
            heads = config["num_attention_heads" if part == "q" else "num_key_value_heads"]
            values = interleaved(values, heads)
        tensors[name] = values
    return tensors


def write_gguf(
    path: Path,
    golden: str,
    *,
    tensors: dict[str, np.ndarray] | None = None,
    packed: dict[str, gguf.GGMLQuantizationType] | None = None,
    metadata: dict[str, Any] | None = None,
) -> Path:
    """A GGUF file of a golden checkpoint. tensors: instead of its own. packed: types by GGUF name, F32 for
    the rest. metadata: further keys (text, int, float, bool or list); None leaves a key out.
    """
    config = read_json(GOLDEN / golden / "config.json")
    name = config["model_type"]
    values: dict[str, Any] = {
        f"{name}.block_count": config["num_hidden_layers"],
        f"{name}.context_length": config["max_position_embeddings"],
        f"{name}.embedding_length": config["hidden_size"],
        f"{name}.feed_forward_length": config["intermediate_size"],
        f"{name}.attention.head_count": config["num_attention_heads"],
        f"{name}.attention.head_count_kv": config["num_key_value_heads"],
        f"{name}.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        f"{name}.rope.freq_base": float(config["rope_theta"]),
        "tokenizer.ggml.model": "none",
        "tokenizer.ggml.eos_token_id": 2,
    }
    if "head_dim" in config:
        values |= {f"{name}.attention.{part}_length": config["head_dim"] for part in ("key", "value")}
    writer = gguf.GGUFWriter(path, name)
    for key, value in (values | (metadata or {})).items():
        if value is not None:
            _add(writer, key, value)
    for tensor_name, weights in (gguf_tensors(golden) if tensors is None else tensors).items():
        type = (packed or {}).get(tensor_name)
        if type is None:
            writer.add_tensor(tensor_name, np.ascontiguousarray(weights))
        else:
            writer.add_tensor(tensor_name, gguf.quants.quantize(weights, type), raw_dtype=type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def same_weights(one: Model, other: Model) -> bool:
    """Whether two models have the same tensors, value for value."""
    return one.tensors.keys() == other.tensors.keys() and all(
        np.array_equal(tensor.dequantize(), other.tensors[name].dequantize()) for name, tensor in one.tensors.items()
    )


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _plain_names() -> list[str]:
    return [name for name in HF_NAMES if "{i}" not in name]


def _layer_names(layers: int) -> list[str]:
    return [name.replace("{i}", str(i)) for name in HF_NAMES if "{i}" in name for i in range(layers)]
