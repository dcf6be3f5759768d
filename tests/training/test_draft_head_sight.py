"""A draft head that looks at the model's K/V: in training it sees what it will see in an unroller."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ridgeway.core.drafting import Unrolling
from ridgeway.executors.draft_heads import ReferenceUnroller
from ridgeway.models.draft_head import DraftHead
from ridgeway.quant.tensor import Tensor
from ridgeway.testing import toy_config, toy_llm, toy_model
from ridgeway.training.distill_states import DistillStates, as_read, streams
from ridgeway.training.distill_texts import Text
from ridgeway.training.draft_head import Fixed, Network, Unrolled, unrolled_loss, unrolled_states, weights_of
from ridgeway.training.draft_head_batches import Batches
from ridgeway.training.draft_head_material import Material, places_in, value_scale_of

DEPTH, LAYER = 3, 1
LENGTHS = ((5, 9), (1, 4), (12, 20), (3, 3), (300, 240))  # of prompts and answers; the fourth is too short


@pytest.fixture(scope="module")
def model():
    return toy_model(toy_config(heads=6, kv_heads=2), sharpness=2.0)


@pytest.fixture(scope="module")
def llm(model):
    return toy_llm(model)


@pytest.fixture(scope="module")
def texts():
    generator = np.random.default_rng(0)
    lines = [[tuple(generator.integers(0, 61, count).tolist()) for count in counts] for counts in LENGTHS]
    return [Text(number, *line, temperature=0.0, seed=0) for number, line in enumerate(lines)]


@pytest.fixture(scope="module")
def material(model, llm, texts, tmp_path_factory):
    states = DistillStates(llm, texts, tmp_path_factory.mktemp("states"), LAYER)
    assert list(states.compute()) == [4, 5]
    kv = states.read_kv()
    fixed = Fixed(model, np.arange(61), LAYER, value_scale_of(kv))
    # Powers of two: scales of four-bit weights are rounded before they are folded in here, and after it in a file.
    fixed.scale, fixed.value_scale = (2.0 ** round(np.log2(scale)) for scale in (fixed.scale, fixed.value_scale))
    return Material(
        texts=texts,
        held_out=np.zeros(len(texts), dtype=np.bool_),
        places=np.array([places_in(text, DEPTH) for text in texts]),
        states=states.read(),
        kv=kv,
        fixed=fixed,
        config=model.config,
    )


@pytest.fixture
def network(model):
    generator = torch.Generator().manual_seed(0)
    network = Network(32, 48, generator, width=model.config.heads * model.config.head_dim)
    network.down.data.normal_(0.0, 0.2, generator=generator)  # else it says what the model said before
    return network


class Kept:
    """Shows K/V of an array as an executor shows its own; slots are rows."""

    kv_itemsize = 2

    def __init__(self, config, kv):
        self.config, self._kv = config, kv.astype(np.float32)

    def kv(self, layer, slots):
        assert layer == LAYER
        return self._kv[slots, 0], self._kv[slots, 1]


def test_kv_are_those_of_the_executor_for_prompts_and_answers(llm, texts, material):
    start = 0
    for group in streams(texts):
        with as_read(llm, group) as answered:
            for text, read in zip(group, answered, strict=True):
                expected = np.stack(llm.executor.kv(LAYER, read.slots), axis=1)
                assert material.kv[start : start + text.length] == pytest.approx(expected, abs=1e-2)
                start += text.length
    assert start == len(material.kv)


def test_what_is_trained_is_what_an_unroller_computes(model, texts, material, network):
    learned = np.array([2, 0, 4, 1])  # of quite different lengths, and in no order
    given = material.batch(learned, DEPTH)
    starts = np.cumsum([0, *(text.length for text in texts)])
    asked = [(number, place) for number in learned for place in range(material.places[number])]
    assert len(asked) == len(given.places) > 200
    count = len(asked)
    states = given.states.float()
    states = states * (states.square().mean(dim=1, keepdim=True) + model.config.rms_eps) ** -0.5  # float16 is inexact
    unrolling = Unrolling(
        hidden=given.states[given.places].float().numpy(),
        tokens=np.array([texts[number].answer[place] for number, place in asked]),
        positions=np.array([len(texts[number].prompt) + place + 1 for number, place in asked]),
        temperature=np.zeros(count),
        seed=np.zeros(count, dtype=np.uint64),
        sample=np.zeros(count, dtype=np.int64),
        seen=tuple(starts[number] + np.arange(len(texts[number].prompt) + place) for number, place in asked),
        depth=DEPTH,
    )
    weights = {name: Tensor.of(name, weight.numpy()) for name, weight in weights_of(network, material.fixed).items()}
    head = DraftHead.of(model, material.fixed.tokens, **weights, layer=LAYER)
    found = ReferenceUnroller(head, Kept(model.config, material.kv)).unroll(unrolling)

    drawn = np.concatenate([unrolling.tokens[:, None], found.tokens[:, :, 0]], axis=1)  # it goes on from its guesses
    rows = given.places[:, None] + torch.arange(DEPTH + 1)
    places = torch.arange(count) * (DEPTH + 1)
    own = Unrolled(states[rows].flatten(0, 1), torch.from_numpy(drawn).flatten(), places, DEPTH, sight=given.sight)
    for step, state in enumerate(unrolled_states(network, material.fixed, own)):
        chances, tokens = (state @ material.fixed.known.T).softmax(dim=-1).topk(2)
        assert tokens[:, 0].tolist() == found.tokens[:, step, 0].tolist()
        assert chances.detach().numpy() == pytest.approx(found.chances[:, step], abs=2e-5)


def test_a_text_is_learned_from_alone_as_with_others(material, network):
    """Padding changes nothing, and the loss is a mean over places."""
    learned = np.flatnonzero(material.places)
    together = unrolled_loss(network, material.fixed, material.batch(learned, DEPTH)).item()
    alone = [unrolled_loss(network, material.fixed, material.batch(np.array([text]), DEPTH)).item() for text in learned]
    assert together == pytest.approx(np.average(alone, weights=material.places[learned]), rel=1e-5)


def test_a_place_sees_nothing_of_what_comes_after_it(material, network):
    given = material.batch(np.array([0]), DEPTH)
    asked = torch.randn(len(given.places), 6 * 8)
    before = given.sight.seen(asked, 0)
    seen = len(material.texts[0].prompt) + 2  # by the third place
    kv = np.array(material.kv[:14])
    kv[seen:] = 1.0
    changed = replace(material, kv=kv).batch(np.array([0]), DEPTH).sight.seen(asked, 0)
    same = (before == changed).all(dim=1).tolist()
    assert same == [True] * 3 + [False] * (len(same) - 3)


def test_queries_learn(material, network):
    unrolled_loss(network, material.fixed, material.batch(np.array([0, 2]), DEPTH)).backward()
    assert all(weight.grad.abs().max() > 0 for weight in network.parameters())


def test_an_epoch_takes_every_text_once_and_similar_ones_together():
    generator = np.random.default_rng(1)
    lengths = generator.integers(20, 400, 500)
    places = np.where(generator.random(500) < 0.1, 0, lengths // 2)
    batches = Batches(places, lengths, 1000, seed=3)
    steps = round(places.sum() / 1000)
    first, second = ([batches.of(epoch * steps + step) for step in range(steps)] for epoch in range(2))
    for epoch in (first, second):
        assert sorted(np.concatenate(epoch).tolist()) == np.flatnonzero(places).tolist()
        assert all(700 < places[batch].sum() < 1300 for batch in epoch)
        padded = sum(len(batch) * lengths[batch].max() for batch in epoch)
        assert padded < 1.25 * lengths[places > 0].sum()
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in second]
    anew = Batches(places, lengths, 1000, seed=3)
    assert anew.of(steps + 2).tolist() == second[2].tolist()
    assert anew.of(0).tolist() == first[0].tolist()


def test_a_batch_smaller_than_a_text_is_that_text():
    batches = Batches(np.array([50, 0, 7]), np.array([60, 9, 10]), 4, seed=0)
    assert sorted(batches.of(step).tolist() for step in range(2)) == [[0], [2]]
    assert sorted(batches.of(step).tolist() for step in range(2, 4)) == [[0], [2]]
