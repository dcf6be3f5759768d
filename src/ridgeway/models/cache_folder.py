"""Where Ridgeway keeps what it fetched, measured or compiled: one folder, so that one variable moves all of
it.
"""

import os
from pathlib import Path

import platformdirs

VARIABLE = "RIDGEWAY_HOME"


def cache_folder(*parts: str) -> Path:
    """The folder `parts` inside `RIDGEWAY_HOME`, by default the platform's cache folder of the user; it
    exists.
    """
    home = os.environ.get(VARIABLE)
    root = Path(home).expanduser() if home else Path(platformdirs.user_cache_dir("ridgeway", appauthor=False))
    folder = root.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
