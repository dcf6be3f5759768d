"""What rows more in a step are taken to cost, before anything was observed and after."""

import numpy as np
import pytest

from ridgeway.models.config import ModelConfig
from ridgeway.roofline.cost import CostModel, QueryShape
from ridgeway.roofline.machine import BandwidthPoint, Machine, Peak
from ridgeway.roofline.prices import PriceList, Prices

CONFIG = ModelConfig(
    architecture="llama",
    hidden=64,
    layers=2,
    heads=4,
    kv_heads=4,
    head_dim=16,
    intermediate=128,
    vocab_size=100,
    max_positions=512,
    rms_eps=1e-5,
    rope_theta=1e4,
    tied_head=True,
)
MACHINE = Machine(  # reading a stream takes a hundred times as long as the products of a row
    name="memory-bound",
    source="measured",
    bandwidths=(BandwidthPoint(1000, 1, 1e8, 1e8),),
    peaks={"fp32": Peak(5e9, 5e9)},
    step_overhead=0.0,
    layer_overhead=0.0,
    memory_bytes=1 << 30,
    usable_bytes=1 << 30,
)


def fresh():
    held = {name: 4 * int(np.prod(shape)) for name, shape in CONFIG.tensor_shapes().items()}
    return CostModel(CONFIG, held, 4, 4, "fp32", MACHINE)


def observe(model, rows, times, steps=4):
    """Steps of so many rows that take `times` what one row is expected to."""
    one = fresh().estimate(fresh().count([QueryShape(1, 32)])).seconds
    for _ in range(steps):
        model.observe(model.count([QueryShape(rows, 32, reads=rows)]), times * one)


def relative(model):
    prices = PriceList(model, [QueryShape(1, 32)])
    return [prices[added] / prices[0] for added in range(12)]


def test_before_anything_is_observed_every_row_costs_its_products():
    model = fresh()
    prices = PriceList(model, [QueryShape(1, 32)])
    row = model.compute_seconds(model.count([QueryShape(1, 32)]))
    for added in range(12):
        assert prices[added + 1] - prices[added] >= 0.9 * row


def test_what_was_observed_of_some_rows_counts_for_fewer_rows_too():
    model = fresh()
    observe(model, 1, 1.0)
    observe(model, 8, 2.4)
    prices = relative(model)
    assert prices[7] == pytest.approx(2.4, rel=0.05)
    assert prices[4] == pytest.approx(1.8, rel=0.05)
    assert prices[9] > prices[7]


def test_what_only_earlier_processes_observed_makes_no_row_much_dearer():
    earlier, model = fresh(), fresh()
    observe(earlier, 1, 1.0)
    observe(earlier, 4, 30.0)  # others used the machine
    model.calibration.recall(earlier.calibration.to_keep({}))
    prices = PriceList(model, [QueryShape(1, 32)])
    row = model.compute_seconds(model.count([QueryShape(1, 32)]))
    assert prices[3] - prices[0] == pytest.approx(1.5 * 3 * row, rel=0.1)
    observe(model, 4, 30.0)
    assert relative(model)[3] > 20


def test_a_step_at_which_rows_become_dear_is_seen():
    model = fresh()
    for rows, times in ((1, 1.0), (4, 1.06), (5, 1.6)):
        observe(model, rows, times)
    prices = relative(model)
    assert prices[3] == pytest.approx(1.06, rel=0.03)
    assert prices[4] == pytest.approx(1.6, rel=0.03)


def test_more_rows_never_cost_less():
    model = fresh()
    for rows, times in ((1, 1.0), (2, 1.5), (3, 0.9), (6, 1.2)):
        observe(model, rows, times)
    prices = relative(model)
    assert prices == sorted(prices)


def test_at_first_prices_are_renewed_at_every_step():
    model = fresh()
    prices = Prices(model)
    before = prices.of([QueryShape(1, 32)])[3]
    observe(model, 4, 3.0)
    assert prices.of([QueryShape(1, 32)])[3] > 2 * before


def test_the_hosts_time_is_told_apart_by_whether_anything_was_drafted():
    prices = Prices(fresh())
    assert prices.host(drafting=True) == prices.host(drafting=False) == 0
    for _ in range(50):
        prices.observe_host(0.001, drafting=False)
    assert prices.host(drafting=True) == prices.host(drafting=False) == pytest.approx(0.001)
    prices.observe_host(0.003, drafting=True)
    assert prices.host(drafting=True) == pytest.approx(0.003)
    assert prices.host(drafting=False) == pytest.approx(0.001)


def test_a_step_that_reads_prompts_tells_the_hosts_time_only_if_no_other_does():
    prices = Prices(fresh())
    prices.observe_host(0.005, drafting=False, reading=True)
    assert prices.host(drafting=False) == 0.005
    for _ in range(3):
        prices.observe_host(0.001, drafting=False)
    for _ in range(50):
        prices.observe_host(0.005, drafting=False, reading=True)
    assert prices.host(drafting=False) == 0.001


