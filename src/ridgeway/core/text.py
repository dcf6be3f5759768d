"""What the engine needs of a tokenizer: text that grows token by token."""

from typing import Protocol


class Detokenizer(Protocol):
    """Turns the tokens of one answer into text. A character that is not complete yet is held back."""

    def push(self, token: int) -> str:
        """The text that `token` completes; may be empty."""
        ...

    def flush(self) -> str:
        """Whatever is held back, as well as it can be shown."""
        ...
