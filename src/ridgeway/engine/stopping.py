"""When an answer ends: end tokens, stop tokens, stop strings, length. Applied token by token."""

from dataclasses import dataclass

from ridgeway.core.sequence import Sequence
from ridgeway.core.text import Detokenizer


@dataclass
class AnswerText:
    """The text of one answer as it grows, and how much of it may be shown.

    Text that might be the beginning of a stop string is held back until that is settled.
    """

    detokenizer: Detokenizer | None
    stops: tuple[str, ...] = ()
    keep_stop: bool = False
    text: str = ""
    shown: int = 0

    def push(self, token: int, may_stop: bool = True) -> str | None:
        """Add a token; returns the stop string that it completed, if any, having cut the text there."""
        if self.detokenizer is None:
            return None
        before = len(self.text)
        self.text += self.detokenizer.push(token)
        stop = self._cut(before) if may_stop else None
        if stop is not None:
            self.detokenizer = None  # nothing follows a stop string, not even what was held back
        return stop

    def finish(self) -> None:
        """No more tokens will come."""
        if self.detokenizer is not None:
            self.text += self.detokenizer.flush()
            self.detokenizer = None

    def take(self, final: bool) -> str:
        """Text that was not shown yet and now may be."""
        end = len(self.text) if final else len(self.text) - self._undecided()
        fresh = self.text[self.shown : end]
        self.shown = max(self.shown, end)
        return fresh

    def _cut(self, before: int) -> str | None:
        first: tuple[int, str] | None = None
        for stop in self.stops:
            place = self.text.find(stop, max(0, before - len(stop) + 1))
            if place >= 0 and (first is None or place < first[0]):
                first = (place, stop)
        if first is None:
            return None
        place, stop = first
        self.text = self.text[: place + len(stop) if self.keep_stop else place]
        return stop

    def _undecided(self) -> int:
        """Length of the longest end of the text with which a stop string begins."""
        longest = 0
        for stop in self.stops:
            for length in range(min(len(stop) - 1, len(self.text)), longest, -1):
                if self.text.endswith(stop[:length]):
                    longest = length
                    break
        return longest


def accept(sequence: Sequence, tokens: list[int], text: AnswerText) -> list[int]:
    """The tokens, of those a method commits, that belong to the answer; sets its finish reason if it ends."""
    params = sequence.params
    end_ids = () if params.ignore_eos else sequence.traits.end_ids
    accepted: list[int] = []
    for token in tokens:
        accepted.append(token)
        length = sequence.committed + len(accepted)
        enough = length - sequence.prompt_length >= params.min_tokens
        if enough and (token in end_ids or token in params.stop_ids):
            sequence.finish_reason = "stop"
            sequence.stop_reason = token if token in params.stop_ids else None
            return accepted
        stop = text.push(token, may_stop=enough)
        if stop is not None:
            sequence.finish_reason, sequence.stop_reason = "stop", stop
            return accepted
        if length >= sequence.max_committed:
            sequence.finish_reason = "length"
            return accepted
    return accepted
