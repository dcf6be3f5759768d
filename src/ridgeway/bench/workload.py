"""What is asked: prompts of different kinds, as the token ids that every contender gets.

Kinds matter because drafting methods live on repetition: a rewrite repeats its prompt, a chat does not.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ridgeway.core.errors import RequestError
from ridgeway.models.tokenizer import Tokenizer

DEFAULT_NAME = "built-in prompts"


@dataclass(frozen=True)
class PromptLine:
    """A line of a prompt file. content: text, or messages (`{"role": ..., "content": ...}`)."""

    content: str | tuple[Mapping[str, Any], ...]
    category: str = ""


@dataclass(frozen=True)
class Workload:
    """Prompts as token ids, with their categories (empty: none)."""

    name: str
    prompts: tuple[tuple[int, ...], ...]
    categories: tuple[str, ...]

    @property
    def longest(self) -> int:
        return max(map(len, self.prompts))

    @property
    def shortest(self) -> int:
        return min(map(len, self.prompts))

    def groups(self, batch: int) -> list[list[int]]:
        """Numbers of the prompts, `batch` at a time and each at least once.

        Every group is full, so that a batch size means what it says: the last one is filled up from the start.
        """
        count = len(self.prompts)
        return [[number % count for number in range(first, first + batch)] for first in range(0, count, batch)]


def read_prompts(path: Path | None) -> list[PromptLine]:
    """The lines of a prompt file, or the built-in ones. Raises RequestError naming the line that is wrong."""
    if path is None:
        text = files("ridgeway.bench").joinpath("prompts.jsonl").read_text(encoding="utf-8")
        name = DEFAULT_NAME
    else:
        name = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"{path}: cannot be read as prompts: {error}") from error
    lines = [
        _line(f"{name}, line {number}", line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()
    ]
    if not lines:
        raise RequestError(f"{name}: holds no prompt; expected one JSON object a line, such as " + '{"prompt": "Hi"}')
    return lines


def limited(lines: Sequence[PromptLine], limit: int | None) -> list[PromptLine]:
    """The first `limit` lines of each category, in the file's order."""
    seen: Counter[str] = Counter()
    kept = []
    for line in lines:
        seen[line.category] += 1
        if limit is None or seen[line.category] <= limit:
            kept.append(line)
    return kept


def encoded(name: str, lines: Sequence[PromptLine], tokenizer: Tokenizer, raw: bool = False) -> Workload:
    """The lines as token ids: in the model's chat template if it has one, text as it is if not, or if `raw`."""
    prompts = []
    for line in lines:
        if isinstance(line.content, str) and (raw or not tokenizer.has_chat_template):
            ids = tokenizer.encode(line.content)
        elif not tokenizer.has_chat_template:
            raise RequestError(f"{name}: holds messages, and this model has no chat template; give prompts")
        elif isinstance(line.content, str):
            ids = tokenizer.chat_ids([{"role": "user", "content": line.content}])
        else:
            ids = tokenizer.chat_ids(line.content)
        if not ids:
            raise RequestError(f"{name}: a prompt is empty; give it at least one token")
        prompts.append(tuple(ids))
    return Workload(name, tuple(prompts), tuple(line.category for line in lines))


def _line(where: str, text: str) -> PromptLine:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise RequestError(f"{where}: is not JSON: {error.msg}") from error
    if not isinstance(found, dict):
        raise RequestError(f"{where}: expected an object, not {type(found).__name__}")
    keys = [key for key in ("prompt", "messages", "turns") if key in found]
    if len(keys) != 1:
        said = " and ".join(keys) or "none of them"
        raise RequestError(f"{where}: expected one of prompt, messages and turns; found {said}")
    category = found.get("category", "")
    if not isinstance(category, str):
        raise RequestError(f"{where}: category is text, not {type(category).__name__}")
    return PromptLine(_content(where, keys[0], found[keys[0]]), category)


def _content(where: str, key: str, value: Any) -> str | tuple[Mapping[str, Any], ...]:
    if key == "turns":
        if not isinstance(value, list) or not value:
            raise RequestError(f"{where}: turns is a list of texts, the first of which is used")
        value = value[0]
        if isinstance(value, dict):  # some data sets write a turn as an object
            value = value.get("content")
    if key == "messages":
        if not (isinstance(value, list) and value and all(isinstance(message, dict) for message in value)):
            raise RequestError(f"{where}: messages is a list of objects with role and content")
        return tuple(value)
    if not isinstance(value, str) or not value:
        raise RequestError(f"{where}: {key} is text, and not empty")
    return value
