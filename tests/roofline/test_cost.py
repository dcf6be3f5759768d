"""Bytes and FLOPs against hand counts, written out, and what must hold for every shape."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeway.core.errors import MachineError, ModelError
from ridgeway.core.query import Batch, Entry, Query, Readout, Span
from ridgeway.core.visibility import BIDIRECTIONAL, CAUSAL, Block, Tree
from ridgeway.models.config import ModelConfig
from ridgeway.roofline.cost import Cost, CostModel, QueryShape
from ridgeway.roofline.hardware import machine
from ridgeway.roofline.machine import BandwidthPoint, Machine, Peak

# Tied head, two query heads for each K/V head.
TIED = ModelConfig(
    architecture="llama",
    hidden=8,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=4,
    intermediate=12,
    vocab_size=10,
    max_positions=64,
    rms_eps=1e-5,
    rope_theta=1e4,
    tied_head=True,
)
# A head of its own, biases on q, k and v, and a sliding window of 3 in the first of two layers.
WINDOWED = replace(
    TIED, architecture="qwen2", kv_heads=1, tied_head=False, qkv_bias=True, windows=(3, None), head_dim=2
)
MACHINE = Machine(
    name="square",
    source="measured",
    bandwidths=(BandwidthPoint(1000, 1, 2e3, 2e3), BandwidthPoint(8000, 1, 1e3, 8e2)),
    peaks={"fp32": Peak(1e4, 8e3), "int8": Peak(4e4, 4e4)},
    step_overhead=0.001,
    layer_overhead=0.0,
    memory_bytes=1 << 20,
    usable_bytes=1 << 20,
)


def cost_model(config: ModelConfig, itemsize: int = 4, on: Machine = MACHINE) -> CostModel:
    held = {name: itemsize * int(np.prod(shape)) for name, shape in config.tensor_shapes().items()}
    return CostModel(config, held, 4, 4, "fp32", on)


def entry(query: Query, cached: int, first_slot: int = 0) -> Entry:
    return Entry(query, cached, first_slot + np.arange(cached + len(query)))


def causal_query(rows: int, cached: int, reads: int = 1) -> Query:
    positions = cached + np.arange(rows)
    read = np.arange(rows - reads, rows)
    return Query(np.zeros(rows, dtype=np.int64), positions, read=Readout.of(read, positions[read] + 1))


def test_one_row_of_a_tied_model_costs_what_a_hand_count_says() -> None:
    cost = cost_model(TIED).count([QueryShape(rows=1, cached=5, reads=1)])
    q_and_o = 2 * (4 * 4) * 8  # heads x head_dim outputs or inputs, hidden 8
    k_and_v = 2 * (2 * 4) * 8
    gate_up_down = 3 * 12 * 8
    layer_weights = q_and_o + k_and_v + gate_up_down
    norms = 2 * 8
    head = 10 * 8
    assert cost.weight_bytes == 4 * (2 * (layer_weights + norms) + 8 + head)  # 8: the final norm
    slot = 2 * (2 * 4) * 4  # K and V, two heads of four, four bytes
    assert cost.kv_read_bytes == 2 * (5 + 1) * slot
    assert cost.kv_write_bytes == 2 * 1 * slot
    assert cost.matrix_flops == 2 * 2 * layer_weights
    assert cost.head_flops == 2 * head
    assert cost.attention_flops == 2 * 4 * (4 * 4) * (5 + 1)
    per_layer = 4 * 8 + 2 * (16 + 2 * 8) + 3 * 12
    assert cost.activation_bytes == 4 * (2 * per_layer + 8 + 10)
    assert (cost.rows, cost.streams) == (1, 1)


def test_norms_with_biases_gates_and_a_plain_mlp_cost_what_a_hand_count_says() -> None:
    config = replace(
        TIED, tied_head=False, norm="layer", norm_bias=True, residual_gates=True, activation="gelu", gated_mlp=False,
        mlp_bias=True, head_bias=True,
    )  # fmt: skip
    model, row = cost_model(config), [QueryShape(rows=1, cached=5, reads=1)]
    cost = model.count(row)
    attention = 2 * (4 * 4) * 8 + 2 * (2 * 4) * 8
    mlp = 2 * 12 * 8
    vectors = 3 * 8  # of each sublayer: norm, its bias, gate
    biases = 12 + 8
    top = 2 * 8 + 10 * 8 + 10  # the last norm and its bias, the head and its bias
    assert cost.weight_bytes == 4 * (2 * (attention + vectors + mlp + vectors + biases) + top + 8)  # 8: one embedding
    assert cost.matrix_flops == 2 * 2 * (attention + mlp)
    per_layer = 4 * 8 + 2 * (16 + 2 * 8) + 2 * 12
    assert cost.activation_bytes == 4 * (2 * per_layer + 8 + 10)
    no_attention = np.array([[False, True], [False, True]])
    assert cost.weight_bytes - model.count(row, no_attention).weight_bytes == 4 * 2 * (attention + vectors)


def test_three_rows_of_an_untied_model_with_a_window_cost_what_a_hand_count_says() -> None:
    cost = cost_model(WINDOWED).count([QueryShape(rows=3, cached=4, reads=2)])
    q_and_o = 2 * (4 * 2) * 8
    k_and_v = 2 * (1 * 2) * 8
    biases = 4 * 2 + 2 + 2
    layer_weights = q_and_o + k_and_v + 3 * 12 * 8
    embedding_rows = 3 * 8
    head = 10 * 8
    assert cost.weight_bytes == 4 * (2 * (layer_weights + biases + 2 * 8) + 8 + head + embedding_rows)
    slot = 2 * (1 * 2) * 4
    # Rows at 4, 5, 6. With a window of 3 they see 2-4, 3-5, 4-6: keys 2 to 6, three each. Without: keys 0 to 6.
    assert cost.kv_read_bytes == (5 + 7) * slot
    assert cost.kv_write_bytes == 2 * 3 * slot
    assert cost.attention_flops == 4 * (4 * 2) * ((3 + 3 + 3) + (5 + 6 + 7))
    assert cost.matrix_flops == 3 * 2 * 2 * layer_weights
    assert cost.head_flops == 2 * 2 * head


def test_a_stream_that_nobody_reads_needs_no_head() -> None:
    for config in (TIED, WINDOWED):
        model = cost_model(config)
        read, unread = (model.count([QueryShape(4, reads=reads)]) for reads in (1, 0))
        assert unread.head_flops == 0
        head_and_norm = 4 * (10 * 8 + 8)
        embedding_rows = 4 * 4 * 8 if config.tied_head else 0  # a tied head contains them
        assert read.weight_bytes - unread.weight_bytes == head_and_norm - embedding_rows


def test_a_second_copy_of_a_tied_head_counts_beside_the_embedding_rows() -> None:
    held = {name: 4 * int(np.prod(shape)) for name, shape in TIED.tensor_shapes().items()}
    once = CostModel(TIED, held, 4, 4, "fp32", MACHINE).count([QueryShape(1)])
    twice = CostModel(TIED, held | {"head": 100}, 4, 4, "fp32", MACHINE).count([QueryShape(1)])
    assert twice.weight_bytes - once.weight_bytes == 100 - 4 * 10 * 8 + 4 * 8


def test_skipped_sublayers_cost_nothing() -> None:
    model = cost_model(WINDOWED)
    shapes = [QueryShape(2, cached=4)]
    only_second_attention = np.array([[False, False], [True, False]])
    cost = model.count(shapes, only_second_attention)
    projections = 2 * (4 * 2) * 8 + 2 * (1 * 2) * 8
    assert cost.weight_bytes == 4 * (projections + 12 + 8 + 8 + 80 + 2 * 8)  # biases, norms, head, embedding rows
    assert cost.matrix_flops == 2 * 2 * projections
    assert cost.kv_read_bytes == 6 * 2 * 2 * 4
    assert cost.kv_write_bytes == 2 * 2 * 2 * 4


@pytest.mark.parametrize("window", [None, 1, 3, 7, 100])
@pytest.mark.parametrize("context", [None, (Span(1, 3), Span(5, 6))])
@pytest.mark.parametrize(
    "visibility",
    [CAUSAL, BIDIRECTIONAL, Block(3), Tree.of_parents(np.array([-1, 0, 0, 1, 2]))],
    ids=["causal", "bidirectional", "block", "tree"],
)
@pytest.mark.parametrize("positions", [[6, 7, 8, 9, 10], [6, 7, 7, 8, 8]])
def test_what_is_seen_equals_the_visibility_matrix_counted_one_by_one(positions, visibility, context, window) -> None:
    query = Query(np.zeros(5, dtype=np.int64), np.array(positions), visibility, context=context)
    placed = entry(query, cached=6)
    cached = placed.context_slots()
    keys = np.concatenate([cached, query.positions])
    sees = np.concatenate([np.ones((5, len(cached)), dtype=bool), visibility.matrix(query.positions)], axis=1)
    if window is not None:
        sees &= query.positions[:, None] - keys[None, :] < window
    seen = QueryShape.of(placed).seen(window)
    assert seen.pairs == sees.sum()
    assert seen.keys == sees.any(axis=0).sum()


def test_a_batch_reads_weights_once_and_keys_per_query() -> None:
    model = cost_model(TIED)
    one, two = QueryShape(1, cached=3), QueryShape(2, cached=9)
    both = model.count([one, two])
    alone = [model.count([one]), model.count([two])]
    assert both.weight_bytes == alone[0].weight_bytes == alone[1].weight_bytes
    for part in (
        "kv_read_bytes",
        "kv_write_bytes",
        "activation_bytes",
        "matrix_flops",
        "attention_flops",
        "head_flops",
    ):
        assert getattr(both, part) == sum(getattr(cost, part) for cost in alone), part


def test_a_shared_prefix_is_read_by_each_query_but_bounds_the_time_once() -> None:
    model = cost_model(WINDOWED)
    first = entry(causal_query(1, cached=6), cached=6)
    second = replace(first, slots=np.array([0, 1, 2, 3, 14, 15, 16]))  # shares the first four of six cached slots
    other = entry(causal_query(1, cached=6), cached=6, first_slot=20)
    shared = model.count_batch(Batch((first, second, other), selection=None))
    plain = model.count([QueryShape(1, cached=6)] * 3)
    assert replace(shared, kv_shared_bytes=0) == plain
    slot = 2 * (1 * 2) * 4
    # The row at 6 looks back to 4 in the windowed layer, beyond what is shared; in the other layer to 0.
    assert shared.kv_shared_bytes == 4 * slot
    assert shared.least_bytes == plain.weight_bytes + plain.kv_bytes - 4 * slot


def test_floor_is_the_longer_of_reading_and_multiplying() -> None:
    model = cost_model(TIED)
    reading = Cost(weight_bytes=9000, matrix_flops=100, streams=1)
    multiplying = Cost(weight_bytes=500, kv_read_bytes=500, matrix_flops=100_000, streams=1)
    assert model.floor(reading) == pytest.approx(9000 / 1e3)
    assert model.floor(multiplying) == pytest.approx(100_000 / 1e4)
    assert (model.bound(reading), model.bound(multiplying)) == ("memory", "compute")
    assert model.bound(Cost(weight_bytes=1, streams=1)) == "overhead"


def test_a_small_stream_is_judged_by_the_cache_that_holds_it() -> None:
    model = cost_model(TIED)
    assert model.floor(Cost(weight_bytes=4000, streams=1)) == pytest.approx(4000 / 2e3)
    assert model.floor(Cost(weight_bytes=8000, streams=1)) == pytest.approx(8000 / 1e3)
    assert model.floor(Cost(weight_bytes=8000, streams=2)) == pytest.approx(8000 / 2e3)  # two streams of 4000


def test_activations_do_not_raise_the_floor() -> None:
    model = cost_model(TIED)
    assert model.floor(Cost(weight_bytes=9000, activation_bytes=10**6, streams=1)) == pytest.approx(9.0)


def test_a_step_that_beats_its_floor_is_reported_and_raises_the_ceiling_it_beat() -> None:
    model = cost_model(TIED)
    cost = Cost(weight_bytes=10_000, matrix_flops=100, streams=1, rows=1)
    assert model.observe(cost, seconds=10.0) is None
    exceeded = model.observe(cost, seconds=8.0)
    assert exceeded is not None
    assert exceeded.by == pytest.approx(1.25)
    raised = model.raise_ceilings(exceeded)
    assert raised.bandwidth(10_000) == pytest.approx(1250)
    assert raised.compute("fp32") == MACHINE.compute("fp32")
    assert model.floor(cost) == pytest.approx(8.0)
    assert model.observe(cost, seconds=8.0) is None


def test_a_step_that_is_too_fast_to_be_true_raises_no_ceiling_and_teaches_nothing() -> None:
    model = cost_model(TIED)
    cost = Cost(weight_bytes=10_000, matrix_flops=100, streams=1, rows=1)
    for _ in range(10):
        model.observe(cost, seconds=12.0)
    expected = model.estimate(cost)
    for _ in range(10):  # a clock that jumps now and then
        assert model.observe(cost, seconds=0.001) is None
        assert model.observe(cost, seconds=12.0) is None
    assert model.estimate(cost) == expected
    assert model.machine == MACHINE


def test_rates_that_are_reached_again_and_again_are_believed_however_high() -> None:
    model = cost_model(TIED)
    cost = Cost(weight_bytes=10_000, matrix_flops=100, streams=1, rows=1)
    assert model.observe(cost, seconds=1.0) is None
    assert model.observe(cost, seconds=1.1) is None
    exceeded = model.observe(cost, seconds=0.9)
    assert exceeded is not None
    assert exceeded.by == pytest.approx(10 / 1.1)
    assert model.raise_ceilings(exceeded).bandwidth(10_000) == pytest.approx(10_000 / 1.1)


def test_the_textbook_wall_of_an_8b_model_on_an_h100() -> None:
    """3,350 GB/s over 16 GB, and 989 TFLOP/s over 16 GFLOP."""
    from ridgeway.roofline.advice import EIGHT_BILLION, elsewhere

    weights = sum(int(np.prod(shape)) for shape in EIGHT_BILLION.tensor_shapes().values())
    assert weights == pytest.approx(8e9, rel=1e-3)
    wall = elsewhere()
    assert round(wall.memory) == 209
    assert round(wall.arithmetic, -2) == 61_800
    assert wall.memory == pytest.approx(3350e9 / (2 * weights), rel=1e-3)
    assert wall.arithmetic == pytest.approx(989e12 / (2 * weights), rel=1e-3)


def test_predicted_bytes_follow_the_format() -> None:
    config = replace(TIED, hidden=32, intermediate=64)
    on = machine("h100")
    matrices = sum(int(np.prod(shape)) for shape in config.tensor_shapes().values() if len(shape) == 2)
    # o maps 16 inputs, which no block of 32 divides, so it stays in float32 as the vectors do.
    o = 2 * 32 * 16
    vectors = 2 * 2 * 32 + 32
    q4 = CostModel.predicted(config, "q4_1", on).count([QueryShape(1)]).weight_bytes
    assert q4 == (matrices - o) * 20 // 32 + 4 * (o + vectors)
    half = CostModel.predicted(config, 0.5, on).count([QueryShape(1)]).weight_bytes
    assert half == (matrices + vectors) // 2


def test_a_format_or_arithmetic_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"did you mean .*Q4_1"):
        CostModel.predicted(TIED, "q4_2", machine("h100"))
    with pytest.raises(MachineError, match="no fp4 rate"):
        CostModel.predicted(TIED, "bf16", machine("a100"), arithmetic="fp4")
    with pytest.raises(ModelError, match="embed"):
        CostModel(TIED, {}, 4, 4, "fp32", MACHINE)


SHAPES = st.builds(
    QueryShape,
    rows=st.integers(1, 20),
    cached=st.integers(0, 50),
    reads=st.just(1),
    visibility=st.sampled_from([CAUSAL, BIDIRECTIONAL, Block(4)]),
)


@given(st.lists(SHAPES, min_size=1, max_size=4), SHAPES)
def test_one_more_query_never_costs_less(shapes: list[QueryShape], more: QueryShape) -> None:
    for config in (TIED, WINDOWED):
        model = cost_model(config)
        before, after = model.count(shapes), model.count([*shapes, more])
        assert all(b <= a for b, a in zip(vars(before).values(), vars(after).values(), strict=True))
        assert after.flops > before.flops
        assert after.kv_bytes > before.kv_bytes
        assert model.compute_seconds(before) < model.compute_seconds(after)


@given(st.integers(1, 20), st.integers(0, 40), st.integers(0, 40))
def test_one_more_cached_token_never_costs_less(rows: int, cached: int, more: int) -> None:
    for window in (None, 1, 5):
        short, long = QueryShape(rows, cached).seen(window), QueryShape(rows, cached + more).seen(window)
        assert short.keys <= long.keys
        assert short.pairs <= long.pairs


@given(st.lists(SHAPES, min_size=1, max_size=3), st.lists(SHAPES, min_size=1, max_size=3))
def test_costs_of_two_streams_add_up(first: list[QueryShape], second: list[QueryShape]) -> None:
    model = cost_model(WINDOWED)
    a, b = model.count(first), model.count(second)
    both = a + b
    assert (both.bytes, both.flops, both.streams) == (a.bytes + b.bytes, a.flops + b.flops, 2)
    assert a + Cost() == a
    assert model.compute_seconds(both) == pytest.approx(model.compute_seconds(a) + model.compute_seconds(b))


@given(st.lists(SHAPES, min_size=1, max_size=3))
def test_no_estimate_is_below_the_floor(shapes: list[QueryShape]) -> None:
    model = cost_model(TIED)
    cost = model.count(shapes)
    estimate = model.estimate(cost)
    assert model.floor(cost) <= estimate.low <= estimate.seconds <= estimate.high


@given(st.integers(1, 12), st.integers(0, 30))
def test_a_prompt_in_chunks_has_as_many_pairs_as_in_one_piece(rows: int, cached: int) -> None:
    for window in (None, 4):
        whole = QueryShape(rows, cached).seen(window).pairs
        assert whole == sum(QueryShape(1, cached + n).seen(window).pairs for n in range(rows))


@given(st.integers(1, 40), st.integers(1, 50))
def test_a_window_over_a_whole_sequence_is_counted_in_closed_form(rows: int, window: int) -> None:
    shape = QueryShape(rows, visibility=BIDIRECTIONAL)
    assert shape.seen(window) == replace(shape, positions=np.arange(rows)).seen(window)
