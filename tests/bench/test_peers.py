"""Another engine behind a pipe: what it measured comes through, and whatever goes wrong there stays there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ridgeway.bench import peers
from ridgeway.bench.contenders import ContenderError
from ridgeway.bench.peers import Peer, peer_named, thread_counts
from ridgeway.bench.report import BenchReport, Refused
from ridgeway.bench.runs import Plan, measure, prepare
from ridgeway.bench.workers import llama_native, worker
from ridgeway.bench.workload import Workload
from ridgeway.core.errors import RidgewayError

HERE = Path(__file__).parent
WORKERS = Path(worker.__file__).parent
GOLDEN = HERE.parent / "golden" / "llama_tied"
LOAD = {"model": "m.gguf", "context": 64, "threads": [2, 1], "batches": [1, 2]}


@pytest.fixture
def fake():
    started = []

    def make(how="works", patience=20.0):
        command = [sys.executable, "-S", str(HERE / "fake_peer.py"), how]
        started.append(Peer("fake", command, LOAD, install="fake-engine", patience=patience))
        return started[-1]

    yield make
    for peer in started:
        peer.close()


def test_what_a_peer_measured_comes_through(fake):
    peer = fake()
    peer.start()
    peer.prepare([[1], [2]], 4)
    peer.settle()
    timeline = peer.measure([[1], [2, 3]], 4)
    assert timeline.arrivals == ((1.0, 1.5, 2.0, 2.5),) * 2
    assert timeline.token_ids == ((1,) * 4, (5,) * 4)
    assert timeline.prompt_tokens == (1, 2)
    assert peer.detail == "Fake ([2, 1]), threads 2"


def test_a_peer_ends_with_its_input(fake):
    peer = fake()
    peer.start()
    process = peer._process
    peer.close()
    assert process.wait(timeout=5) == 0


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("dies", "ended with code 3: out of luck"),
        ("babbles", "not a JSON object: 'what"),
        ("missing", "pip install fake-engine"),
        ("hangs", "did not answer within 1 s"),
    ],
)
def test_a_peer_that_goes_wrong_says_how(fake, how, says):
    peer = fake(how, patience=1.0)
    peer._patience = 20.0 if how != "hangs" else 1.0

    def whole():
        peer.start()
        peer.measure([[1]], 4)

    with pytest.raises(ContenderError) as told:
        whole()
    assert says in str(told.value)


def test_a_program_that_is_not_there_is_named():
    peer = Peer("none", ["/nowhere/python"], LOAD)
    with pytest.raises(ContenderError, match="/nowhere/python"):
        peer.start()


def bench(*contenders, batches=(1, 2)):
    plan = Plan(Workload("two", ((1,), (2,)), ("", "")), batches, 4, repeats=2)
    cells = prepare(plan, contenders, lambda what, share: None)
    measure(plan, contenders, cells, lambda what, share: None)
    return BenchReport(plan, cells, tuple(c.name for c in contenders), (contenders[0].name,))


def test_no_ratio_with_a_peer_that_produced_another_number_of_tokens(fake):
    ours, short = fake(), fake("stops early")
    ours.name = "ar"
    found = bench(ours, short)
    refused = found.ratio("ar", "fake", 1)
    assert isinstance(refused, Refused)
    assert "produced 3 tokens where 4 were asked for" in refused.reason
    assert found.notes == ["fake produced 3 tokens where 4 were asked for"]


def test_a_batch_size_that_a_peer_cannot_do_leaves_the_others(fake):
    ours, other = fake(), fake("fails for two")
    ours.name = "ar"
    found = bench(ours, other)
    assert found.ratio("ar", "fake", 1).median == pytest.approx(1.0)
    assert isinstance(found.ratio("ar", "fake", 2), Refused)
    assert any(note.startswith("fake at batch 2 failed: ValueError: two is too many") for note in found.notes)


def test_an_unknown_peer_is_refused_with_those_there_are():
    with pytest.raises(RidgewayError, match="did you mean openvino"):
        peer_named("openvine", "m.gguf", 64, [1], [1])


def test_peers_may_live_in_another_python(monkeypatch):
    monkeypatch.setenv(peers.PYTHON_VARIABLE, "/elsewhere/python")
    assert peer_named("openvino", "m.gguf", 64, [1], [1])._command[0] == "/elsewhere/python"


def test_all_threads_are_tried_and_half_of_them():
    assert [thread_counts(most) for most in (1, 2, 8)] == [[1], [2, 1], [8, 4]]


@pytest.mark.parametrize("name", ["openvino", "llama-cpp-python", "transformers"])
def test_a_missing_package_is_told_with_the_command_that_installs_it(name):
    peer = peer_named(name, "m.gguf", 64, [1], [1])
    peer._command.insert(1, "-S")  # a Python without its site-packages
    with pytest.raises(ContenderError) as told:
        peer.start()
    peer.close()
    assert f"-m pip install {peers.PEERS[name].install}" in str(told.value)
    assert "\n" not in str(told.value)


class Timed:
    """An adapter that is fastest with one thread for one prompt, and with two for more."""

    title = "Timed 1.0"

    def __init__(self, model, context, batches):
        self.used, self.kept = [], None

    def settings(self, threads):
        return [{"threads": number} for number in threads]

    def use(self, setting, batch):
        self.used.append((setting["threads"], batch))

    def keep(self, settings):
        self.kept = settings

    def generate(self, prompts, max_tokens):
        threads, batch = self.used[-1]
        pace = 1.0 if (threads == 1) == (batch == 1) else 2.0
        return None, [[pace * n for n in range(max_tokens)] for _ in prompts]


def test_each_batch_size_has_the_settings_that_were_fastest_for_it(monkeypatch):
    monkeypatch.setattr(worker, "adapter_class", lambda name: Timed)
    answering = worker.Worker("timed")
    assert answering.answer({"do": "load", **LOAD}) == {"title": "Timed 1.0"}
    prompts = {1: [[1]], 2: [[1], [2]]}
    chosen = {n: answering.answer({"do": "tune", "prompts": prompts[n], "max_tokens": 3})["setting"] for n in (1, 2)}
    assert chosen == {1: {"threads": 1}, 2: {"threads": 2}}
    answering.answer({"do": "settle"})
    assert answering.adapter.kept == [{"threads": 1}, {"threads": 2}]
    answering.answer({"do": "generate", "prompts": prompts[2], "max_tokens": 3})
    assert answering.adapter.used[-1] == (2, 2)


PROGRAM = """#!{python} -S
import json, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if given["-m"] != "m.gguf":
    sys.exit("no such model")
