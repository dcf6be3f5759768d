"""Ridgeway's own methods as contenders, on a toy model."""

import pytest

from ridgeway.bench.contenders import OwnMethod, split_specs
from ridgeway.bench.picture import bench_svg
from ridgeway.bench.report import BenchReport
from ridgeway.bench.roof import plain_token
from ridgeway.bench.runs import Plan, measure, prepare
from ridgeway.bench.setup import bench_llm, contenders_of
from ridgeway.bench.workload import Workload
from ridgeway.core.errors import MethodError
from ridgeway.testing.toy import toy_llm

ECHO = "examples/my_method.py:Echo:depth=2"
PROMPTS = [[1, 2, 3, 1, 2, 3], [4, 5], [6, 7, 6, 7, 6]]


def test_specs_with_options_are_told_apart():
    assert split_specs("ar, ngram:k=4,n=2,lookahead") == ["ar", "ngram:k=4,n=2", "lookahead"]
    assert split_specs("a.py:Mine:depth=2,b.py:Mine") == ["a.py:Mine:depth=2", "b.py:Mine"]
    assert split_specs("ar,ar") == ["ar"]


def test_every_request_has_its_tokens_and_the_streams_are_known():
    timeline = OwnMethod(toy_llm(), "ar").measure(PROMPTS, 6)
    assert timeline.wrong_count(6) is None
    assert timeline.decode_tokens == 3 * 5
    assert timeline.decode.tokens == 15
    assert timeline.decode.streams == 5
    assert 0 < timeline.decode.seconds <= timeline.decode_seconds
    assert timeline.prefill.cost.rows == sum(map(len, PROMPTS))


def test_nothing_is_left_in_a_cache_for_the_next_run():
    llm = toy_llm(prefix_caching=False)
    contender = OwnMethod(llm, "ar")
    prompt = [list(range(1, 40))]
    first, second = contender.measure(prompt, 3), contender.measure(prompt, 3)
    assert first.prefill.cost.rows == second.prefill.cost.rows == 39
    assert [output.num_cached_tokens for output in llm.outputs] == [0]


def test_a_method_that_cannot_run_the_model_is_refused_before_anything_is_measured(tmp_path):
    picky = tmp_path / "picky.py"
    picky.write_text(
        "from ridgeway.methods.autoregressive import Autoregressive\n"
        "class Picky(Autoregressive):\n"
        "    def refusal(self, traits):\n"
        "        return 'it wants another one'\n"
    )
    with pytest.raises(MethodError, match="wants another one"):
        OwnMethod(toy_llm(), f"{picky}:Picky")


def test_a_whole_bench_of_methods(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    workload = Workload("toy", tuple(tuple(prompt) for prompt in PROMPTS), ("a", "b", "a"))
    plan = Plan(workload, (1, 2), 8, repeats=2)
    llm = toy_llm(prefix_caching=False)
    contenders = contenders_of(llm, plan, ["ar", ECHO], [], threads=1)
    cells = prepare(plan, contenders, lambda what, share: None)
    measure(plan, contenders, cells, lambda what, share: None)
    report = BenchReport(plan, cells, ("ar", ECHO), ("ar", ECHO), lossless=(ECHO,))
    assert report.notes == []  # its tokens are plain decoding's
    assert report.rows["ar", 1].tokens_per_forward == pytest.approx(1.0)
    assert report.rows["ar", 2].tokens_per_forward == pytest.approx(2.0)
    assert report.rows[ECHO, 1].tokens_per_forward >= 1.0
    assert report.category_tokens_per_forward("ar", 1, "a") == pytest.approx(1.0)
    drawn = bench_svg(report, llm)
    for label in ("ar, batch 1", "ar, batch 2", "prefill, batch 1", "Echo"):
        assert label in drawn


def test_the_roof_for_others_is_that_of_the_packed_file_read_once_a_step():
    llm = toy_llm()
    workload = Workload("toy", ((1,) * 30, (2,) * 10), ("", ""))
    found = plain_token(llm, Plan(workload, (1, 2), 20, 1))
    packed = sum(tensor.nbytes for tensor in llm.model.tensors.values())
    slot = llm.executor.slot_bytes  # a step reads what its row sees, itself included, and writes one
    bandwidth = llm.machine.memory_bandwidth
    assert found[1].seconds == pytest.approx((packed + slot * (40 + 20 + 4) / 2) / bandwidth)
    assert found[1].bytes == pytest.approx(packed + slot * (40 + 20 + 4) / 2, rel=0.05)
    assert found[2].seconds == pytest.approx((packed + slot * (40 + 20 + 4)) / 2 / bandwidth)


def test_the_pool_holds_the_largest_batch_at_once():
    workload = Workload("toy", ((1,) * 30, (2,) * 10), ("", ""))
    model = toy_llm().model
    llm = bench_llm(model, Plan(workload, (1, 5), 20, 1), executor="reference", threads=1)
    llm.machine = llm.cost_model.machine
    timeline = OwnMethod(llm, "ar").measure([(1,) * 30] * 5, 20)
    assert timeline.wrong_count(20) is None
    assert all(output.metrics.preemptions == 0 for output in llm.outputs)
    assert not llm.engine.prefix_caching
