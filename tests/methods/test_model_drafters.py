"""Drafts that cost weight streams: a second model, or the same one with sublayers skipped."""

import numpy as np
import pytest

from ridgeway.core.errors import MethodError
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.methods.registry import make_method
from ridgeway.methods.self_speculative import predicted_speed, search
from ridgeway.testing import check_lossless, toy_config, toy_llm, toy_model

DRAWN = SamplingParams(temperature=0.8, seed=5, max_tokens=30)
PROMPTS = [[3, 1, 4, 1, 5], [9, 2, 6] * 9, [8]]
SMALL = toy_model(toy_config(layers=1), seed=0)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("RIDGEWAY_HOME", str(tmp_path))


def llm_with(model, name="small", **options):
    llm = toy_llm(**options)
    llm.add_draft_model(name, model)
    return llm


def test_a_draft_model_leaves_the_text_as_it_is():
    check_lossless(make_method("draft:model=small,depth=3"), llm_with(SMALL))


def test_few_pages_for_the_draft_model_cost_speed_and_nothing_else():
    plain = toy_llm().generate(PROMPTS * 4, DRAWN, method="ar")
    llm = llm_with(SMALL)
    pool = llm.engine.draft_models["small"].cache.pool
    held = [pool.take() for _ in range(pool.total - 4)]
    drafted = llm.generate(PROMPTS * 4, DRAWN, method="draft:model=small")
    assert [o.outputs[0].token_ids for o in drafted] == [o.outputs[0].token_ids for o in plain]
    assert pool.available == 4
    assert len(held) == pool.total - 4


def test_the_model_itself_as_drafter_is_always_right_even_when_tokens_are_drawn():
    """Both draw with the same noise, so equal distributions draw equal tokens: the draft is always accepted whole."""
    llm = llm_with(toy_model(), "twin")
    for output in llm.generate(PROMPTS, DRAWN, method="draft:model=twin,depth=4"):
        assert output.metrics.weight_streams <= 7  # 30 tokens, 5 a stream; a long prompt's own stream drafts nothing
        assert output.outputs[0].drafts.acceptance == [1.0] * 4
        assert output.outputs[0].drafts.label in ("too short", "too few drafts to tell")


def test_the_draft_models_cache_is_wound_back_and_never_filled_twice():
    """After a refused draft only the newest tokens go through the draft model again, not the whole text."""
    llm = llm_with(SMALL)
    rows = []
    executor = llm.engine.draft_models["small"].executor
    forward = executor.forward
    executor.forward = lambda batch: (rows.append(batch.rows), forward(batch))[1]
    llm.generate([[1, 2, 3, 4, 5]], DRAWN, method="draft:model=small,depth=3")
    assert max(rows[1:]) <= 2  # the newest token, and a draft that was accepted but never read by the drafter
    assert all(not model.views for model in llm.engine.draft_models.values())


def test_streams_of_the_draft_model_are_counted_at_its_own_cost():
    llm = llm_with(SMALL)
    llm.generate([[1, 2, 3]], SamplingParams(temperature=0, max_tokens=12), method="draft:model=small,depth=2")
    sizes = {step.cost.weight_bytes // step.cost.streams for step in llm.steps if step.rows == 1}
    small, large = llm.engine.draft_models["small"].cost_model, llm.cost_model
    assert small.weight_bytes in sizes
    assert small.weight_bytes < large.weight_bytes


def test_another_vocabulary_is_refused_in_a_sentence():
    with pytest.raises(MethodError, match="its vocabulary has 50 tokens, not 61"):
        toy_llm().add_draft_model("other", toy_model(toy_config(vocab_size=50)))
    with pytest.raises(MethodError, match="which model drafts"):
        toy_llm().generate([[1]], method="draft")
    with pytest.raises(MethodError, match="expected match or ratio"):
        make_method("draft:model=x,accept=maybe")


def test_self_speculation_leaves_the_text_as_it_is():
    model = toy_model(toy_config(layers=4), seed=2)
    check_lossless("self-speculative:trials=6,depth=3", toy_llm(model))


def test_skipped_sublayers_are_not_streamed_and_committed_tokens_keep_their_values():
    llm = toy_llm(toy_model(toy_config(layers=4)))
    llm.generate([[1, 2, 3]], SamplingParams(temperature=0, max_tokens=12), method="self-speculative:trials=5")
    skip_set = llm.method("self-speculative:trials=5").drafter.skip_set
    assert not skip_set.sublayers.all()
    drafts = [step for step in llm.steps if step.cost.weight_bytes < llm.cost_model.weight_bytes]
    assert drafts


def test_the_skip_set_is_searched_for_once_and_saved(monkeypatch):
    model = toy_model(toy_config(layers=4))
    first = toy_llm(model).method("self-speculative:trials=5").drafter.skip_set
    monkeypatch.setattr("ridgeway.methods.self_speculative.search", lambda *_: pytest.fail("searched again"))
    again = toy_llm(model).method("self-speculative:trials=5").drafter.skip_set
    assert (again.sublayers == first.sublayers).all()
    assert "skip" in again.words


def test_the_search_finds_the_fast_set_not_the_one_that_agrees_most():
    class Bench:
        """Only sublayer (2, 1) matters; each skipped one saves as much."""

        layers = 6

        def seconds(self, rows, sublayers=None):
            return 1.0 if sublayers is None else 0.2 + 0.8 * sublayers.mean()

        def agreement(self, sublayers):
            return 0.3 if not sublayers[2, 1] else 0.97

    found = search(Bench(), 200)
    assert found.sublayers[2, 1]
    assert (~found.sublayers).sum() >= 7  # of ten that may go
    assert found.speed > predicted_speed(1.0, 1.0, lambda rows: 1.0, 1.0)[0]


def test_predicted_speed_is_the_papers_formula():
    """(1 - a^(g+1)) / ((1 - a) (g c + 1)), Leviathan et al., theorem 3.8; no gain where a < c."""
    speed, depth = predicted_speed(0.8, 0.3, lambda rows: 1.0, 1.0)
    expected = max((1 - 0.8 ** (g + 1)) / (0.2 * (g * 0.3 + 1)) for g in range(1, 9))
    assert speed == pytest.approx(expected)
    assert predicted_speed(0.3, 0.5, lambda rows: 1.0, 1.0)[0] < 1
    assert depth == 3


@pytest.mark.parametrize("confidence", [0.0, 0.99])
def test_an_unsure_drafter_ends_its_draft(confidence):
    llm = llm_with(SMALL)
    spec = f"draft:model=small,depth=6,confidence={confidence}"
    counts = llm.generate([[1, 2, 3]], DRAWN, method=spec)[0].outputs[0].drafts
    mean = counts.longest / counts.steps
    assert mean > 4 if confidence == 0 else mean < 2
    assert np.isfinite(mean)
