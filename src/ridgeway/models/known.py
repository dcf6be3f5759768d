"""Well-known models by name, for predictions: their sizes as their public `config.json` gives them.

The list is `known.toml` beside this file, in the words of those files; every entry names the checkpoint it was read
from. A model may also be made up from a number of parameters.
"""

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from re import sub
from typing import Any

from ridgeway.core.errors import ModelError, did_you_mean
from ridgeway.models.config import ModelConfig
from ridgeway.models.fields import Fields
from ridgeway.models.json_file import read_json
from ridgeway.models.outline import Outline, outline_of

_REPEATS = "layer_pattern"  # a few kinds that repeat, written once


def known_models() -> tuple[str, ...]:
    """The names of the list, without aliases."""
    return tuple(_table())


def find_known(name: str) -> Outline | None:
    """The model of the list by that name, alias or checkpoint; None if there is none."""
    key = _aliases().get(_plain(name))
    return None if key is None else _known(key)


def find_outline(argument: str | Path) -> Outline:
    """A model's sizes by name, `config.json`, folder, GGUF file or hub id; of a hub id only the configuration is
    fetched. Raises ModelError with the nearest names.
    """
    text = str(argument)
    path = Path(text).expanduser()
    key = _aliases().get(_plain(text))
    if key is not None and not path.exists():
        return _known(key)
    if path.is_dir():
        path = path / "config.json"
        if not path.is_file():
            raise ModelError(text, "has no config.json")
    if path.suffix == ".gguf":
        from ridgeway.models.gguf_outline import outline_of_gguf

        return outline_of_gguf(path)
    if path.is_file():
        name = path.resolve().parent.name if path.name == "config.json" else path.stem
        return outline_of(name, Fields(path, read_json(path)))
    from ridgeway.models.hub import HUB_ID, download_config

    # Somebody's `org/name` may be in the list under `name`.
    if HUB_ID.fullmatch(text) and path.suffix != ".json":
        key = _aliases().get(_plain(text.split("/")[1]))
        if key is not None and text == _table()[key]["checkpoint"]:
            return _known(key)
        config = download_config(text)
        return outline_of(text.split("/")[1], Fields(text, read_json(config)))
    if path.suffix == ".json" or len(path.parts) > 1:
        raise ModelError(text, "no such file or folder; expected a config.json, a folder with one, or a .gguf file")
    raise ModelError(
        text,
        f"no such model; {did_you_mean(text.lower(), _table())} A config.json, a folder, a .gguf file, a hub id such "
        "as org/name, or --params 8e9 would do too",
    )


def outline_of_parameters(parameters: float) -> Outline:
    """A dense model of that many weights, all of them streamed for a token: the layers of a well-known model of
    about that size, and a tied head that makes the sum right.
    """
    if not 1e7 <= parameters <= 1e14:
        raise ModelError(f"params={parameters:g}", "expected 1e7 to 1e14 parameters")
    templates = [_known(name).config for name in ("smollm2-135m", "llama-3.2-1b", "llama-3.1-8b", "llama-3.1-70b")]
    template = min(templates, key=lambda config: max(config.parameters / parameters, parameters / config.parameters))
    d = template.hidden
    layer = (template.parameters - (1 if template.tied_head else 2) * template.vocab_size * d - d) // template.layers
    layers = max(1, int((parameters - 0.11 * parameters) // layer))
    vocabulary = max(1, round((parameters - layers * layer - d) / d))
    config = ModelConfig(
        architecture="llama",
        hidden=d,
        layers=layers,
        heads=template.heads,
        kv_heads=template.kv_heads,
        head_dim=template.head_dim,
        intermediate=template.intermediate,
        vocab_size=vocabulary,
        max_positions=8192,
        rms_eps=1e-5,
        rope_theta=500000.0,
        tied_head=True,
    )
    return Outline(f"{parameters / 1e9:g}B parameters", config, source="made up: a dense model of that size")


def _known(key: str) -> Outline:
    row = _table()[key]
    values: dict[str, Any] = dict(row["config"])
    if _REPEATS in values:
        kinds, layers = values.pop(_REPEATS), values["num_hidden_layers"]
        values["layer_types"] = [f"{kinds[i % len(kinds)]}_attention" for i in range(layers)]
    source = f"config.json of {row['checkpoint']}"
    outline = outline_of(key, Fields(source, values))
    return Outline(key, outline.config, row.get("precision", outline.precision), source)


@cache
def _table() -> dict[str, dict[str, Any]]:
    return tomllib.loads((files("ridgeway.models") / "known.toml").read_text())


@cache
def _aliases() -> dict[str, str]:
    return {
        _plain(name): key for key, row in _table().items() for name in (key, *row.get("aliases", ()), row["checkpoint"])
    }


def _plain(name: str) -> str:
    return sub(r"[^a-z0-9]", "", name.lower())
