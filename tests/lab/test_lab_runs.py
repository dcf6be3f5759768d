"""Runs for the page: what a stream revealed, and where."""

import pytest
from lab_toys import TOY

from ridgeway.core.errors import RequestError
from ridgeway.lab.runs import Runner, RunRequest, runnable_models


@pytest.fixture(scope="module")
def runner():
    return Runner(models={"toy": TOY})


def revealed(runner, **asked):
    events = list(runner.run(RunRequest("toy", max_tokens=12, trace=True, **asked)))
    return [event for event in events if event["event"] == "revealed"], events[-1]["report"]


def test_every_position_of_a_block_is_revealed_once_after_it_was_computed(runner):
    streams, report = revealed(runner, method="block-diffusion:block=4")
    places = [place for stream in streams for place, _ in stream["tokens"]]
    assert sorted(place for place in places if 0 <= place < 12) == list(range(12))
    assert places != sorted(places), "not from left to right"
    for stream in streams:
        if stream["computed"]:
            assert {place for place, _ in stream["tokens"]} <= set(stream["computed"])
    assert len(streams) == report["weight_streams"]


def test_what_a_run_leaves_on_the_map_lies_under_the_roof(runner):
    list(runner.run(RunRequest("toy", "block-diffusion", max_tokens=8)))
    point = runner.points[-1]
    assert point["machine"] == "H100 SXM 80GB"
    assert 0 < point["flops_per_second"] < 989e12
    assert point["expected_flops_per_second"] > 0


def test_a_run_that_is_left_early_makes_room_for_the_next(runner):
    begun = runner.run(RunRequest("toy", "block-diffusion", max_tokens=12))
    assert next(begun)["event"] == "start"
    with pytest.raises(RequestError, match="a run is on already"):
        next(runner.run(RunRequest("toy", "block-diffusion")))
    begun.close()
    assert list(runner.run(RunRequest("toy", "block-diffusion", max_tokens=4)))[-1]["event"] == "end"


def test_the_models_that_ridgeway_brings_along_can_be_run():
    assert set(runnable_models()) == {"smollm2-135m", "toy-diffusion"}


@pytest.mark.filterwarnings("ignore:method 'block-diffusion'")
def test_the_toy_writes_a_sentence_in_fewer_streams_than_tokens():
    asked = RunRequest("toy-diffusion", "block-diffusion:block=16", max_tokens=48, trace=True)
    events = list(Runner().run(asked))
    text = "".join(event.get("text", "") for event in events)
    assert text.strip().endswith(".")
    assert events[-1]["report"]["tokens_per_forward"] > 1
    assert any(token == "∎" for event in events if event["event"] == "revealed" for _, token in event["tokens"])
