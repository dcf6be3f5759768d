"""The card says where the wall is, where the run stands, why, and what would help; the plot draws it."""

import re
from dataclasses import replace
from io import StringIO
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from ridgeway.core.errors import MachineError
from ridgeway.core.outputs import RevealCounts
from ridgeway.models.config import ModelConfig
from ridgeway.roofline.advice import EIGHT_BILLION, advice
from ridgeway.roofline.card import Card
from ridgeway.roofline.cost import CostModel, QueryShape
from ridgeway.roofline.hardware import machine
from ridgeway.roofline.machine import BandwidthPoint, Machine, Peak
from ridgeway.roofline.plot import Point, roofline_svg
from ridgeway.roofline.report import RunReport, StepReport

CONFIG = ModelConfig(
    architecture="llama",
    hidden=512,
    layers=8,
    heads=8,
    kv_heads=4,
    head_dim=64,
    intermediate=1536,
    vocab_size=8192,
    max_positions=2048,
    rms_eps=1e-5,
    rope_theta=1e4,
    tied_head=True,
)
MACHINE = Machine(
    name="2-core Example",
    source="measured",
    bandwidths=(BandwidthPoint(1 << 20, 2, 30e9, 28e9),),
    peaks={"fp32": Peak(200e9, 180e9)},
    step_overhead=1e-5,
    layer_overhead=1e-5,
    memory_bytes=1 << 34,
    usable_bytes=1 << 34,
)


def packed(format_bits: float) -> dict[str, int]:
    return {name: round(np.prod(shape) * format_bits / 8) for name, shape in CONFIG.tensor_shapes().items()}


def model(bits: float = 32, on: Machine = MACHINE) -> CostModel:
    return CostModel(CONFIG, packed(bits), 4, 4, "fp32", on)


def run(cost_model: CostModel, slowness: float = 1.25, committed: int = 1, **options: object) -> RunReport:
    steps = []
    for number in range(21):
        shape = QueryShape(1, 30 + number) if number else QueryShape(30)
        cost = cost_model.count([shape])
        step = StepReport.of(
            cost_model,
            cost,
            rows=shape.rows,
            reads=1,
            requests=1,
            prefill_rows=0 if number else 29,
            committed=committed if number else 1,
            seconds=slowness * cost_model.floor(cost),
        )
        cost_model.observe(cost, step.seconds)
        steps.append(step)
    settings = {"model": "Example-20M F32", "method": "ar", "prompt_tokens": 30, "kv_pool_fraction": 0.004}
    return RunReport.of(steps, cost_model, token_ids=range(1 + 20 * committed), **(settings | options))  # type: ignore[arg-type]


def card(report: RunReport, cost_model: CostModel, **options: object) -> str:
    return Card(report, cost_model, **options).as_text(110)  # type: ignore[arg-type]


