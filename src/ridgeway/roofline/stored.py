"""What is remembered is written whole or not at all, however many processes write it and whenever one ends."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_json(path: Path, plain: Any, indent: int | None = None) -> None:
    """Replace the file by `plain`. indent: for files that people read; it takes six times longer. Raises OSError."""
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".partial")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(plain, indent=indent))
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
