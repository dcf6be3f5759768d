"""A model that denoises, for pages without one: random weights, and the tokenizer of a real model."""

from dataclasses import replace

from ridgeway.lab.runs import Runnable
from ridgeway.models.loading import load_model
from ridgeway.models.tokenizer import Tokenizer
from ridgeway.testing import toy_config, toy_llm, toy_model


def denoising_toy():
    """Of blocks of four; it knows the first 61 tokens."""
    config = toy_config(attention="block", block_size=4, mask_id=60, tied_head=False)
    tokenizer = Tokenizer(load_model("smollm2-135m").tokenizer.backend)
    return toy_llm(replace(toy_model(config, sharpness=2.0), tokenizer=tokenizer))


TOY = Runnable("a toy of random weights", "!", denoising_toy)
