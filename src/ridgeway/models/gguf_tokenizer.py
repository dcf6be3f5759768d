"""The tokenizer of a GGUF file: its metadata as a tokenizer of the `tokenizers` library.

Keys are those of the GGUF specification (`tokenizer.ggml.*`). Two kinds are known: `gpt2`, byte-level BPE
with merges, and `llama`, sentencepiece BPE whose merges follow from the pieces' scores.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeway.core.errors import ModelError, did_you_mean
from ridgeway.models.fields import Fields
from ridgeway.models.pre_tokenizers import PRE_TOKENIZERS
from ridgeway.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tokenizers

_KEY = "tokenizer.ggml."
_NORMAL, _CONTROL, _USER_DEFINED, _BYTE = 1, 3, 4, 6
_SPACE = "\u2581"
# Chat models end their turns with one of these even if the file names another end; they count if declared as
# control tokens, so that no ordinary text ends an answer.
_TURN_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
)


def tokenizer_of_gguf(fields: Fields) -> Tokenizer | None:
    """The tokenizer that GGUF metadata describe; None if there is none. Raises ModelError if it cannot be
    built.
    """
    kind = fields.text(_KEY + "model", "none")
    if kind in ("none", "no_vocab"):
        return None
    makers = {"gpt2": _byte_level, "llama": _sentencepiece}
    if kind not in makers:
        raise fields.wrong(_KEY + "model", f"one of {', '.join(makers)}")
    tokens = _tokens(fields)
    types = _types(fields, len(tokens))
    try:
        backend, adds_bos = makers[kind](fields, tokens, types)
        _add_special(backend, tokens, types)
    except ModelError:
        raise
    except Exception as error:  # the library raises nothing more special
        raise ModelError(fields.source, f"its tokenizer cannot be built ({error})") from error
    special = {
        name: tokens[id]
        for name, key in (
            ("bos_token", "bos"),
            ("eos_token", "eos"),
            ("unk_token", "unknown"),
            ("pad_token", "padding"),
        )
        if (id := _id(fields, f"{key}_token_id", len(tokens))) is not None
    }
    _surround(backend, special, fields, adds_bos)
    template = fields.text("tokenizer.chat_template") if "tokenizer.chat_template" in fields else None
    return Tokenizer(backend, chat_template=template, special=special, source=str(fields.source))


def end_ids_of_gguf(fields: Fields, vocab_size: int) -> tuple[int, ...]:
    """Tokens that end an answer: those that metadata name, and a chat model's ends of turns."""
    ends = [_id(fields, f"{name}_token_id", vocab_size) for name in ("eos", "eot", "eom")]
    if "tokenizer.chat_template" in fields and _KEY + "tokens" in fields:
        tokens = _tokens(fields)
        types = _types(fields, len(tokens))
        control = {tokens[id]: int(id) for id in np.flatnonzero(types == _CONTROL)}
        ends += [id for text in _TURN_ENDS if (id := control.get(text)) is not None and id < vocab_size]
    return tuple(dict.fromkeys(id for id in ends if id is not None))


def _byte_level(
    fields: Fields, tokens: list[str], types: "np.ndarray[Any, Any]"
) -> "tuple[tokenizers.Tokenizer, bool]":
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers

    name = fields.text(_KEY + "pre", "default")
    rule = PRE_TOKENIZERS.get(name)
    if rule is None:
        raise ModelError(fields.source, f"pre-tokenizer {name!r} is not known; {did_you_mean(name, PRE_TOKENIZERS)}")
    merges = _strings(fields, _KEY + "merges")
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    vocab = {token: id for id, token in enumerate(tokens)}
    backend = Backend(models.BPE(vocab=vocab, merges=pairs, ignore_merges=rule.ignore_merges))
    if rule.normalized:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = rule.make()
    backend.decoder = decoders.ByteLevel()
    return backend, rule.add_bos


