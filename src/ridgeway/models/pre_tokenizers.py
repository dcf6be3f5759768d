"""How byte-level vocabularies cut text into words before merging bytes: a rule per family.

Under another family's rule a vocabulary gives other tokens than its model was trained on, so an unknown name is
refused. Names are those of `tokenizer.ggml.pre`; rules are those of the families' own `tokenizer.json`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)


@dataclass(frozen=True)
class PreTokenizerRule:
    """make: the pre-tokenizer. ignore_merges: a word that is a token is never cut. normalized: text is put
    into NFC first. add_bos: text begins with the beginning-of-text token if metadata does not say.
    """

    make: "Callable[[], PreTokenizer]"
    ignore_merges: bool = False
    normalized: bool = False
    add_bos: bool = False


def _split(*patterns: str) -> "PreTokenizer":
    """Cut at each pattern in turn; then bytes become characters."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    cuts = [Split(Regex(pattern), "isolated") for pattern in patterns]
    return Sequence([*cuts, ByteLevel(add_prefix_space=False, use_regex=False)])


def _gpt2() -> "PreTokenizer":
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm() -> "PreTokenizer":
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    return Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])


def _default() -> "PreTokenizer":
    """What GGUF runtimes do for files that name no rule: GPT-2's, with punctuation and digits cut further."""
    gpt2_without_spaces = _GPT2.removesuffix(r"|\s+")
    return _split(r"[\p{P}\$\+<=>\^~\|]+", gpt2_without_spaces, r"\p{N}+", r"[0-9][0-9][0-9]")


_LLAMA3_RULE = PreTokenizerRule(lambda: _split(_LLAMA3), ignore_merges=True, add_bos=True)
_QWEN2_RULE = PreTokenizerRule(lambda: _split(_QWEN2), normalized=True)
_GPT2_RULE = PreTokenizerRule(_gpt2)

PRE_TOKENIZERS: Mapping[str, PreTokenizerRule] = {
    "default": PreTokenizerRule(_default),
    "gpt-2": _GPT2_RULE,
    "smollm": PreTokenizerRule(_smollm),
    "llama-bpe": _LLAMA3_RULE,
    "llama3": _LLAMA3_RULE,
    "llama-v3": _LLAMA3_RULE,
    "falcon3": _LLAMA3_RULE,
    "pixtral": _LLAMA3_RULE,
    "qwen2": _QWEN2_RULE,
    "deepseek-r1-qwen": _QWEN2_RULE,
    "tekken": PreTokenizerRule(lambda: _split(_TEKKEN), ignore_merges=True, add_bos=True),
}
