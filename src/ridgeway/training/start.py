"""The model that training starts from: a new one, or an autoregressive one that becomes a diffusion model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ridgeway.core.errors import RequestError
from ridgeway.core.traits import LogitShift
from ridgeway.models.config import ModelConfig
from ridgeway.models.loading import load_model
from ridgeway.models.model import Model
from ridgeway.models.tokenizer import Tokenizer
from ridgeway.training import byte_tokenizer
from ridgeway.training.decoder import Decoder
from ridgeway.training.recipe import Reading, Recipe, Start


@dataclass(frozen=True)
class Beginning:
    """What is trained. mask_id: of the token that stands for what is not known."""

    decoder: Decoder
    tokenizer: Tokenizer
    mask_id: int
    special: Mapping[str, str]

    @property
    def config(self) -> ModelConfig:
        return self.decoder.config


def begin(recipe: Recipe) -> Beginning:
    """The model before its first step; the same for the same recipe. Raises RequestError or ModelError."""
    generator = torch.Generator().manual_seed(recipe.seed)
    if recipe.start.source is None:
        return _new(recipe, generator)
    return _converted(recipe, load_model(recipe.start.source), generator)


def _new(recipe: Recipe, generator: torch.Generator) -> Beginning:
    """A decoder of Qwen3's kind that reads bytes."""
    sizes: dict[str, Any] = dict(recipe.start.sizes)
    config = ModelConfig(
        architecture="qwen3",
        vocab_size=byte_tokenizer.VOCAB_SIZE,
        max_positions=recipe.length,
        rms_eps=1e-6,
        rope_theta=recipe.start.rope_theta,
        tied_head=recipe.start.tied_head,
        qk_norm=True,
        end_ids=(byte_tokenizer.END_ID,),
        **sizes,
    )
    if config.heads % config.kv_heads or config.head_dim % 2:
        raise RequestError("model: expected heads to be a multiple of kv_heads, and head_dim to be even")
    decoder = Decoder(read_as(config, recipe.reading, byte_tokenizer.MASK_ID))
    decoder.initialize(generator)
    backend = byte_tokenizer.byte_tokenizer()
    return Beginning(decoder, Tokenizer(backend), byte_tokenizer.MASK_ID, byte_tokenizer.SPECIAL)


def _converted(recipe: Recipe, model: Model, generator: torch.Generator) -> Beginning:
    if model.tokenizer is None:
        raise RequestError(f"{model.source} has no tokenizer, so that texts cannot be read")
    if not model.config.end_ids:
        raise RequestError(f"{model.source} names no end token: expected eos_token_id in its config.json")
    if recipe.length > model.config.max_positions:
        raise RequestError(
            f"length={recipe.length}: expected at most {model.config.max_positions}, the model's context"
        )
    mask_id = _mask_id(model, recipe.start)
    weights = {name: tensor.dequantize() for name, tensor in model.tensors.items()}
    config = model.config
    if mask_id >= config.vocab_size:  # a row more, the mean of all: a token of no meaning in the space of meanings
        config = replace(config, vocab_size=mask_id + 1)
        for name in ("embed", "head"):
            if name in weights:
                weights[name] = np.concatenate([weights[name], weights[name].mean(axis=0, keepdims=True)])
    decoder = Decoder(read_as(config, recipe.reading, mask_id))
    decoder.load(weights)
    if recipe.start.lora_rank:
        decoder.adapt(recipe.start.lora_rank, recipe.start.lora_scale, generator)
        _learn_row(decoder.get_parameter("embed"), mask_id)
    return Beginning(decoder, model.tokenizer, mask_id, model.tokenizer.special)


def _learn_row(embedding: torch.nn.Parameter, row: int) -> None:
    """Of the embedding, train the mask's row only: low-rank changes would have to do without a mask else."""
    only = torch.zeros(len(embedding), 1)
    only[row] = 1.0
    embedding.requires_grad_(True)
    embedding.register_hook(lambda gradient: gradient * only)  # type: ignore[no-untyped-call]


def _mask_id(model: Model, start: Start) -> int:
    """The id of the mask token; the token is added to the tokenizer if it is not there yet."""
    assert model.tokenizer is not None
    backend = model.tokenizer.backend
    known = backend.token_to_id(start.mask_token)
    if known is not None:
        return int(known)
    before = model.tokenizer.vocab_size
    if before > model.config.vocab_size:
        raise RequestError(f"{model.source}: its tokenizer has {before} tokens, the model {model.config.vocab_size}")
    backend.add_special_tokens([start.mask_token])
    added = backend.token_to_id(start.mask_token)  # a row that pads the embedding, or one beyond it
    assert added is not None
    return int(added)


def read_as(config: ModelConfig, reading: Reading, mask_id: int) -> ModelConfig:
    """The configuration of a model that reads so."""
    causal = reading.attention == "causal-block"
    return replace(
        config,
        attention=reading.attention,
        logit_shift=LogitShift.NEXT if causal else reading.logit_shift,
        mask_shift=reading.logit_shift,
        block_size=reading.block_size,
        mask_id=mask_id,
    )
