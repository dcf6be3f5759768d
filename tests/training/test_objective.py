"""The objectives of masked and block diffusion, against the same written out plainly."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from ridgeway.core.errors import RequestError
from ridgeway.core.traits import LogitShift
from ridgeway.testing import toy_config
from ridgeway.training.bound import causal_likelihood, exact_bound, likelihood_bound, sampled_bound
from ridgeway.training.decoder import Decoder
from ridgeway.training.noise import block_times, noise
from ridgeway.training.objective import Objective, Texts
from ridgeway.training.visibility import clean_and_noisy

MASK = 60


@pytest.fixture
def decoder():
    decoder = Decoder(toy_config(qk_norm=True, tied_head=False))
    decoder.initialize(torch.Generator().manual_seed(0))
    return decoder


def texts(length=12, batch=3, seed=0, given=1):
    tokens = torch.from_numpy(np.random.default_rng(seed).integers(0, MASK, (batch, length)))
    maskable = torch.ones_like(tokens, dtype=torch.bool)
    maskable[:, :given] = False
    return Texts(tokens, maskable)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_vectorized_mask_is_the_papers_figure():
    """Blocks of 2, four tokens: noisy rows, then clean rows."""
    expected = """
        11.. ....
        11.. ....
        ..11 11..
        ..11 11..
        .... 11..
        .... 11..
        .... 1111
        .... 1111"""
    drawn = ["".join("1" if seen else "." for seen in row) for row in clean_and_noisy(4, 2).tolist()]
    assert drawn == [line.strip().replace(" ", "") for line in expected.strip().splitlines()]


def test_clean_rows_of_a_model_that_is_read_both_ways_see_causally():
    clean = clean_and_noisy(6, 3, causal=True)[6:, 6:]
    assert torch.equal(clean, torch.ones(6, 6).tril().bool())


def test_noisy_copies_do_not_see_each_other():
    sees = clean_and_noisy(4, 2, copies=2)
    assert not sees[:4, 4:8].any()
    assert not sees[4:8, :4].any()
    assert torch.equal(sees[:4, 8:], sees[4:8, 8:])


def plain_loss(decoder, objective, batch, copies):
    """Block by block, each in a forward pass of its own: clean tokens before it, then the noisy block."""
    size, length = objective.block_size, batch.tokens.shape[1]
    total = 0.0
    for masked, weight in copies:
        for start in range(0, length, size):
            stop = min(start + size, length)
            noisy = batch.tokens.masked_fill(masked, MASK)
            row = torch.cat([batch.tokens[:, :start], noisy[:, start:stop]], dim=1)
            position = torch.arange(stop)
            reach = position if objective.causal_clean else position // size
            sees = reach[:, None] >= reach[None, :]
            sees[start:, start:] = True
            logits = decoder(row, position, sees)[:, start:]
            surprise = functional.cross_entropy(
                logits.flatten(0, 1), batch.tokens[:, start:stop].flatten(), reduction="none"
            ).view(len(row), -1)
            total = total + (surprise * masked[:, start:stop] * weight[:, start:stop]).sum()
    return total / (int(batch.maskable.sum()) * len(copies))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("complementary", [False, True])
@pytest.mark.parametrize("size", [1, 4, 5, 12])
def test_loss_and_gradients_are_those_of_a_loop_over_blocks(decoder, size, complementary, causal):
    objective = Objective(size, MASK, between=(0.2, 0.8), complementary=complementary, causal_clean=causal)
    batch = texts()
    copies = noise(batch.maskable, size, (0.2, 0.8), complementary, seeded(5))
    expected = plain_loss(decoder, objective, batch, copies)
    expected.backward()
    gradients = {name: weight.grad.clone() for name, weight in decoder.named_parameters()}
    decoder.zero_grad()

    loss = objective.loss(decoder, batch, seeded(5))
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for name, weight in decoder.named_parameters():
        assert torch.allclose(weight.grad, gradients[name], atol=1e-5), name


def test_masked_diffusion_is_block_diffusion_with_one_block(decoder):
    batch = texts()
    whole = Objective(None, MASK).loss(decoder, batch, seeded())
    assert whole.item() == pytest.approx(Objective(12, MASK).loss(decoder, batch, seeded()).item(), abs=1e-5)


def test_the_causal_loss_is_the_autoregressive_likelihood(decoder):
    batch = texts(given=1)
    plain = Objective(4, MASK, causal_clean=True)
    both = Objective(4, MASK, causal_clean=True, causal_weight=0.5)
    added = both.loss(decoder, batch, seeded()) - plain.loss(decoder, batch, seeded())
    expected = 0.5 * causal_likelihood(decoder, batch).sum() / batch.maskable.sum()
    assert added.item() == pytest.approx(expected.item(), abs=1e-5)


def test_times_are_spread_evenly_over_a_batch():
    times = block_times(4, 8, (0.0, 1.0), seeded()).flatten().sort().values
    assert torch.equal((times * 32).long(), torch.arange(32))


def test_complementary_copies_mask_every_token_once():
    maskable = texts(given=3).maskable
    first, second = noise(maskable, 4, (0.1, 0.9), True, seeded())
    assert torch.equal(first.masked ^ second.masked, maskable)
    assert torch.allclose(1 / first.weight + 1 / second.weight, torch.ones(()))


def test_a_token_is_masked_as_often_as_its_time_says():
    maskable = torch.ones(400, 50, dtype=torch.bool)
    (copy,) = noise(maskable, 50, (0.3, 0.3), False, seeded())
    assert copy.masked.float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_the_bound_with_blocks_of_one_is_the_autoregressive_likelihood(decoder):
    """Shifted by one, it is the causal likelihood, row for row."""
    batch = texts()
    objective = Objective(1, MASK, LogitShift.NEXT, causal_clean=True)
    assert torch.allclose(exact_bound(decoder, objective, batch), causal_likelihood(decoder, batch), atol=1e-4)


def test_in_place_blocks_of_one_predict_each_token_from_all_before_it(decoder):
    batch = texts(batch=1)
    expected = 0.0
    for place in range(1, 12):
        row = torch.cat([batch.tokens[:, :place], torch.tensor([[MASK]])], dim=1)
        position = torch.arange(place + 1)
        with torch.no_grad():
            logits = decoder(row, position, position[:, None] >= position[None, :])
        expected -= logits[0, -1].log_softmax(-1)[batch.tokens[0, place]].item()
    found = exact_bound(decoder, Objective(1, MASK), batch).item()
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("shift", list(LogitShift))
@pytest.mark.parametrize("size", [3, 4, 5])
def test_sampling_estimates_the_exact_bound(decoder, size, shift):
    batch = texts(batch=1)
    objective = Objective(size, MASK, shift)
    exact = exact_bound(decoder, objective, batch)
    many = Texts(batch.tokens.repeat(200, 1), batch.maskable.repeat(200, 1))
    draws = sampled_bound(decoder, objective, many, seeded(1), draws=4)
    error = draws.std() / len(draws) ** 0.5
    assert abs(draws.mean() - exact).item() < 4 * error.item() + 1e-4


def test_the_training_loss_estimates_the_bound(decoder):
    batch = texts(batch=1)
    many = Texts(batch.tokens.repeat(4000, 1), batch.maskable.repeat(4000, 1))
    with torch.no_grad():
        loss = Objective(3, MASK, between=(1e-3, 1.0)).loss(decoder, many, seeded(2)) * 11
    exact = likelihood_bound(decoder, Objective(3, MASK), batch, seeded()).item()
    assert loss.item() == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"between": (0.5, 0.2)}, "0 < low <= high"),
        ({"between": (0.0, 1.0)}, "0 < low <= high"),
        ({"causal_weight": 1.0}, "clean rows that see causally"),
        ({"block_size": None, "causal_clean": True}, "needs blocks"),
    ],
)
def test_an_objective_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(RequestError, match=message):
        Objective(**({"block_size": 4, "mask_id": MASK} | settings))
