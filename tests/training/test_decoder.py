"""The decoder that is trained is the decoder that runs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ridgeway.core.errors import RequestError
from ridgeway.core.visibility import parse_visibility
from ridgeway.models.config import Experts
from ridgeway.models.loading import load_model
from ridgeway.testing import toy_config, toy_llm, toy_model
from ridgeway.training.decoder import Decoder

GOLDEN = Path(__file__).parents[1] / "golden"
CHECKPOINTS = ["llama3_rope", "llama_tied", "llama_untied", "mistral", "qwen2", "qwen3", "sdar", "llada", "dream"]


def decoder_of(model):
    decoder = Decoder(model.config)
    decoder.load({name: tensor.dequantize() for name, tensor in model.tensors.items()})
    return decoder


@torch.no_grad()
def logits_of(decoder, tokens, visibility):
    positions = np.arange(len(tokens))
    sees = torch.from_numpy(parse_visibility(visibility).matrix(positions))
    return decoder(torch.tensor([tokens]), torch.from_numpy(positions), sees)[0].numpy()


@pytest.mark.parametrize("visibility", ["causal", "bidirectional", "block(4)"])
@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_its_logits_are_those_of_the_reference_executor(checkpoint, visibility):
    model = load_model(GOLDEN / checkpoint)
    tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, 21).tolist()
    expected = toy_llm(model).logits(tokens, visibility)
    assert np.abs(logits_of(decoder_of(model), tokens, visibility) - expected).max() < 1e-4


def test_fresh_weights_are_the_same_for_the_same_seed_and_give_logits_of_the_size_of_1():
    first, second = Decoder(toy_config()), Decoder(toy_config())
    for decoder in (first, second):
        decoder.initialize(torch.Generator().manual_seed(3))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert 0.3 < logits_of(first, list(range(20)), "causal").std() < 3


def test_low_rank_changes_start_at_nothing_and_merge_into_the_weights():
    decoder = decoder_of(toy_model())
    tokens = list(range(20))
    plain = logits_of(decoder, tokens, "causal")
    decoder.adapt(rank=3, scale=2.0, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(logits_of(decoder, tokens, "causal"), plain)

    for name, weight in decoder.named_parameters():
        if name.endswith(".b"):
            torch.nn.init.normal_(weight, std=0.1)
    adapted = logits_of(decoder, tokens, "causal")
    merged = Decoder(toy_config())
    merged.load({name: weight.numpy() for name, weight in decoder.weights().items()})
    assert np.abs(adapted - plain).max() > 0.1
    assert np.abs(logits_of(merged, tokens, "causal") - adapted).max() < 1e-4


def test_low_rank_training_leaves_all_else_as_it_is():
    decoder = decoder_of(toy_model())
    decoder.adapt(rank=2, scale=2.0, generator=torch.Generator().manual_seed(0))
    trained = {name.rsplit(".", 1)[-1] for name, weight in decoder.named_parameters() if weight.requires_grad}
    assert trained == {"a", "b"}


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(RequestError, match="expected a dense decoder"):
        Decoder(toy_config(experts=Experts(count=4, active=2, intermediate=16)))
