import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf_checkpoints import GOLDEN, gguf_tensors, same_weights, write_gguf

from ridgeway.core.errors import ModelError
from ridgeway.models.gguf import read_gguf
from ridgeway.models.loading import load_model
from ridgeway.models.rope import rope_frequencies

Q4_1, Q8_0, F16, BF16 = (
    gguf.GGMLQuantizationType.Q4_1,
    gguf.GGMLQuantizationType.Q8_0,
    gguf.GGMLQuantizationType.F16,
    gguf.GGMLQuantizationType.BF16,
)


@pytest.mark.parametrize("golden", ["llama_tied", "llama_untied", "qwen2", "qwen3"])
def test_a_gguf_file_has_the_weights_of_the_folder_it_was_made_of(golden: str, tmp_path: Path) -> None:
    from_gguf = load_model(write_gguf(tmp_path / "model.gguf", golden))
    from_folder = load_model(GOLDEN / golden)
    assert same_weights(from_gguf, from_folder)
    assert from_gguf.config == from_folder.config


def test_metadata_and_packed_tensors_are_those_that_the_gguf_package_reads(tmp_path: Path) -> None:
    tensors = gguf_tensors("llama_tied")
    types = [Q4_1, Q8_0, F16, BF16]
    matrices = [name for name, values in tensors.items() if values.ndim == 2]
    packed = {name: types[i % len(types)] for i, name in enumerate(matrices)}
    words = {"words": ["a", "bé", "", "日本"], "numbers": [1, -2, 3], "yes": True}
    path = write_gguf(tmp_path / "model.gguf", "llama_tied", packed=packed, metadata=words)
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)
    for key, field in theirs.fields.items():
        if not key.startswith("GGUF."):
            value = ours.metadata[key]
            expected = field.contents()
            assert (value.tolist() if isinstance(value, np.ndarray) else value) == pytest.approx(expected)
    for tensor in theirs.tensors:
        mine = ours.read(tensor.name)
        assert mine.format.name == tensor.tensor_type.name
        assert np.array_equal(
            mine.dequantize().reshape(-1), gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(-1)
        )


def test_rows_of_q_and_k_are_put_back_in_order_without_unpacking_them(tmp_path: Path) -> None:
    packed = {"blk.0.attn_q.weight": Q8_0, "blk.0.attn_k.weight": Q4_1}
    model = load_model(write_gguf(tmp_path / "model.gguf", "llama_tied", packed=packed))
    folder = load_model(GOLDEN / "llama_tied")
    for name, type in (("layers.0.q", Q8_0), ("layers.0.k", Q4_1)):
        rounded = gguf.quants.dequantize(gguf.quants.quantize(folder.tensors[name].dequantize(), type), type)
        assert model.tensors[name].format.name == type.name
        assert np.array_equal(model.tensors[name].dequantize(), rounded)


def test_rope_factors_in_the_file_become_part_of_the_configuration(tmp_path: Path) -> None:
    """Llama 3's scaling, which a folder states as a rule and a GGUF file as factors, gives the same
    frequencies.
    """
    folder = load_model(GOLDEN / "llama3_rope")
    plain = folder.config.rope_theta ** -(np.arange(0, 16, 2) / 16)
    factors = (plain / rope_frequencies(folder.config)).astype(np.float32)
    tensors = gguf_tensors("llama3_rope") | {"rope_freqs.weight": factors}
    model = load_model(write_gguf(tmp_path / "model.gguf", "llama3_rope", tensors=tensors))
    assert model.config.rope_scaling == tuple(float(factor) for factor in factors)
    assert np.allclose(rope_frequencies(model.config), rope_frequencies(folder.config), rtol=1e-6)
    assert "rope_freqs.weight" not in model.tensors


def test_tensors_are_views_of_the_mapped_file(tmp_path: Path) -> None:
    file = read_gguf(write_gguf(tmp_path / "model.gguf", "qwen2"))
    data = file.read("token_embd.weight").data
    assert not data.flags.owndata
    assert not data.flags.writeable


def test_an_unsupported_tensor_type_is_named_with_the_supported_ones(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", "llama_tied")
    _patch_tensor(path, "blk.0.attn_q.weight", type=10)
    with pytest.raises(ModelError, match=r"blk\.0\.attn_q\.weight has type Q2_K.*supported: F32, F16, BF16, Q4_0"):
        load_model(path)


def test_a_tensor_behind_the_end_of_the_file_is_named(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", "llama_tied")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        ModelError, match=r"tensor \S+ of shape .* would end at byte \d+, but the file ends at byte \d+"
    ):
        load_model(path)


def test_an_offset_off_the_alignment_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", "llama_tied")
    _patch_tensor(path, "blk.0.attn_q.weight", offset=33)
    with pytest.raises(ModelError, match="multiple of 32"):
        load_model(path)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"", "cannot be read"),
        (b"GGML", "expected a GGUF file"),
        (b"GGUF" + struct.pack(">I", 3), "3, big endian"),
        (b"GGUF" + struct.pack("<I", 1), "GGUF version 1; expected 2 or 3"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "before the end of 1152921504606846976 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "metadata keys"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62) + bytes(20), "before the end of a metadata key"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 4, 2**61), "values of 'k'"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 8, 2**61), "strings of 'k'"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 9, 1) + bytes(8), "value type 9"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<II", 99, 1), "value type 99"),
    ],
)  # fmt: skip
def test_a_head_that_cannot_be_true_is_refused_before_anything_is_allocated(
    start: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(start)
    with pytest.raises(ModelError, match=message):
        load_model(path)


def _patch_tensor(path: Path, name: str, *, type: int | None = None, offset: int | None = None) -> None:
    """Overwrite type or offset in a tensor's description."""
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name)
    (dimensions,) = struct.unpack_from("<I", content, at)
    at += 4 + 8 * dimensions
    if type is not None:
        struct.pack_into("<I", content, at, type)
    if offset is not None:
        struct.pack_into("<Q", content, at + 4, offset)
    path.write_bytes(content)
