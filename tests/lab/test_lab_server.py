"""The page's endpoints: the command's numbers, and sentences for what is refused."""

import json
import re

import pytest
from fastapi.testclient import TestClient

from ridgeway.lab.catalog import Catalog, Subject
from ridgeway.lab.runs import Runner
from ridgeway.lab.server import make_app
from ridgeway.llm import LLM
from ridgeway.models.known import find_outline
from ridgeway.roofline.decoding import Speculative
from ridgeway.roofline.hardware import machine
from ridgeway.roofline.predict import Predictor
from ridgeway.roofline.workload import Workload

RUN = {"model": "smollm2-135m", "max_tokens": 6}


@pytest.fixture(scope="module")
def runner():
    return Runner()


@pytest.fixture(scope="module")
def client(runner):
    return TestClient(make_app(Catalog(), Subject("8b", "h100", "bf16"), runner))


def refused(answer, says):
    assert answer.status_code == 422
    assert re.search(says, answer.json()["error"]), answer.json()


def test_the_page_names_only_its_own_parts(client):
    page = client.get("/").text
    parts = re.findall(r'(?:src|href)="(/[^"]+)"', page) + re.findall(r'"(/static/[^"]+)"', page)
    assert "/static/style.css" in parts
    assert "/static/main.js" in parts
    for part in parts:
        assert client.get(part).status_code == 200, part
    assert not re.findall(r"https?://(?!www\.w3\.org)", page)


def test_nothing_but_the_pages_parts_is_served(client):
    for name in ("page.py", "..%2Fpage.py", "index.html"):
        assert client.get(f"/static/{name}").status_code == 404


def test_requests_that_name_another_host_are_refused(client):
    assert client.get("/", headers={"host": "example.org"}).status_code == 400


def test_a_table_is_what_the_cost_model_says(client):
    asked = {"model": "llama-3.1-8b", "machine": "l40s", "precision": "bf16", "acceptance": 0.7, "cost": 0.1}
    table = client.get("/api/tables/drafting", params=asked).json()
    outline = find_outline("llama-3.1-8b")
    found = Predictor(outline.name, outline.config, machine("l40s")).predict(Workload(), Speculative(3, 0.7, 0.1))
    assert table["columns"]["intensity"][2] == pytest.approx(found.intensity, rel=0.005)


def test_a_prediction_is_what_roof_prints_as_json(client, capsys):
    from typer.testing import CliRunner

    from ridgeway.cli import app

    line = "roof llama-3.1-8b --on h100 --dtype int8 --batch 8 --method block-diffusion:block=16 --json -"
    printed = CliRunner().invoke(app, line.split()).stdout.splitlines()[-1]
    asked = {"model": "llama-3.1-8b", "machine": "h100", "precision": "int8", "batch": 8}
    found = client.get("/api/predict", params=asked | {"method": "block-diffusion:block=16"}).json()
    assert found.pop("flops_per_second") > 0
    assert found == json.loads(printed)["predictions"][0]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("predict?model=lama-3.1-8b&machine=h100", "did you mean .*llama-3.1-8b"),
        ("predict?model=8b&machine=h10", "did you mean .*h100"),
        ("predict?model=8b&machine=h100&precision=bf61", "did you mean .*bf16"),
        ("predict?model=8b&machine=h100&method=speculative:acceptance=1.2", "acceptance=1.2: expected 0 to 1"),
        ("predict?model=8b&machine=h100&batch=100000", r"batch 100000 does not fit .* leaves room for 6\d\d requests"),
        ("predict?model=70b&machine=l4", "does not fit .* one request of 768 tokens needs"),
        ("predict?model=8b&machine=h100&batch=0", "concurrency=0: expected 1 or more"),
        ("tables/drafting?model=8b&machine=h100&precision=bf16&acceptance=-1&cost=0", "acceptance=-1: expected 0 to 1"),
        (
            "tables/drafting?model=8b&machine=h100&precision=bf16&acceptance=much&cost=0",
            "acceptance=much: expected a num",
        ),
        ("tables/draughts?model=8b&machine=h100&precision=bf16", "no figure is called 'draughts'"),
    ],
)
def test_what_cannot_be_predicted_is_refused_in_words(client, path, says):
    refused(client.get(f"/api/{path}"), says)


def test_the_engine_runs_and_tells_each_weight_stream(client, runner):
    answer = client.post("/api/run", json=RUN | {"batch": 2})
    events = [json.loads(line) for line in answer.text.splitlines()]
    assert [events[0]["event"], events[-1]["event"]] == ["start", "end"]
    steps = [event for event in events if event["event"] == "step"]
    assert sum(step["committed"] for step in steps) == events[-1]["report"]["tokens"] == 12
    assert len(steps) == events[-1]["report"]["weight_streams"]
    assert all(0 < step["floor"] <= step["expected"] for step in steps)
    llm = LLM("smollm2-135m", progress=False)
    prompt = llm.chat_prompt([{"role": "user", "content": "Explain in three sentences why the sky is blue."}])
    params = llm.default_sampling_params(max_tokens=6)
    alone = llm.generate([prompt], params)[0].outputs[0].text
    assert "".join(event.get("text", "") for event in events) == alone
    assert [point["label"] for point in runner.points] == ["prefill", "ar, 2 at once"]
    assert runner.points[-1]["gain"] is None, "nothing to compare with yet"
    assert client.get("/api/runs").json() == runner.points


def test_a_run_is_compared_with_plain_decoding_that_was_run_before(client, runner):
    for change in ({}, {"batch": 4}):
        client.post("/api/run", json=RUN | {"max_tokens": 12} | change)
    plain, many = (point for point in runner.points[-4:] if point["label"] != "prefill")
    assert plain["gain"] == 1
    assert many["gain"] == pytest.approx(many["tokens_per_second"] / plain["tokens_per_second"], rel=0.02)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max_tokens": 0}, "max_tokens=0: expected 1 to"),
        ({"batch": 1000}, "batch=1000: expected 1 to"),
        ({"max_tokens": "many"}, "max_tokens=many: expected 1 to"),
        ({"prompt": "?" * 9000}, "9000 characters: expected at most 8,000"),
        ({"method": "mine.py:Mine"}, "from the command line"),
        ({"temperature": 3}, "a run is asked for by an object with model, method"),
    ],
)
def test_a_run_that_makes_no_sense_is_refused(client, change, says):
    refused(client.post("/api/run", json=RUN | change), says)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"method": "ngrm"}, "did you mean ngram"), ({"model": "smollm2"}, "did you mean smollm2-135m")],
)
def test_what_the_engine_refuses_ends_the_stream_with_a_sentence(client, change, says):
    events = [json.loads(line) for line in client.post("/api/run", json=RUN | change).text.splitlines()]
    assert events[-1]["event"] == "error"
    assert says in events[-1]["error"]


def test_a_page_from_elsewhere_cannot_start_a_run(client):
    refused(
        client.post("/api/run", content=json.dumps(RUN), headers={"content-type": "text/plain"}), "application/json"
    )


def test_one_run_at_a_time(runner, client):
    runner._busy.acquire()
    try:
        events = [json.loads(line) for line in client.post("/api/run", json=RUN).text.splitlines()]
    finally:
        runner._busy.release()
    assert events == [{"event": "error", "error": "a run is on already; wait for its end, or stop it"}]