print("some words about the machine")
length, new = int(given.get("-npp", given.get("-p", 0))), int(given.get("-ntg", given.get("-n", 0)))
if "-npp" in given:
    print(json.dumps({{"t_pp": length / 10, "t_tg": new * int(given["-npl"])}}))
else:
    for generated in (0, new):
        for depth in (0, length):
            seconds = new * 1.0 if generated else length / 10
            print(json.dumps({{"n_gen": generated, "n_depth": depth, "avg_ns": seconds * 1e9 * (1 + (depth > 0))}}))
"""


def program(folder, name):
    path = folder / name
    path.write_text(PROGRAM.format(python=sys.executable))
    path.chmod(0o755)
    return path


def test_llama_cpp_is_measured_by_its_own_benchmark_where_there_is_one(tmp_path, monkeypatch):
    single = program(tmp_path, "llama-bench")
    monkeypatch.setenv(llama_native.VARIABLE, str(single))
    peer = peer_named("llama.cpp", "m.gguf", 64, [1], [1, 2])
    peer.start()
    peer.prepare([[1] * 10], 5)
    timeline = peer.measure([[1] * 10], 5)  # 1 s for the prompt, four steps of 1 s, twice that behind the prompt
    assert timeline.arrivals == (pytest.approx((1.0, 3.0, 5.0, 7.0, 9.0)),)
    assert timeline.token_ids is None
    with pytest.raises(ContenderError, match="one row only"):
        peer.prepare([[1], [2]], 5)
    peer.close()

    program(tmp_path, "llama-batched-bench")
    peer = peer_named("llama.cpp", "m.gguf", 64, [1], [1, 2])
    peer.start()
    peer.prepare([[1] * 10, [2] * 30], 5)
    timeline = peer.measure([[1] * 10, [2] * 30], 5)  # prompts of 20 on average; four steps of two rows
    assert timeline.arrivals == (pytest.approx((2.0, 4.0, 6.0, 8.0, 10.0)),) * 2
    assert "random tokens" in peer.title
    peer.close()


def test_the_benchmark_s_own_complaint_comes_through(tmp_path, monkeypatch):
    monkeypatch.setenv(llama_native.VARIABLE, str(program(tmp_path, "llama-bench")))
    peer = peer_named("llama.cpp", "other.gguf", 64, [1], [1])
    peer.start()
    with pytest.raises(ContenderError, match="no such model"):
        peer.prepare([[1]], 5)
    peer.close()


@pytest.mark.slow
def test_transformers_writes_the_tokens_that_we_write():
    pytest.importorskip("transformers")
    from ridgeway.core.sampling_params import SamplingParams
    from ridgeway.testing.toy import toy_llm

    prompts = [[1, 5, 9, 11], [7, 3]]
    peer = peer_named("transformers", str(GOLDEN), 64, [1], [2])
    peer.start()
    peer.prepare(prompts, 4)
    timeline = peer.measure(prompts, 8)
    peer.close()
    greedy = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    ours = toy_llm(str(GOLDEN)).generate(prompts, greedy)
    assert timeline.wrong_count(8) is None
    chosen = peer.settings[2]["dtype"]
    same = [tuple(o.outputs[0].token_ids) for o in ours]
    assert timeline.token_ids == tuple(same) or chosen == "bfloat16"


def test_a_worker_needs_nothing_but_the_standard_library():
    code = "import sys; sys.argv = ['worker.py', 'openvino']; exec(open(sys.argv[0]).read())"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], input="", capture_output=True, text=True, cwd=WORKERS, check=False
    )
    assert "ModuleNotFoundError" not in done.stderr
    asked = json.dumps({"do": "nonsense"}) + "\n"
    told = subprocess.run(
        [sys.executable, "-S", str(WORKERS / "worker.py"), "openvino"],
        input=asked, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "unknown message" in json.loads(told.stdout)["error"]