def test_one_pause_of_the_machine_does_not_make_drafting_look_dear_for_good():
    prices = Prices(fresh())
    for seconds in [0.001] * 10 + [1.0]:
        prices.observe_host(seconds, drafting=True)
    assert prices.host(drafting=True) < 0.0012


def test_a_machine_that_is_slower_just_now_makes_every_step_dearer():
    prices = Prices(fresh())
    listed = prices.of([QueryShape(1, 32)])
    assert [prices.step(listed, rows) for rows in range(8)] == pytest.approx([listed[rows] for rows in range(8)])
    for _ in range(60):
        prices.observe(listed, 0, 1.4 * listed[0])
    assert prices.step(listed, 0) == pytest.approx(1.4 * listed[0], rel=0.01)
    assert prices.step(listed, 4) == pytest.approx(1.4 * listed[4], rel=0.01)


def test_rows_that_take_more_than_listed_become_dearer_whatever_their_number():
    prices = Prices(fresh())
    listed = prices.of([QueryShape(1, 32)])
    for rows in (2, 0, 4, 3, 6, 8) * 20:
        prices.observe(listed, rows, listed[0] + 3 * (listed[rows] - listed[0]))
    for rows in (1, 4, 8):
        extra = prices.step(listed, rows) - prices.step(listed, 0)
        assert extra == pytest.approx(3 * (listed[rows] - listed[0]), rel=0.35)
    assert prices.step(listed, 0) == pytest.approx(listed[0], rel=0.1)


def test_they_do_while_every_step_drafts():
    prices = Prices(fresh())
    listed = prices.of([QueryShape(1, 32)])
    for _ in range(30):
        prices.observe(listed, 0, listed[0])
    for rows in (2, 4, 3, 6) * 20:
        prices.observe(listed, rows, listed[0] + 3 * (listed[rows] - listed[0]))
    for rows in (2, 4, 6):
        assert prices.step(listed, rows) == pytest.approx(listed[0] + 3 * (listed[rows] - listed[0]), rel=0.05)
    assert prices.step(listed, 6) - prices.step(listed, 0) > 2 * (listed[6] - listed[0])


def test_a_neighbour_that_wakes_while_every_step_drafts_does_not_make_drafts_look_bad():
    prices = Prices(fresh())
    listed = prices.of([QueryShape(1, 32)])
    for _ in range(30):
        prices.observe(listed, 2, listed[2])
    before = prices.step(listed, 2) / prices.step(listed, 0)
    for _ in range(30):
        prices.observe(listed, 2, 1.5 * listed[2])
        assert prices.step(listed, 2) / prices.step(listed, 0) < 1.1 * before
    assert prices.step(listed, 2) == pytest.approx(1.5 * listed[2], rel=0.05)


def test_a_disturbance_moves_prices_little():
    prices = Prices(fresh())
    listed = prices.of([QueryShape(1, 32)])
    prices.observe(listed, 0, 1000 * listed[0])
    assert prices.step(listed, 0) < 1.2 * listed[0]
    before = prices.step(listed, 4)
    prices.observe(listed, 4, 1000 * listed[4])
    assert prices.step(listed, 4) < 4 * before


def test_rows_that_were_dear_are_tried_again_after_plain_steps():
    prices = Prices(fresh())
    listed = prices.of([QueryShape(1, 32)])
    for _ in range(30):
        prices.observe(listed, 8, listed[0] + 10 * (listed[8] - listed[0]))
    dear = prices.step(listed, 8) - prices.step(listed, 0)
    for _ in range(150):
        prices.observe(listed, 0, listed[0])
    assert prices.step(listed, 8) - prices.step(listed, 0) < min(dear / 1.5, 1.1 * (listed[8] - listed[0]))


def test_a_machine_that_has_become_quick_again_is_seen_while_every_step_drafts():
    prices = Prices(fresh())
    listed = prices.of([QueryShape(1, 32)])
    for _ in range(30):
        prices.observe(listed, 0, 1.5 * listed[0])
    for _ in range(300):
        prices.observe(listed, 4, listed[4])
    assert prices.step(listed, 4) == pytest.approx(listed[4], rel=0.1)
    assert prices.step(listed, 0) < 1.1 * listed[0]


def test_what_lists_learn_is_not_counted_a_second_time():
    model = fresh()
    prices, shapes = Prices(model), [QueryShape(1, 32)]
    one = model.estimate(model.count(shapes)).seconds
    told = []
    for _ in range(200):
        listed = prices.of(shapes)
        told.append(prices.step(listed, 0))
        prices.observe(listed, 0, 2 * one)
        observe(model, 1, 2.0, steps=1)
    assert listed[0] == pytest.approx(2 * one, rel=0.1)  # the lists know
    assert max(told) < 2.3 * one
    assert told[-1] == pytest.approx(2 * one, rel=0.05)


def test_lists_of_all_batches_are_renewed_together():
    model = fresh()
    prices = Prices(model)
    short, long = [QueryShape(1, 32)], [QueryShape(1, 320)]
    first = prices.of(long)
    while prices.of(short) is prices.of(short):
        observe(model, 1, 1.0)
    assert prices.of(long) is not first
