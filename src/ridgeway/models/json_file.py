"""JSON files of a checkpoint, which anybody may have written."""

import json
from pathlib import Path
from typing import Any

from ridgeway.core.errors import ModelError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises ModelError if it does not."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(path, f"cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise ModelError(path, "holds no JSON object")
    return value
