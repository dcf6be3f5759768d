"""A file may come from anywhere: whatever its bytes are, it loads or it is refused with a ModelError."""

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf_checkpoints import GOLDEN, write_gguf

from ridgeway.core.errors import ModelError
from ridgeway.models.loading import load_model

FILES_OF_A_KIND = 100
MOST_BYTES = 20_000_000
HUGE = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)


def flip_bits(content: bytearray, head: int, rng: np.random.Generator) -> bytearray:
    for _ in range(rng.integers(1, 5)):
        content[rng.integers(0, head)] ^= 1 << rng.integers(0, 8)
    return content


def truncate(content: bytearray, head: int, rng: np.random.Generator) -> bytearray:
    return content[: rng.integers(0, head if rng.random() < 0.5 else len(content))]


def huge_number(content: bytearray, head: int, rng: np.random.Generator) -> bytearray:
    at = int(rng.integers(0, head - 8))
    content[at : at + 8] = int(rng.choice(np.array(HUGE, dtype=np.uint64))).to_bytes(8, "little")
    return content


def cut_or_repeat(content: bytearray, head: int, rng: np.random.Generator) -> bytearray:
    start, length = int(rng.integers(0, head)), int(rng.integers(1, 40))
    piece = content[start : start + length]
    return content[:start] + (piece * 2 if rng.random() < 0.5 else b"") + content[start + length :]


MUTATIONS = (flip_bits, truncate, huge_number, cut_or_repeat)


def mutated(content: bytes, head: int, seed: int) -> bytes:
    mutate: Callable[..., bytearray] = MUTATIONS[seed % len(MUTATIONS)]
    return bytes(mutate(bytearray(content), head, np.random.default_rng(seed)))


def loads_or_is_refused(argument: Path) -> bool:
    """Whether it loads. Any other exception than ModelError fails the test, as does a large allocation."""
    tracemalloc.start()
    message = None
    try:
        model = load_model(argument)
        for tensor in model.tensors.values():
            tensor.dequantize()
        if model.tokenizer is not None:
            model.tokenizer.decode(model.tokenizer.encode("Hello world 123"))
    except ModelError as error:
        message = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MOST_BYTES
    assert message is None or message.startswith(str(argument))
    return message is None


@pytest.fixture(scope="module")
def gguf_content(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """A small GGUF file with a vocabulary, and the length of its head."""
    letters = [chr(ord("a") + i) for i in range(26)] + ["Ġ", "Ċ"]
    tokens = ["<s>", "</s>", "<pad>", *letters, "he", "ll", "hell", "Ġw"]
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(tokens) - 3),
        "tokenizer.ggml.merges": ["h e", "l l", "he ll", "Ġ w"],
        "tokenizer.chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
    }
    packed = {"blk.0.ffn_up.weight": gguf.GGMLQuantizationType.Q4_1}
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    content = write_gguf(path, "llama_tied", metadata=metadata, packed=packed).read_bytes()
    assert loads_or_is_refused(path)
    return content, gguf.GGUFReader(path).data_offset


def test_mutated_gguf_files_load_or_are_refused(gguf_content: tuple[bytes, int], tmp_path: Path) -> None:
    loaded = 0
    for seed in range(FILES_OF_A_KIND):
        path = tmp_path / f"{seed}.gguf"
        path.write_bytes(mutated(*gguf_content, seed))
        loaded += loads_or_is_refused(path)
        path.unlink()
    assert 0 < loaded < FILES_OF_A_KIND


def test_mutated_safetensors_files_load_or_are_refused(tmp_path: Path) -> None:
    content = (GOLDEN / "qwen3" / "model.safetensors").read_bytes()
    head = 8 + int.from_bytes(content[:8], "little")
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(GOLDEN / "qwen3" / "config.json", folder)
    loaded = 0
    for seed in range(FILES_OF_A_KIND):
        hit = (16, head, len(content))[seed // len(MUTATIONS) % 3]  # the header's length, the header, anything
        (folder / "model.safetensors").write_bytes(mutated(content, hit, seed))
        loaded += loads_or_is_refused(folder)
    assert 0 < loaded < FILES_OF_A_KIND


def test_mutated_configurations_load_or_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(GOLDEN / "llama3_rope", folder)
    fields = json.loads((folder / "config.json").read_text())
    rng = np.random.default_rng(0)
    strange = [
        None,
        -1,
        0,
        1,
        2**31,
        10**400,
        1e308,
        "x",
        "",
        [],
        [[]],
        {},
        True,
        {"rope_type": "llama3"},
        ["x"],
    ]
    loaded = 0
    for _ in range(FILES_OF_A_KIND):
        changed = {name: strange[rng.integers(len(strange))] for name in fields if rng.random() < 0.06}
        (folder / "config.json").write_text(json.dumps(fields | changed))
        loaded += loads_or_is_refused(folder)
    assert 0 < loaded < FILES_OF_A_KIND
