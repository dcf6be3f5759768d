"""Tokenizers built from GGUF metadata give the tokens of the implementation that each vocabulary was made
with.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from gguf_checkpoints import write_gguf
from texts import (
    HARD_TEXTS,
    SPECIAL_TEXTS,
    UNUSUAL_TEXTS,
    byte_level_metadata,
    sentencepiece_metadata,
    train_byte_level,
    train_sentencepiece,
)
from tokenizers import Regex, normalizers, pre_tokenizers

from ridgeway.core.errors import ModelError
from ridgeway.models.default import DEFAULT, built_in_model
from ridgeway.models.fields import Fields
from ridgeway.models.gguf_tokenizer import tokenizer_of_gguf
from ridgeway.models.loading import load_model
from ridgeway.models.tokenizer import Tokenizer


def tokenizer_from(metadata: dict[str, Any]) -> Tokenizer:
    arrays = {
        key: np.array(value) if isinstance(value, list) and not isinstance(value[0], str) else value
        for key, value in metadata.items()
    }
    tokenizer = tokenizer_of_gguf(Fields("model.gguf", arrays))
    assert tokenizer is not None
    return tokenizer


def split(pattern: str) -> Any:
    """A pre-tokenizer as a `tokenizer.json` has it."""
    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def transformers_rule(pre: str) -> Any:
    """The family's own pre-tokenizer, as transformers has it."""
    if pre == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre == "smollm":  # the tokenizer.json of SmolLM2
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    return split(GGUF_PRE_TOKENIZER_SPLITS[pre])


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "llama3", "qwen2", "tekken"])
def test_a_byte_level_vocabulary_gives_the_tokens_of_its_family(pre: str) -> None:
    theirs = train_byte_level(transformers_rule(pre))
    ours = tokenizer_from(byte_level_metadata(theirs, pre) | {"tokenizer.ggml.add_bos_token": False})
    if pre == "qwen2":
        theirs.normalizer = normalizers.NFC()
    if pre in ("llama-bpe", "llama3", "tekken"):
        theirs.model.ignore_merges = True
    for text in HARD_TEXTS + UNUSUAL_TEXTS + SPECIAL_TEXTS:
        assert ours.encode(text) == theirs.encode(text).ids, text


def test_the_default_model_gives_the_tokens_of_transformers() -> None:
    """transformers' GGUF conversion forgets that SmolLM2 cuts numbers into digits, which shows in numbers
    that have merges (½, Arabic digits); with the pre-tokenizer of the model's own tokenizer.json it agrees on
    these too.
    """
    from transformers import AutoTokenizer

    path = built_in_model(DEFAULT.name)
    theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    ours = load_model(path).tokenizer
    assert ours is not None
    special = ["<|im_start|>user\nhi<|im_end|>\n<|endoftext|>", "x <|im_end|> y  <|im_end|>z"]
    for text in HARD_TEXTS + special:
        assert ours.encode(text) == theirs(text)["input_ids"], text
    theirs.backend_tokenizer.pre_tokenizer = transformers_rule("smollm")
    for text in HARD_TEXTS + UNUSUAL_TEXTS + special:
        ids = theirs(text)["input_ids"]
        assert ours.encode(text) == ids, text
        assert ours.decode(ids, skip_special_tokens=False) == text
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def test_the_default_rule_cuts_punctuation_and_three_digits() -> None:
    theirs = train_byte_level(split(r"[0-9]{3}|[^0-9]+"))
    ours = tokenizer_from(byte_level_metadata(theirs, None))
    pre_tokenizer = ours.backend.pre_tokenizer
    words = [word for word, _ in pre_tokenizer.pre_tokenize_str("it's (12345)!")]
    assert words == ["it", "'", "s", "Ġ", "(", "123", "45", ")!"]


@pytest.mark.parametrize("prefix", [True, False])
def test_a_sentencepiece_vocabulary_gives_the_pieces_of_sentencepiece(prefix: bool) -> None:
    model = train_sentencepiece(add_dummy_prefix=prefix)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    ours = tokenizer_from(sentencepiece_metadata(model) | {"tokenizer.ggml.add_space_prefix": prefix})
    for text in HARD_TEXTS + UNUSUAL_TEXTS:
        ids = theirs.encode(text, add_bos=True)
        assert ours.encode(text) == ids, text
        assert ours.decode(ids) == text


