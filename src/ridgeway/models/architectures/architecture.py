"""What an architecture file states: how configuration and tensor names of its checkpoints translate."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ridgeway.models.config import ModelConfig
from ridgeway.models.fields import Fields
from ridgeway.quant.tensor import Tensor

Names = Mapping[str, str]


class TensorSource(Protocol):
    """A file, or several, with tensors: their shapes by the file's names, and each as a packed view."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    def read(self, name: str, canonical: str | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Architecture:
    """One family of checkpoints, as data.

    name: `model_type` in `config.json`. hf_class: its entry in `architectures`. hf_names, gguf_names:
    canonical name (see `ModelConfig.tensor_shapes`) to the file's name, `{i}` standing for the layer.
    presented: shows the tensors of a Hugging Face folder as the decoder wants them, where names alone do not
    say it (parts of fused matrices, what is computed once). gguf_name: its `general.architecture`, None if GGUF
    has none of its own. gguf_interleaved: rows of q and k are interleaved for rotary embedding of adjacent
    pairs; they are put back into half-split order at load, so that executors know only one. harmless: patterns
    of tensors that a file may hold beyond those needed.
    """

    name: str
    hf_class: str
    config_from_hf: Callable[[Fields], ModelConfig]
    hf_names: Names
    presented: Callable[[Path, ModelConfig, TensorSource], TensorSource] | None = None
    gguf_name: str | None = None
    config_from_gguf: Callable[[Fields, TensorSource], ModelConfig] | None = None
    gguf_names: Names | None = None
    gguf_interleaved: bool = False
    harmless: tuple[re.Pattern[str], ...] = ()


def file_name(names: Names, canonical: str) -> str:
    """The file's name of a tensor: `layers.3.q` is looked up as `layers.{i}.q`."""
    if not canonical.startswith("layers."):
        return names[canonical]
    _, layer, part = canonical.split(".", 2)
    return names["layers.{i}." + part].replace("{i}", layer)
