import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ridgeway.core.errors import ModelError
from ridgeway.models.safetensors import read_safetensors


def write(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensors_are_those_that_the_library_wrote(dtype: torch.dtype, tmp_path: Path) -> None:
    values = torch.randn(5, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    save_file({"a": values, "b": values[0].clone()}, tmp_path / "m.safetensors", metadata={"format": "pt"})
    file = read_safetensors(tmp_path / "m.safetensors")
    assert np.array_equal(file.read("a").dequantize(), values.float().numpy())
    assert np.array_equal(file.read("b").dequantize(), values[0].float().numpy())
    assert not file.read("a").data.flags.owndata


def test_a_tensor_of_another_type_is_refused_only_when_it_is_needed(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2), "steps": torch.zeros(2, dtype=torch.int64)}, tmp_path / "m.safetensors")
    file = read_safetensors(tmp_path / "m.safetensors")
    assert file.read("a").elements == 2
    with pytest.raises(ModelError, match="tensor steps has type I64; supported: F32, F16, BF16"):
        file.read("steps")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 17]}}, "which has 16 bytes"),
        ({"a": {"dtype": "F32", "shape": [4], "data_offsets": [8, 4]}}, "should lie at bytes 8 to 4"),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 16]}}, "a has 16 bytes, which is not what F32"),
        ({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]}}, "not what F32 of shape"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 16]}}, "no valid shape"),
        ({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, "no valid shape"),
        ({"a": {"dtype": "F32", "shape": [1] * 9, "data_offsets": [0, 4]}}, "no valid shape"),
        ({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0]}}, "no valid data_offsets"),
        ({"a": {"shape": [4], "data_offsets": [0, 16]}}, "no dtype"),
        ({"a": 3}, "not an object"),
        ([], "not an object"),
        (b'{"a": ', "not JSON"),
        (b'{"a": 1, "a": 2}', "appears twice"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_true_is_refused(header: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        read_safetensors(write(tmp_path / "m.safetensors", header, bytes(16)))


def test_a_header_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes((2**50).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelError, match=f"header should take {2**50} bytes, but the file ends at byte 10"):
        read_safetensors(path)


def test_a_pickle_called_safetensors_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="pickled checkpoint, which can run code"):
        read_safetensors(tmp_path / "m.safetensors")
