import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from texts import (
    HARD_TEXTS,
    SPECIAL_TEXTS,
    UNUSUAL_TEXTS,
    sentencepiece_metadata,
    train_byte_level,
    train_sentencepiece,
)
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from ridgeway.core.errors import ModelError, RequestError
from ridgeway.models.tokenizer import Tokenizer


def byte_level() -> tokenizers.Tokenizer:
    return train_byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))


def sentencepiece_like() -> tokenizers.Tokenizer:
    """A `tokenizer.json` of Llama 2's kind."""
    metadata = sentencepiece_metadata(train_sentencepiece())
    tokens = metadata["tokenizer.ggml.tokens"]
    vocab = {token: id for id, token in enumerate(tokens)}
    merges = [
        (token[:at], token[at:])
        for token in tokens
        for at in range(1, len(token))
        if token[:at] in vocab and token[at:] in vocab
    ]
    backend = tokenizers.Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in ("<s>", "</s>")])
    backend.post_processor = processors.TemplateProcessing(single=["<s>", "$A"], special_tokens=[("<s>", 1)])
    return backend


def folder_with(backend: tokenizers.Tokenizer, folder: Path, **config: Any) -> Path:
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(params=[byte_level, sentencepiece_like], ids=["byte-level", "sentencepiece"])
def backend(request: pytest.FixtureRequest) -> tokenizers.Tokenizer:
    return request.param()


def streamed(tokenizer: Tokenizer, ids: list[int], **options: Any) -> list[str]:
    stream = tokenizer.stream(**options)
    return [stream.push(token) for token in ids] + [stream.flush()]


def test_a_folder_gives_the_tokens_and_the_text_of_transformers(backend: tokenizers.Tokenizer, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    ours = Tokenizer.from_folder(folder_with(backend, tmp_path, bos_token="<s>", eos_token={"content": "</s>"}))
    assert ours is not None
    for text in HARD_TEXTS + UNUSUAL_TEXTS + SPECIAL_TEXTS:
        ids = theirs(text)["input_ids"]
        assert ours.encode(text) == ids, text
        for skip in (True, False):
            expected = theirs.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            assert ours.decode(ids, skip_special_tokens=skip) == expected, text
    assert ours.vocab_size == len(theirs)
    assert (ours.bos_id, ours.eos_id) == (theirs.bos_token_id, theirs.eos_token_id)


def test_streamed_text_is_the_whole_text_and_never_splits_a_character(backend: tokenizers.Tokenizer) -> None:
    tokenizer = Tokenizer(backend)
    for text in HARD_TEXTS + UNUSUAL_TEXTS + SPECIAL_TEXTS:
        ids = tokenizer.encode(text)
        pieces = streamed(tokenizer, ids)
        assert "".join(pieces) == tokenizer.decode(ids)
        assert "\ufffd" not in "".join(pieces), text
        assert pieces[-1] == ""


def test_a_character_appears_with_its_last_byte() -> None:
    tokenizer = Tokenizer(byte_level())
    byte_tokens = [tokenizer.backend.token_to_id(character) for character in "ð٤Ķ"[:1] + "ŁĴĻ"]  # 💙
    assert [tokenizer.token_bytes(id) for id in byte_tokens] == [b"\xf0", b"\x9f", b"\x92", b"\x99"]
    assert streamed(tokenizer, byte_tokens) == ["", "", "", "💙", ""]


def test_bytes_that_cannot_become_a_character_show_at_once_and_an_incomplete_one_at_the_end() -> None:
    tokenizer = Tokenizer(byte_level())
    first, letter = tokenizer.backend.token_to_id("ð"), tokenizer.backend.token_to_id("a")
    assert streamed(tokenizer, [first, letter, first]) == ["", "\ufffda", "", "\ufffd"]


def test_the_space_before_the_first_word_is_dropped_unless_the_text_goes_on() -> None:
    tokenizer = Tokenizer(sentencepiece_like())
    start, *word = tokenizer.encode("hello")
    assert tokenizer.decode([start, *word]) == "hello"
    assert "".join(streamed(tokenizer, word)) == "hello"
    assert "".join(streamed(tokenizer, word, after=[start])) == "hello"
    assert "".join(streamed(tokenizer, word, after=[start, *word])) == " hello"


def test_ids_without_a_token_are_no_text() -> None:
    tokenizer = Tokenizer(byte_level())
    assert tokenizer.decode([tokenizer.vocab_size + 5]) == ""
    assert tokenizer.token(tokenizer.vocab_size + 5) == ""


def test_truncation_and_padding_in_the_file_are_ignored(tmp_path: Path) -> None:
    backend = byte_level()
    plain = backend.encode("one two three").ids
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    tokenizer = Tokenizer.from_folder(folder_with(backend, tmp_path))
    assert tokenizer is not None
    assert tokenizer.encode("one two three") == plain


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(RequestError, match="not valid Unicode"):
        Tokenizer(byte_level()).encode("a\ud800b")


@pytest.mark.parametrize("text", ["", "{}", "[" * 1000, '{"model": {"type": "BPE"}}', "\x00"])
def test_a_broken_tokenizer_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ModelError, match=r"tokenizer\.json: "):
        Tokenizer.from_folder(tmp_path)


def test_a_decoder_of_another_kind_is_refused(tmp_path: Path) -> None:
    backend = byte_level()
    backend.decoder = decoders.WordPiece()
    with pytest.raises(ModelError, match="decoder WordPiece; expected byte-level or sentencepiece"):
        Tokenizer.from_folder(folder_with(backend, tmp_path))
