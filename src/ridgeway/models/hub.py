"""Models by hub id, through huggingface_hub: it knows the endpoint, the cache and the credentials of the
user.
"""

import re
from pathlib import Path

from ridgeway.core.errors import ModelError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WANTED = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model*.safetensors",
    "model.safetensors.index.json",
]


def download(hub_id: str, *, progress: bool = True) -> Path:
    """The folder of a hub model's newest snapshot; what the cache holds is not fetched again.

    Pickled weights are never asked for. Raises ModelError if the hub has no such model, or cannot be reached
    and the cache has nothing.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    (enable_progress_bars if progress else disable_progress_bars)()
    try:
        return Path(snapshot_download(hub_id, allow_patterns=_WANTED))
    except Exception as error:  # the hub's client raises errors of several libraries
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            hub_id,
            f"cannot be fetched from the model hub: {reason} (no folder or file of that name is here either; "
            "check the id, the network, and your access to the model)",
        ) from error


def download_config(hub_id: str) -> Path:
    """The `config.json` of a hub model alone. Raises ModelError as `download` does."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub_id, "config.json"))
    except Exception as error:  # the hub's client raises errors of several libraries
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            hub_id, f"its config.json cannot be fetched from the model hub: {reason} (check the id and the network)"
        ) from error
