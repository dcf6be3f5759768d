"""The state of a training, so that it goes on after an interruption as if there had been none.

One safetensors file: weights, the optimizer's moments, and how far it got. It appears under its name only when it is
whole. Batches and noise are functions of seed and step, so nothing else has to be kept.
"""

import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ridgeway.core.errors import RequestError


def save_state(path: Path, step: int, decoder: nn.Module, optimizer: torch.optim.Optimizer, recipe: str) -> None:
    """step: how many steps are done. recipe: what they were done after."""
    tensors: dict[str, Tensor] = {}
    for name, weight in decoder.named_parameters():
        tensors[f"weight/{name}"] = weight.detach()
        for moment, value in optimizer.state.get(weight, {}).items():
            tensors[f"{moment}/{name}"] = value
    whole = path.with_suffix(".partial")
    save_file(tensors, whole, metadata={"step": str(step), "recipe": recipe})
    os.replace(whole, path)


def load_state(path: Path, decoder: nn.Module, optimizer: torch.optim.Optimizer, recipe: str) -> int:
    """Put the state back; how many steps are done. Raises RequestError for a state of another recipe."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("recipe") != recipe:
                raise RequestError(f"{path}: is of another recipe; give another --out, or remove it to begin anew")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RequestError(f"{path}: cannot be read ({error}); remove it to begin anew") from error
    for name, weight in decoder.named_parameters():
        with torch.no_grad():
            weight.copy_(tensors[f"weight/{name}"])
        moments = {key.split("/", 1)[0]: value for key, value in tensors.items() if key.split("/", 1)[1] == name}
        del moments["weight"]
        if moments:
            optimizer.state[weight] = dict(moments)
    return int(metadata["step"])
