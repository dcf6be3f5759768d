"""A tokenizer whose tokens are bytes: id = byte, then a mask, an end and a beginning. Nothing has to be learned."""

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from ridgeway.models.token_bytes import BYTE_OF

MASK, END, BEGIN = "<|mask|>", "<|end|>", "<|begin|>"
MASK_ID, END_ID, BEGIN_ID = 256, 257, 258
VOCAB_SIZE = 259
SPECIAL = {"bos_token": BEGIN, "eos_token": END, "pad_token": END, "mask_token": MASK}


def byte_tokenizer() -> tokenizers.Tokenizer:
    """Every text begins with `BEGIN`. Byte-level as in GPT-2 (Radford et al. 2019, section 2.2), without merges."""
    backend = tokenizers.Tokenizer(models.BPE(vocab=dict(BYTE_OF), merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([MASK, END, BEGIN])
    assert [backend.token_to_id(token) for token in (MASK, END, BEGIN)] == [MASK_ID, END_ID, BEGIN_ID]
    backend.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, BEGIN_ID)])
    return backend
