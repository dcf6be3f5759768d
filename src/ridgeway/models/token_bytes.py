"""What bytes a token stands for.

A character may be spread over several tokens, so text can only be built from bytes. A vocabulary writes them
in one of two ways: byte-level (each byte is some printable character; Radford et al. 2019, section 2.2) or as
sentencepiece does (pieces of text in which U+2581 stands for a space, and `<0x41>` for a byte that no piece
covers; Kudo and Richardson 2018).
"""

import codecs
from collections.abc import Callable, Iterable, Mapping

_SPACE = "\u2581"
Spell = Callable[[str], bytes]


def _byte_characters() -> dict[str, int]:
    """The character that stands for each byte: itself if it is printable Latin-1, else one from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_OF = _byte_characters()


def spell_byte_level(token: str) -> bytes:
    """The bytes of a byte-level token; of one with other characters, its UTF-8."""
    try:
        return bytes([BYTE_OF[character] for character in token])
    except KeyError:
        return token.encode()


def spell_sentencepiece(token: str) -> bytes:
    """The bytes of a sentencepiece token."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        try:
            return bytes([int(token[3:5], 16)])
        except ValueError:
            pass
    return token.replace(_SPACE, " ").encode()


class TokenBytes:
    """The bytes of every token of a vocabulary, found when first asked for.

    added: the bytes of tokens that are not spelled so. skipped: ids of special tokens, left out of text on
    request. drops_space: text loses the space that the encoder put before its first word.
    """

    def __init__(
        self,
        token: Callable[[int], str | None],
        spell: Spell,
        added: Mapping[int, bytes],
        skipped: Iterable[int],
        drops_space: bool,
    ) -> None:
        self._token = token
        self._spell = spell
        self._known = dict(added)
        self.skipped = frozenset(skipped)
        self.drops_space = drops_space

    def __getitem__(self, token: int) -> bytes:
        """b"" for an id that has no token (embeddings are often padded beyond the vocabulary)."""
        found = self._known.get(token)
        if found is None:
            text = self._token(token)
            found = self._known[token] = b"" if text is None else self._spell(text)
        return found


class DetokenizerStream:
    """Text that grows token by token and never shows half a character; constant work per token.

    Bytes that cannot become a character show as U+FFFD as soon as that is certain.
    """

    def __init__(self, token_bytes: TokenBytes, skip_special_tokens: bool = True, after: Iterable[int] = ()) -> None:
        self._bytes = token_bytes
        self._skipped = token_bytes.skipped if skip_special_tokens else frozenset()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = token_bytes.drops_space and all(token in self._skipped for token in after)

    def push(self, token: int) -> str:
        """The text that `token` completes; may be empty."""
        if token in self._skipped:
            return ""
        spelled = self._bytes[token]
        if self._at_start and spelled:
            self._at_start = False
            spelled = spelled.removeprefix(b" ")
        return self._decoder.decode(spelled)

    def flush(self) -> str:
        """Ends the text: bytes held back show as U+FFFD."""
        return self._decoder.decode(b"", final=True)