def test_a_sentencepiece_vocabulary_gives_the_tokens_of_transformers(tmp_path: Path) -> None:
    """Text that begins with a space is left out: transformers 5 puts no second one before it, sentencepiece
    does.
    """
    from transformers import AutoTokenizer

    metadata = sentencepiece_metadata(train_sentencepiece())
    path = write_gguf(tmp_path / "model.gguf", "llama_tied", metadata=metadata)
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    ours = load_model(path).tokenizer
    assert ours is not None
    for text in HARD_TEXTS + UNUSUAL_TEXTS:
        if not text.startswith(" "):
            assert ours.encode(text) == theirs(text)["input_ids"], text


def test_control_tokens_in_text_are_special_and_user_defined_ones_are_text() -> None:
    theirs = train_byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    metadata = byte_level_metadata(theirs, "gpt-2")
    types = metadata["tokenizer.ggml.token_type"]
    start = metadata["tokenizer.ggml.tokens"].index("<|start|>")
    types[start] = 4
    ours = tokenizer_from(metadata)
    ids = ours.encode("<|start|>hi<|end|>")
    assert (ids[0], ids[-1]) == (start, theirs.token_to_id("<|end|>"))
    assert ours.decode(ids) == "<|start|>hi"
    assert ours.decode(ids, skip_special_tokens=False) == "<|start|>hi<|end|>"


@pytest.mark.parametrize(
    ("pre", "flags", "begins", "ends"),
    [
        ("gpt-2", {}, False, False),
        ("llama-bpe", {}, True, False),
        ("gpt-2", {"add_bos_token": True}, True, False),
        ("llama-bpe", {"add_bos_token": False}, False, False),
        ("gpt-2", {"add_bos_token": True, "add_eos_token": True}, True, True),
    ],
)
def test_text_begins_and_ends_as_metadata_or_the_family_want(
    pre: str, flags: dict[str, bool], begins: bool, ends: bool
) -> None:
    vocabulary = train_byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    keys = {f"tokenizer.ggml.{name}": value for name, value in flags.items()}
    ours = tokenizer_from(byte_level_metadata(vocabulary, pre) | keys)
    bare = ours.encode("hi", add_special_tokens=False)
    bos, eos = ours.backend.token_to_id("<s>"), ours.backend.token_to_id("</s>")
    assert ours.encode("hi") == [bos] * begins + bare + [eos] * ends
    assert (ours.bos_id, ours.eos_id) == (bos, eos)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer.ggml.pre": "qwen3"}, "pre-tokenizer 'qwen3' is not known; did you mean .*qwen2"),
        ({"tokenizer.ggml.model": "bert"}, "tokenizer.ggml.model is 'bert'; expected one of gpt2, llama"),
        ({"tokenizer.ggml.merges": ["a"]}, "tokenizer cannot be built"),
        ({"tokenizer.ggml.merges": ["<nothing> a"]}, "tokenizer cannot be built"),
        ({"tokenizer.ggml.merges": None}, "merges is None; expected an array of strings"),
        ({"tokenizer.ggml.tokens": ["a", "a"]}, "holds a token twice"),
        ({"tokenizer.ggml.token_type": [1, 2]}, "token_type: expected a number for each"),
        ({"tokenizer.ggml.bos_token_id": 10**6}, "bos_token_id is 1000000; expected an integer"),
        ({"tokenizer.ggml.model": "llama"}, "scores: expected a number for each"),
        ({"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [1.0]}, "scores: expected a number for each"),
    ],
)  # fmt: skip
def test_a_vocabulary_that_cannot_be_used_is_refused(changes: dict[str, Any], message: str) -> None:
    vocabulary = train_byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    with pytest.raises(ModelError, match=rf"^model\.gguf: .*{message}"):
        tokenizer_from(byte_level_metadata(vocabulary, "gpt-2") | changes)
