"""Text to token ids and back.

Encoding is the `tokenizers` library's. Decoding is our own, from the bytes of each token, so that whole text
and streamed text are the same fold: `decode` is `stream` run to its end.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeway.core.errors import ModelError, RequestError
from ridgeway.models.chat_template import ChatTemplate
from ridgeway.models.fields import Fields
from ridgeway.models.json_file import read_json
from ridgeway.models.token_bytes import (
    DetokenizerStream,
    Spell,
    TokenBytes,
    spell_byte_level,
    spell_sentencepiece,
)

if TYPE_CHECKING:
    import tokenizers

Message = Mapping[str, Any]


class Tokenizer:
    """A vocabulary with its chat template.

    backend: a tokenizer of the `tokenizers` library, with a byte-level or sentencepiece decoder. special:
    texts by name, such as `bos_token`, for the template.
    """

    def __init__(
        self,
        backend: "tokenizers.Tokenizer",
        *,
        chat_template: str | None = None,
        special: Mapping[str, str] | None = None,
        source: str = "tokenizer",
    ) -> None:
        self.backend = backend
        self.special = dict(special or {})
        self._bytes = _token_bytes(backend, source)
        self._template = None if chat_template is None else ChatTemplate(source, chat_template, self.special)

    @classmethod
    def from_folder(cls, folder: Path) -> "Tokenizer | None":
        """The tokenizer of a Hugging Face folder (`tokenizer.json`, `tokenizer_config.json`); None if it has
        none.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            return None
        config_path = folder / "tokenizer_config.json"
        config = read_json(config_path) if config_path.is_file() else {}
        special = {name: text for name in _SPECIAL if (text := _content(config.get(name))) is not None}
        template = _template_of(folder, Fields(config_path, config))
        return cls(backend_of_json(path), chat_template=template, special=special, source=str(path))

    @cached_property
    def vocab_size(self) -> int:
        """Ids are below it. The model's own vocabulary may be padded beyond."""
        return max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @property
    def has_chat_template(self) -> bool:
        return self._template is not None

    @property
    def bos_id(self) -> int | None:
        return self._id_of("bos_token")

    @property
    def eos_id(self) -> int | None:
        return self._id_of("eos_token")

    @property
    def mask_id(self) -> int | None:
        return self._id_of("mask_token")

    @property
    def special_ids(self) -> frozenset[int]:
        """Tokens that are no text: markers of turns, ends, padding."""
        return self._bytes.skipped

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`; special tokens written out in it count as such, as in transformers.

        add_special_tokens: put before and after it what the checkpoint wants there (often a beginning-of-text
        token).
        """
        try:
            ids: list[int] = self.backend.encode(text, add_special_tokens=add_special_tokens).ids
        except TypeError as error:  # what the library raises for half of a surrogate pair
            raise RequestError("the prompt is not valid Unicode text") from error
        return ids

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """The text of `ids`; bytes that make no character show as U+FFFD."""
        stream = self.stream(skip_special_tokens)
        return "".join([stream.push(token) for token in ids]) + stream.flush()

    def stream(self, skip_special_tokens: bool = True, after: Iterable[int] = ()) -> DetokenizerStream:
        """Decoding token by token. after: ids that the text continues, if its first space is to be kept."""
        return DetokenizerStream(self._bytes, skip_special_tokens, after)

    def token(self, id: int) -> str:
        """The token as the vocabulary writes it; empty if there is none of this id."""
        return self.backend.id_to_token(id) or ""

    def token_bytes(self, id: int) -> bytes:
        """The bytes that the token stands for."""
        return self._bytes[id]

    def token_text(self, id: int) -> str:
        """The token alone, as text for people; U+FFFD stands for a part of a character."""
        return self._bytes[id].decode(errors="replace")

    def apply_chat_template(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """A conversation as the text that the model was trained on. variables: `tools` and what else it
        knows.

        Raises RequestError if there is no template, or if it refuses the conversation.
        """
        if self._template is None:
            raise RequestError("this model has no chat template: give plain text (with the command line: --raw)")
        return self._template.render(messages, add_generation_prompt=add_generation_prompt, **variables)

    def chat_ids(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True, **variables: Any
    ) -> list[int]:
        """Token ids of `apply_chat_template`; the template itself writes the special tokens."""
        text = self.apply_chat_template(messages, add_generation_prompt=add_generation_prompt, **variables)
        return self.encode(text, add_special_tokens=False)

    def _id_of(self, name: str) -> int | None:
        text = self.special.get(name)
        return None if text is None else self.backend.token_to_id(text)


_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "mask_token")


def backend_of_json(path: Path) -> "tokenizers.Tokenizer":
    """A `tokenizer.json`, without the truncation and padding that it may ask for."""
    import tokenizers

    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more special
        raise ModelError(path, f"is no tokenizer that the tokenizers library can read ({error})") from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def _token_bytes(backend: "tokenizers.Tokenizer", source: str) -> TokenBytes:
    added = backend.get_added_tokens_decoder()
    decoder = backend.decoder
    spell, drops_space = _spelling(None if decoder is None else json.loads(decoder.__getstate__()), source)
    # Byte-level vocabularies write added tokens as plain text, sentencepiece ones as pieces like any other.
    written = spell_sentencepiece if spell is spell_sentencepiece else str.encode
    return TokenBytes(
        backend.id_to_token,
        spell,
        {id: written(token.content) for id, token in added.items()},
        (id for id, token in added.items() if token.special),
        drops_space,
    )


def _spelling(decoder: Any, source: str) -> tuple[Spell, bool]:
    """How a decoder of `tokenizer.json` spells bytes, and whether it drops the first space."""
    steps = decoder.get("decoders", [decoder]) if isinstance(decoder, dict) else []
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"]:
        return spell_byte_level, False
    if kinds and set(kinds) <= {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}:
        dropping = any(
            (kind == "Strip" and step.get("start")) or (kind == "Metaspace" and step.get("prepend_scheme") != "never")
            for kind, step in zip(kinds, steps, strict=True)
        )
        return spell_sentencepiece, dropping
    raise ModelError(source, f"decoder {'+'.join(map(str, kinds)) or 'none'}; expected byte-level or sentencepiece")


def _content(token: Any) -> str | None:
    """A special token of `tokenizer_config.json`: its text, or an object that has it."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _template_of(folder: Path, config: Fields) -> str | None:
    """From `chat_template.jinja`, else from the configuration: one text, or several with names."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(path, f"cannot be read ({error})") from error
    template = config.values.get("chat_template")
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise config.wrong("chat_template", "a text, or a list of objects with name and template, one called default")
    return template