def test_the_run_stands_under_the_wall_by_its_share_of_the_roof() -> None:
    cost_model = model()
    text = card(run(cost_model), cost_model)
    assert "Example-20M F32 | ar | 2-core Example, peaks measured" in text
    bars = re.findall(r"^  (\S.*?) *\|#+ *\| +([\d.,]+)", text, re.MULTILINE)
    rates = {label: float(rate.replace(",", "")) for label, rate in bars}
    cost = cost_model.count([QueryShape(1, cached=30 + 21 // 2)])
    assert rates["memory, plain"] == pytest.approx(30e9 / (cost.weight_bytes + cost.kv_bytes), rel=0.01)
    assert rates["arithmetic alone"] == pytest.approx(200e9 / cost.flops, rel=0.01)
    assert rates["this run"] == pytest.approx(rates["memory, plain"] / 1.25, rel=0.01)
    assert "80 % of the roof" in text
    assert "<- the wall" in text
    assert "memory-bound" in text


def test_bars_share_one_scale() -> None:
    cost_model = model()
    text = card(run(cost_model, slowness=2), cost_model)
    marks = [len(found) for found in re.findall(r"\|(#+)", text)]
    assert marks[0] == 30
    rates = [bar.rate for bar in Card(run(model(), slowness=2), cost_model).bars()]
    assert marks == [max(1, round(30 * rate / rates[0])) for rate in rates]


def test_bytes_of_a_stream_are_those_counted() -> None:
    cost_model = model()
    report = run(cost_model)
    cost = report.decode.cost
    text = card(report, cost_model)
    assert f"weights {sum(packed(32).values()) / 1e6:.1f} MB" in text
    assert f"K/V {cost.kv_bytes / 20 / 1e6:.1f} MB" in text
    assert "21 tokens from 21 weight streams = 1.00 per stream" in text
    assert "K/V pool 0.4 % used" in text


def test_a_method_is_compared_with_plain_decoding_which_is_marked_as_predicted() -> None:
    cost_model = model()
    run(cost_model)  # plain steps, which calibrate
    report = run(cost_model, committed=2, method="ngram:k=4")
    text = card(report, cost_model)
    assert re.search(r"plain \(ar\) .* predicted [\d.]+-[\d.]+", text)
    assert "2.00x, same tokens" in text
    assert "its own tokens" in card(replace(report, lossless=False), cost_model)


def test_the_elsewhere_line_is_the_textbook_wall() -> None:
    cost_model = model()
    text = " ".join(card(run(cost_model), cost_model).split())
    assert "wall 209, arithmetic 61,800 tok/s (295x)" in text


def test_a_price_is_turned_into_dollars_per_million_tokens() -> None:
    cost_model = model()
    report = run(cost_model, price=0.10)
    dollars = 0.10 / 3600 * report.whole.seconds / 21 * 1e6
    assert f"${dollars:.2g} per million tokens at $0.10 per hour" in card(report, cost_model)
    assert "--price" in card(run(cost_model), cost_model)


def test_data_sheet_peaks_say_so() -> None:
    cost_model = model(on=machine("h100"))
    assert "H100 SXM 80GB, peaks from its data sheet" in card(run(cost_model), cost_model)


def test_packing_is_advised_only_where_the_executor_unpacks() -> None:
    unpacked = model(32)
    report = run(unpacked)
    gains = advice(report, unpacked, packed(5))
    assert any("weights packed" in item.text and 2 < item.gain < 6.4 for item in gains)
    slow = run(model(32), slowness=50)  # says nothing about an executor that was not run
    assert advice(slow, unpacked, packed(5))[0].gain < 8
    assert not any("weights packed" in item.text for item in advice(report, unpacked, packed(32)))
    assert not any("weights packed" in item.text for item in advice(report, unpacked))


def test_more_requests_help_while_memory_is_the_limit_and_never_more_than_their_number() -> None:
    cost_model = model()
    (eight,) = advice(run(cost_model), cost_model)
    assert eight.text == "8 requests at once"
    assert 3 < eight.gain <= 8
    assert eight.low <= eight.gain <= eight.high <= 8
    slow_arithmetic = model(on=replace(MACHINE, peaks={"fp32": Peak(1e9, 1e9)}))
    assert advice(run(slow_arithmetic), slow_arithmetic) == []


def test_no_advice_asks_for_more_k_v_than_there_is_room_for() -> None:
    cost_model = model()
    assert advice(replace(run(cost_model), kv_pool_fraction=0.5), cost_model) == []


@pytest.mark.parametrize("width", [80, 100, 140])
def test_lines_fit_the_terminal(width: int) -> None:
    cost_model = model()
    report = run(cost_model, price=0.1, method="ngram:k=4", notes=["drafts: n-gram, 61 % accepted"])
    text = Card(report, cost_model, packed(5), ("ridgeway machine", "ridgeway methods")).as_text(width)
    assert max(map(len, text.splitlines())) <= width
    assert "drafts: n-gram, 61 % accepted" in text
    assert "ridgeway machine | ridgeway methods" in text
    assert text.isascii()


def test_colour_changes_no_character() -> None:
    cost_model = model()
    shown = Card(run(cost_model), cost_model)
    file = StringIO()
    Console(file=file, width=100, force_terminal=True, color_system="standard", highlight=False).print(shown)
    assert "\x1b[" in file.getvalue()
    assert re.sub(r"\x1b\[[\d;]*m", "", file.getvalue()) == shown.as_text(100)


def test_the_card_of_a_run_of_one_token_has_no_decode_rate() -> None:
    cost_model = model()
    report = run(cost_model)
    one = RunReport.of(
        report.prefill.steps, cost_model, model="m", method="ar", prompt_tokens=30, token_ids=[1], kv_pool_fraction=0.0
    )
    text = card(one, cost_model)
    assert "this run" not in text
    assert "1 token from 1 weight stream = 1.00 per stream" in text


def test_the_plot_has_the_roof_and_every_point_under_it() -> None:
    cost_model = model()
    report = run(cost_model)
    points = [
        Point.of("prefill", report.prefill),
        Point.of("decode <plain>", report.decode),
        Point("8 at once", 2.0, 2e10, predicted=True),
    ]
    tree = ElementTree.fromstring(roofline_svg(MACHINE, "fp32", points, title="A & B"))
    texts = [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"A & B", "decode <plain>", "8 at once (predicted)", "ridge 6.67", "memory 30 GB/s, measured"} <= set(texts)
    circles = list(tree.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == 3
    xs = [float(circle.get("cx", "")) for circle in circles]
    assert xs == sorted(xs)
    roof = next(p for p in tree.iter("{http://www.w3.org/2000/svg}path") if p.get("stroke-width") == "2.5")
    x0, y0, x1, y1 = map(float, re.findall(r"[\d.]+", roof.get("d", ""))[:4])
    for circle in circles:
        x, y = float(circle.get("cx", "")), float(circle.get("cy", ""))
        attainable = y0 + (y1 - y0) * min(1, (x - x0) / (x1 - x0))
        assert y >= attainable  # down is less


def test_the_plot_of_an_arithmetic_the_machine_lacks_is_refused() -> None:
    with pytest.raises(MachineError, match="bf16"):
        roofline_svg(MACHINE, "bf16", [])


def test_more_requests_help_a_denoiser_only_left_of_the_ridge() -> None:
    """Its steps have the rows of a canvas: with many of them, arithmetic is what takes the time."""
    cost_model = CostModel.predicted(EIGHT_BILLION, "BF16", machine("h100"))
    report = replace(run(model()), prompt_tokens=8, kv_pool_fraction=0.0)

    def of_more_requests(rows: int) -> float:
        counts = RevealCounts(streams=10, rows=10 * rows, masked=10 * rows, revealed=10)
        found = advice(replace(report, reveals=counts), cost_model)
        return next((item.gain for item in found if "requests at once" in item.text), 1.0)

    assert of_more_requests(4) > 6
    assert of_more_requests(64) < of_more_requests(16) < of_more_requests(4)
    assert of_more_requests(2048) == 1.0  # not said


def test_a_model_that_only_denoises_is_compared_with_a_causal_one_of_its_size() -> None:
    cost_model = model()
    run(cost_model)
    denoised = replace(
        run(cost_model, committed=2, method="diffusion"), reveals=RevealCounts(streams=1), lossless=False
    )
    assert "plain (ar)" in card(denoised, cost_model)
    cost_model.config = replace(cost_model.config, attention="bidirectional")
    assert "ar, if it could" in card(denoised, cost_model)


def test_the_card_says_how_well_streams_of_any_method_were_predicted() -> None:
    cost_model = model()
    text = card(run(cost_model, committed=3, method="auto"), cost_model)
    assert "for streams like these, ridgeway roof predicted" in text
    assert "before it began" not in text
    assert "before it began, ridgeway roof predicted" in card(run(cost_model), cost_model)
