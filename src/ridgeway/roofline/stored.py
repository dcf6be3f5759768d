"""What is remembered is written whole or not at all, however many processes write it and whenever one ends."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_json(path: Path, plain: Any) -> None:
    """Replace the file by `plain`. Raises OSError."""
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".partial")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(plain, file, indent=1)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