def _sentencepiece(
    fields: Fields, tokens: list[str], types: "np.ndarray[Any, Any]"
) -> "tuple[tokenizers.Tokenizer, bool]":
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers

    scores = fields.values.get(_KEY + "scores")
    if not isinstance(scores, np.ndarray) or scores.shape != (len(tokens),) or np.isnan(scores).any():
        raise ModelError(fields.source, f"{_KEY}scores: expected a number for each of the {len(tokens)} tokens")
    unknown = _id(fields, "unknown_token_id", len(tokens))
    vocab = {token: id for id, token in enumerate(tokens)}
    model = models.BPE(
        vocab=vocab,
        merges=_merges_by_score(tokens, types, scores),
        unk_token=None if unknown is None else tokens[unknown],
        fuse_unk=True,
        byte_fallback=bool(np.any(types == _BYTE)),
    )
    backend = Backend(model)
    prefixed = fields.flag(_KEY + "add_space_prefix", True)
    spaces = normalizers.Replace(" ", _SPACE)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if prefixed else spaces
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefixed else steps)
    return backend, True


def _merges_by_score(
    tokens: list[str], types: "np.ndarray[Any, Any]", scores: "np.ndarray[Any, Any]"
) -> list[tuple[str, str]]:
    """Sentencepiece merges the neighbours whose joint piece has the highest score, so each way to cut a piece
    in two pieces is a merge, ranked by the piece's score.
    """
    pieces = {tokens[id]: int(id) for id in np.flatnonzero((types == _NORMAL) | (types == _USER_DEFINED))}
    merges: list[tuple[str, str]] = []
    for id in np.argsort(-scores, kind="stable"):
        piece = tokens[id]
        if pieces.get(piece) != id:
            continue
        cuts = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
        known = [(left, right) for left, right in cuts if left in pieces and right in pieces]
        merges += sorted(known, key=lambda cut: (pieces[cut[0]], pieces[cut[1]]))
    return merges


def _add_special(backend: "tokenizers.Tokenizer", tokens: list[str], types: "np.ndarray[Any, Any]") -> None:
    """Control tokens are matched in text and are no text; user-defined ones are matched and are text."""
    from tokenizers import AddedToken

    def added(kind: int) -> list[AddedToken]:
        return [
            AddedToken(tokens[id], normalized=False, special=kind == _CONTROL)
            for id in np.flatnonzero(types == kind)
            if tokens[id]
        ]

    backend.add_special_tokens(added(_CONTROL))
    backend.add_tokens(added(_USER_DEFINED))


def _surround(backend: "tokenizers.Tokenizer", special: dict[str, str], fields: Fields, adds_bos: bool) -> None:
    """Put beginning and end of text around what is encoded, where metadata or the family want them."""
    from tokenizers.processors import TemplateProcessing

    def wanted(name: str, default: bool) -> list[str]:
        text = special.get(f"{name}_token")
        return [text] if text is not None and fields.flag(f"{_KEY}add_{name}_token", default) else []

    before, after = wanted("bos", adds_bos), wanted("eos", False)
    if not before and not after:
        return
    backend.post_processor = TemplateProcessing(
        single=[*before, "$A", *after],
        pair=[*before, "$A", *after, *before, "$B", *after],
        special_tokens=[(text, backend.token_to_id(text)) for text in (*before, *after)],
    )


def _tokens(fields: Fields) -> list[str]:
    tokens = _strings(fields, _KEY + "tokens")
    if len(set(tokens)) != len(tokens):
        raise ModelError(fields.source, f"{_KEY}tokens holds a token twice")
    return tokens


def _types(fields: Fields, count: int) -> "np.ndarray[Any, Any]":
    """The kind of each token; all are normal if metadata do not say."""
    types = fields.values.get(_KEY + "token_type")
    if types is None:
        return np.full(count, _NORMAL)
    if not isinstance(types, np.ndarray) or types.shape != (count,):
        raise ModelError(fields.source, f"{_KEY}token_type: expected a number for each of the {count} tokens")
    return types


def _strings(fields: Fields, key: str) -> list[str]:
    value = fields.values.get(key)
    if not isinstance(value, list):
        raise fields.wrong(key, "an array of strings")
    return value


def _id(fields: Fields, name: str, below: int) -> int | None:
    if _KEY + name not in fields:
        return None
    return fields.integer(_KEY + name, least=0, most=below - 1)
