"""Errors for people: each says what is wrong, where, and what would do.

The command line prints them as one line and exits with code 2; every other exception is a defect of Ridgeway.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class RidgewayError(Exception):
    """Something a person can mend. The message is one sentence or two, without a traceback's help."""


class ModelError(RidgewayError):
    """A model that cannot be loaded: names the file, the tensor or field, and what was expected."""

    def __init__(self, source: str | Path, problem: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = str(source)
        self.problem = problem


class RequestError(RidgewayError, ValueError):
    """A request that is refused before any work is done."""


class MethodError(RidgewayError, ValueError):
    """A decoding method that does not exist, has no such option, or does not fit the model."""


class OutOfPagesError(RidgewayError):
    """The K/V pool has no room for a draft's own K/V; a drafter may go on without."""


class MachineError(RidgewayError, ValueError):
    """A machine that is not in the table, or whose ceilings cannot be read."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known words, or all of them; ready to append to a message."""
    names = sorted(known)
    near = get_close_matches(word, names, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(names)}"
