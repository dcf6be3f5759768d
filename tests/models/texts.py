"""Text that tokenizers get wrong, and vocabularies small enough to be trained in a test."""

import io
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

HARD_TEXTS = [
    "",
    " ",
    "Hello, world!",
    "def f(x: int) -> int:\n    return x ** 2  # 12345\n\n\n\tprint('hi')\n",
    "for (int i = 0; i < 10; ++i) { a[i] += b[i] << 2; }",
    "🤗🎉 family 👩‍👩‍👧‍👦 flags 🇩🇪🇯🇵 skin 👍🏽",
    "你好，世界。日本語のテキスト 한국어 텍스트",
    "a" + " " * 50 + "b\n\n\n   c\t\t\td",
    "line\r\nline\r\rline\n\r  \n \n",
    "3.14159 1,000,000 year2024 0x1F",
    "I'll don't WE'VE it's y'all'd",
    "trailing  ",
    "naïve café ﬁ straße ÅÄÖ Привет мир مرحبا שלום",
    "no\u00a0break\u2003em\u200bzero",
    "\x00\x01\x7f",
    "$+<=>^~|`#@%&*()[]{}\\/\"'",
    "CamelCaseWords and snake_case_words AND SHOUTING",
]
# Numbers that are not digits, and letters written as letter and accent: families differ in these.
UNUSUAL_TEXTS = ["½ Ⅷ ١٢٣ 四 ²", "e\u0301 n\u0303 \u1100\u1161"]
SPECIAL_TEXTS = ["<s>x</s>", "before<|end|> after", "<|end|><|end|> <s> ", "a <|end|>\n<|start|>user\n"]

_CORPUS = [
    "The quick brown fox jumps over the lazy dog. It's 2024 and they'll run 1000 miles, won't they?",
    "def main():\n    for i in range(100):\n        print(i, 'hello world')\n    return None\n",
    "Straße, café, naïve; Привет мир; 你好世界 日本語 한국어; 🤗 🎉 👍🏽",
    "There is nothing either good or bad, but thinking makes it so. Words, words, words.",
    "Spaces:    four,        eight. Tabs:\t\t. $x^2 + y^2 <= z_1^{12}$",
] * 4


def train_byte_level(pre_tokenizer: Any, size: int = 600) -> Tokenizer:
    """A byte-level BPE vocabulary: three special tokens, one added token that is text, then what is learnt."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "</s>", "<|end|>", "<|start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in ("<s>", "</s>", "<|end|>", "<|start|>")])
    return tokenizer


def train_sentencepiece(add_dummy_prefix: bool = True) -> bytes:
    """A sentencepiece BPE model as Llama's was made: byte fallback, no normalization, spaces kept."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in _CORPUS for line in text.splitlines()),
        model_writer=model,
        model_type="bpe",
        vocab_size=600,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=add_dummy_prefix,
        split_digits=True,
        minloglevel=2,
    )
    return model.getvalue()


def byte_level_metadata(tokenizer: Tokenizer, pre: str | None) -> dict[str, Any]:
    """GGUF metadata of a byte-level vocabulary."""
    import json

    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    metadata = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in special else 1 for token in tokens],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.bos_token_id": tokens.index("<s>"),
        "tokenizer.ggml.eos_token_id": tokens.index("</s>"),
    }
    return metadata | ({} if pre is None else {"tokenizer.ggml.pre": pre})


def sentencepiece_metadata(model: bytes) -> dict[str, Any]:
    """GGUF metadata of a sentencepiece model."""
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = range(pieces.get_piece_size())
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [pieces.id_to_piece(id) for id in ids],
        "tokenizer.ggml.scores": [float(pieces.get_score(id)) for id in ids],
        "tokenizer.ggml.token_type": [
            2 if pieces.is_unknown(id) else 3 if pieces.is_control(id) else 6 if pieces.is_byte(id) else 1 for id in ids
        ],
        "tokenizer.ggml.bos_token_id": pieces.bos_id(),
        "tokenizer.ggml.eos_token_id": pieces.eos_id(),
        "tokenizer.ggml.unknown_token_id": pieces.unk_id(),
    }
