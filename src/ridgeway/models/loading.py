"""From what a person names (a built-in name, a folder, a GGUF file, a hub id) to a `Model`, or to an error
that says what is wrong with it.

Nothing is unpacked or copied here: tensors are views of the mapped file. Of q and k in GGUF files of architectures
that interleave them, they say in which order their rows are to be read.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ridgeway.core.arrays import IntArray
from ridgeway.core.errors import ModelError, did_you_mean
from ridgeway.models.architectures import architecture_of_gguf, architecture_of_hf
from ridgeway.models.architectures.architecture import Architecture, Names, TensorSource, file_name
from ridgeway.models.config import ModelConfig
from ridgeway.models.default import BUILT_IN, built_in_model
from ridgeway.models.diffusion_section import with_diffusion_section
from ridgeway.models.draft_head import FILE as DRAFT_HEAD
from ridgeway.models.fields import Fields
from ridgeway.models.gguf import read_gguf
from ridgeway.models.gguf_tokenizer import end_ids_of_gguf, tokenizer_of_gguf
from ridgeway.models.hub import HUB_ID, download
from ridgeway.models.json_file import read_json
from ridgeway.models.model import Model
from ridgeway.models.safetensors import SafetensorsFile, read_safetensors
from ridgeway.models.shipped import SHIPPED
from ridgeway.models.tokenizer import Tokenizer
from ridgeway.quant.tensor import Tensor

_WHAT_WOULD_DO = (
    f"expected a name ({', '.join([*BUILT_IN, *SHIPPED])}), a folder with config.json and *.safetensors, a .gguf file, "
    "or a hub id such as org/name"
)
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_INTERLEAVED = ("q", "k", "q_bias", "k_bias")
_HF_SAMPLING = {name: name for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")}
_GGUF_SAMPLING = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_p": "top_p",
    "general.sampling.top_k": "top_k",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}


def load_model(argument: str | Path, *, progress: bool = True) -> Model:
    """Load a model by built-in name, folder, `.gguf` file or hub id.

    progress: show a bar on standard error while something is fetched. Raises ModelError for everything that
    is not a whole checkpoint of a supported architecture; nothing in a checkpoint is ever executed.
    """
    if not isinstance(argument, str | Path) or not str(argument).strip():
        raise ModelError(repr(argument), f"names no model; {_WHAT_WOULD_DO}")
    text = str(argument)
    if text in BUILT_IN:
        return load_gguf(built_in_model(text, progress=progress))
    if text in SHIPPED:
        return replace(load_folder(SHIPPED[text].folder), source=text)
    path = Path(argument).expanduser()
    if path.is_dir():
        return load_folder(path)
    if path.suffix in _PICKLES:
        raise ModelError(path, "pickled checkpoints can run code and are never loaded; expected safetensors or GGUF")
    if path.is_file():
        if path.suffix == ".safetensors":
            raise ModelError(path, f"is a part of a checkpoint; give its folder, {path.parent}, with its config.json")
        return load_gguf(path)
    if HUB_ID.fullmatch(text) and not text.endswith(".gguf") and isinstance(argument, str):
        return replace(load_folder(download(text, progress=progress)), name=text.split("/")[1], source=text)
    if path.suffix == ".gguf" or len(path.parts) > 1:
        raise ModelError(path, f"no such file or folder; {_WHAT_WOULD_DO}")
    raise ModelError(text, f"no such model ({did_you_mean(text, [*BUILT_IN, *SHIPPED])}); {_WHAT_WOULD_DO}")


def load_gguf(path: Path) -> Model:
    """A model from one GGUF file."""
    file = read_gguf(path)
    fields = Fields(path, file.metadata)
    architecture = architecture_of_gguf(fields)
    assert architecture.config_from_gguf is not None
    assert architecture.gguf_names is not None
    config = architecture.config_from_gguf(fields, file)
    tensors = _bind(path, config, architecture, architecture.gguf_names, file)
    if architecture.gguf_interleaved:
        tensors = {name: _half_split(name, tensor, config) for name, tensor in tensors.items()}
    model = Model(
        name=path.stem,
        config=replace(config, end_ids=end_ids_of_gguf(fields, config.vocab_size)),
        tensors=tensors,
        tokenizer=tokenizer_of_gguf(fields),
        generation=_sampling(fields, _GGUF_SAMPLING),
        source=str(path),
    )
    return replace(model, name=re.sub(rf"[.-]{model.precision}$", "", path.stem, flags=re.IGNORECASE))


def load_folder(folder: Path) -> Model:
    """A model from a folder as Hugging Face lays it out."""
    config_path = folder / "config.json"
    if not config_path.is_file():
        beside = sorted(path.name for path in folder.glob("*.gguf"))
        hint = f"; it holds {', '.join(beside)}: give the path of that file" if beside else ""
        raise ModelError(folder, f"has no config.json{hint}")
    fields = Fields(config_path, read_json(config_path))
    architecture = architecture_of_hf(fields)
    config = with_diffusion_section(architecture.config_from_hf(fields), fields)
    generation_path = folder / "generation_config.json"
    generation = Fields(generation_path, read_json(generation_path) if generation_path.is_file() else {})
    ends = generation.ids("eos_token_id", config.vocab_size) + fields.ids("eos_token_id", config.vocab_size)
    ends += config.end_ids  # what the architecture knows besides
    files: TensorSource = SafetensorsFolder(folder)
    if architecture.presented is not None:
        files = architecture.presented(folder, config, files)
    tensors = _bind(folder, config, architecture, architecture.hf_names, files)
    tokenizer = Tokenizer.from_folder(folder)
    return Model(
        name=folder.resolve().name,
        config=replace(config, end_ids=tuple(dict.fromkeys(ends)), mask_id=_mask_id(config, fields, tokenizer)),
        tensors=tensors,
        tokenizer=tokenizer,
        generation=_sampling(generation, _HF_SAMPLING),
        source=str(folder),
    )


def _mask_id(config: ModelConfig, fields: Fields, tokenizer: Tokenizer | None) -> int | None:
    """The mask as the configuration states it; else what the tokenizer calls one, before what the family has."""
    stated = "mask_token_id" in fields or "diffusion" in fields
    if stated or config.attention == "causal" or tokenizer is None or tokenizer.mask_id is None:
        return config.mask_id
    return tokenizer.mask_id if tokenizer.mask_id < config.vocab_size else config.mask_id


class SafetensorsFolder:
    """The tensors of one or several safetensors files, as one source."""

    def __init__(self, folder: Path) -> None:
        self._owners: dict[str, SafetensorsFile] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        index = _index(folder)
        for path in _checkpoint_files(folder, index):
            file = read_safetensors(path)
            for name, shape in file.shapes.items():
                if index is not None and index.get(name) != path.name:
                    continue
                if name in self._owners:
                    raise ModelError(folder, f"tensor {name} is in {self._owners[name].path.name} and in {path.name}")
                self._owners[name], self._shapes[name] = file, shape

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes

    def read(self, name: str, canonical: str | None = None) -> Tensor:
        return self._owners[name].read(name, canonical)


def _index(folder: Path) -> Mapping[str, str] | None:
    """Which file holds which tensor, if the folder says so."""
    path = folder / "model.safetensors.index.json"
    if not path.is_file():
        return None
    files = read_json(path).get("weight_map")
    if not isinstance(files, dict) or not files:
        raise ModelError(path, "has no weight_map")
    for name, file in files.items():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise ModelError(path, f"says that tensor {name} is in {file!r}; expected a safetensors file beside it")
    return files


def _checkpoint_files(folder: Path, index: Mapping[str, str] | None) -> list[Path]:
    if index is not None:
        return [folder / name for name in sorted(set(index.values()))]
    whole = folder / "model.safetensors"
    files = (
        [whole] if whole.is_file() else sorted(path for path in folder.glob("*.safetensors") if path.name != DRAFT_HEAD)
    )
    if files:
        return files
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickles:
        raise ModelError(
            folder,
            f"has {pickles[0]} but no *.safetensors; pickled checkpoints can run code and are never loaded: "
            "expected a safetensors version of it",
        )
    raise ModelError(folder, "has no *.safetensors")


def _bind(
    source: Path, config: ModelConfig, architecture: Architecture, names: Names, tensors: TensorSource
) -> dict[str, Tensor]:
    """The tensors that the decoder needs, by canonical name: all, in the right shapes, and no others."""
    shapes = tensors.shapes
    bound: dict[str, Tensor] = {}
    used: set[str] = set()
    for canonical, expected in config.tensor_shapes().items():
        name = file_name(names, canonical)
        if name not in shapes:
            raise ModelError(source, f"tensor {name} is missing; expected one of shape {expected}")
        if shapes[name] != expected:
            raise ModelError(source, f"tensor {name} has shape {shapes[name]}; expected {expected}")
        bound[canonical] = tensors.read(name, canonical)
        used.add(name)
    if config.tied_head:
        used.add(names["head"])  # many checkpoints store the embedding a second time under this name
    strange = [
        name for name in shapes if name not in used and not any(p.fullmatch(name) for p in architecture.harmless)
    ]
    if strange:
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        raise ModelError(
            source,
            f"tensor {', '.join(strange[:3])}{more} is not known in architecture {architecture.name!r}: "
            "the results would be wrong without it",
        )
    return bound


def _half_split(name: str, tensor: Tensor, config: ModelConfig) -> Tensor:
    """q and k with the two halves of a rotary pair half a head apart, not next to each other."""
    part = name.rsplit(".", 1)[-1]
    if part not in _INTERLEAVED:
        return tensor
    heads = config.heads if part.startswith("q") else config.kv_heads
    rows: IntArray = np.arange(heads * config.head_dim, dtype=np.int64)
    return tensor.reordered(rows.reshape(heads, config.head_dim // 2, 2).swapaxes(1, 2).reshape(-1))


def _sampling(fields: Fields, names: Mapping[str, str]) -> dict[str, Any]:
    """The checkpoint's own sampling settings; none if it says that it is not to be sampled from."""
    if not fields.flag("do_sample", True):
        return {}
    settings = {ours: fields.values[theirs] for theirs, ours in names.items() if theirs in fields}
    for theirs, ours in names.items():
        if ours in settings and (isinstance(settings[ours], bool) or not isinstance(settings[ours], int | float)):
            raise fields.wrong(theirs, "a number")
    return settings
