"""A token taken apart adds up to the whole."""

import pytest

from ridgeway.models.known import find_outline
from ridgeway.roofline.anatomy import token_parts
from ridgeway.roofline.cost import QueryShape
from ridgeway.roofline.hardware import machine
from ridgeway.roofline.predict import Predictor


@pytest.mark.parametrize("name", ["llama-3.1-8b", "smollm2-135m", "qwen3-30b-a3b", "deepseek-v3", "gemma-3-4b"])
def test_the_parts_of_a_token_are_all_of_its_bytes_and_products(name):
    outline = find_outline(name)
    model = Predictor(outline.name, outline.config, machine("h100")).cost_model
    parts = token_parts(model)
    whole = model.count([QueryShape(1)])
    assert len(parts) == 2 * outline.config.layers + 1
    row = 0 if outline.config.tied_head else outline.config.hidden * 2
    assert sum(part.weight_bytes for part in parts) == whole.weight_bytes - row
    assert sum(part.flops for part in parts) == whole.flops
    assert sum(part.memory_seconds for part in parts) == pytest.approx(model.memory_seconds(whole), rel=0.01)
    assert sum(part.compute_seconds for part in parts) == pytest.approx(model.compute_seconds(whole), rel=1e-9)


def test_a_layer_of_an_8b_model_takes_longer_to_arrive_than_to_multiply():
    outline = find_outline("llama-3.1-8b")
    mlp = token_parts(Predictor(outline.name, outline.config, machine("h100")).cost_model)[1]
    assert mlp.name == "layer 1 MLP"
    assert mlp.weight_bytes == pytest.approx(3 * 4096 * 14336 * 2, rel=0.001)
    assert mlp.memory_seconds / mlp.compute_seconds == pytest.approx(295, rel=0.01)
