"""Draft heads: the compiled one against its plain twin, and both against the formulas of `models.draft_head`."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from ridgeway.core.drafting import Unrolling
from ridgeway.core.errors import MethodError, ModelError
from ridgeway.core.noise import gumbel
from ridgeway.core.query import Batch, Entry, Query, Readout
from ridgeway.engine.sampling import plain_selection
from ridgeway.executors.cpu import CpuExecutor
from ridgeway.executors.cpu import executor as executor_module
from ridgeway.executors.draft_heads import ReferenceUnroller, make_unroller
from ridgeway.executors.reference import ReferenceExecutor
from ridgeway.kernels.cpu.isa import INSTRUCTION_SETS, processor_features
from ridgeway.kernels.cpu.team import AHEAD
from ridgeway.models.draft_head import DraftHead, draft_head_of, load_draft_head
from ridgeway.quant.formats import FORMATS
from ridgeway.quant.quantize import quantized
from ridgeway.quant.tensor import Tensor
from ridgeway.testing import toy_config, toy_draft_head, toy_llm, toy_model

ROWS, DEPTH = 7, 4
HERE = [name for name, isa in INSTRUCTION_SETS.items() if processor_features().issuperset(isa.needs)]


TEXT = 600  # tokens whose K/V there are: more than a segment of attention


SHAPES = {
    "pairs": {"head_dim": 16},
    "fours, odd width, a window": {"heads": 4, "kv_heads": 1, "head_dim": 24, "windows": (None, 64)},
}


@pytest.fixture(scope="module", params=SHAPES)
def model(request):
    return toy_model(toy_config(hidden=64, vocab_size=1100, max_positions=1024, **SHAPES[request.param]))


@pytest.fixture(scope="module", params=[(None, 4), (1, 4), (1, 8)], ids=["blind", "sees", "rows in eight bits"])
def head(request, model):
    """In four bits, so that both twins multiply the same weights. Kernels unpack the model's rows themselves if these
    are in Q8_0.
    """
    layer, bits = request.param
    whole = toy_draft_head(model, inner=96, layer=layer)
    names = ["gate", "up", "down", "whole_head"] + (["query"] if whole.query is not None else [])
    parts = {name: quantized(getattr(whole, name), "Q4_0") for name in names}
    if bits == 8:
        parts["whole_head"] = in_eight_bits(parts["whole_head"])
    return DraftHead(tokens=whole.tokens, norm=whole.norm, eps=whole.eps, layer=whole.layer, **parts)


def in_eight_bits(tensor):
    """The weights of a tensor in Q4_0, in Q8_0."""
    blocks = tensor.data.reshape(tensor.rows, -1, 18)
    quants = np.concatenate([blocks[..., 2:] & 15, blocks[..., 2:] >> 4], axis=-1).astype(np.int8) - np.int8(8)
    data = np.concatenate([blocks[..., :2], quants.view(np.uint8)], axis=-1).reshape(tensor.rows, -1)
    same = Tensor(tensor.name, FORMATS["Q8_0"], tensor.shape, np.ascontiguousarray(data))
    np.testing.assert_array_equal(same.dequantize(), tensor.dequantize())
    return same


def cpu(model, threads=2, **options):
    """A CPU executor that has seen a text."""
    executor = CpuExecutor(model, threads, **options)
    show_text(executor, TEXT)
    return executor


def show_text(executor, slots):
    executor.allocate(slots)
    text = np.random.default_rng(8).integers(0, executor.config.vocab_size, TEXT)
    query = Query(text, np.arange(TEXT), read=Readout.of([TEXT - 1], [TEXT], sampled=False))
    executor.forward(Batch((Entry(query, 0, np.arange(TEXT)),), plain_selection(1)))


def asked(model, temperature=0.0, rows=ROWS, depth=DEPTH, least=0.0):
    generator = np.random.default_rng(3)
    return Unrolling(
        hidden=generator.standard_normal((rows, model.config.hidden)).astype(np.float32),
        tokens=generator.integers(0, model.config.vocab_size, rows),
        positions=np.arange(rows) + 11,
        temperature=np.full(rows, temperature),
        seed=np.arange(rows, dtype=np.uint64) + 5,
        sample=np.zeros(rows, dtype=np.int64),
        seen=tuple(generator.permutation(TEXT)[: 5 + 83 * (row % 8)] for row in range(rows)),
        depth=depth,
        least=least,
    )


def part(unrolling, rows):
    arrays = {name: value[rows] for name, value in vars(unrolling).items() if isinstance(value, np.ndarray)}
    seen = tuple(unrolling.seen[row] for row in rows)
    return Unrolling(**arrays, seen=seen, depth=unrolling.depth, least=unrolling.least)


def seen_by_hand(executor, head, z, one, row):
    """Head by head, each pair of numbers turned as a complex number."""
    config = executor.config
    keys, values = executor.kv(head.layer, one.seen[row])
    half = config.head_dim // 2
    turn = np.exp(1j * (one.positions[row] - 1) * config.rope_theta ** (-np.arange(half) / half))
    mixed = []
    for number, query in enumerate((head.query.dequantize() @ z).reshape(config.heads, config.head_dim)):
        turned = (query[:half] + 1j * query[half:]) * turn
        own = number // (config.heads // config.kv_heads)
        scores = keys[:, own] @ np.concatenate([turned.real, turned.imag]) / np.sqrt(config.head_dim)
        weights = np.exp(scores - scores.max())
        mixed.append(weights @ values[:, own] / weights.sum())
    return np.concatenate(mixed)


def test_the_first_guess_is_what_the_formulas_say(model, head):
    one, executor = asked(model), cpu(model)
    states = one.hidden / np.sqrt((one.hidden**2).mean(axis=1, keepdims=True) + head.eps) * head.norm
    z = np.concatenate([states, head.whole_head.dequantize()[one.tokens]], axis=1)
    if head.query is not None:
        z = np.concatenate([z, [seen_by_hand(executor, head, z[row], one, row) for row in range(ROWS)]], axis=1)
    gate, up, down = (getattr(head, name).dequantize() for name in ("gate", "up", "down"))
    inner = z @ gate.T
    states = states + (inner / (1 + np.exp(-inner)) * (z @ up.T)) @ down.T
    logits = states @ head.head.dequantize().T
    found = ReferenceUnroller(head, executor).unroll(one)
    assert found.tokens[:, 0, 0].tolist() == head.tokens[logits.argmax(axis=1)].tolist()
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert found.chances[:, 0, 0] == pytest.approx((share / share.sum(axis=1, keepdims=True)).max(axis=1), rel=1e-2)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.5])
@pytest.mark.parametrize("isa", HERE)
def test_compiled_guesses_are_the_plain_twins(model, head, isa, temperature):
    """Activations have eight bits in the compiled one, so totals that are nearly equal may change places."""
    executor = cpu(model, isa=isa)
    compiled = executor.unroller(head).unroll(asked(model, temperature))
    plain = ReferenceUnroller(head, executor).unroll(asked(model, temperature))
    same = compiled.tokens[:, 0, 0] == plain.tokens[:, 0, 0]
    assert same.sum() >= ROWS - 1
    assert compiled.chances[same, 0, 0] == pytest.approx(plain.chances[same, 0, 0], rel=0.1)
    assert compiled.steps == plain.steps == DEPTH
    assert (compiled.chances[:, :, 0] > 0).all()


def test_rows_threads_and_instructions_change_no_bit(model, head):
    expected = cpu(model, 1).unroller(head).unroll(asked(model, 0.8))
    for isa in HERE:
        for threads in (1, 2, 3):
            unroller = cpu(model, threads, isa=isa).unroller(head)
            together = unroller.unroll(asked(model, 0.8))
            assert (together.tokens == expected.tokens).all(), (isa, threads)
            assert (together.chances == expected.chances).all(), (isa, threads)
            for row in range(ROWS):
                alone = unroller.unroll(part(asked(model, 0.8), [row]))
                assert (alone.tokens[0] == expected.tokens[row]).all(), (isa, threads, row)
                assert (alone.chances[0] == expected.chances[row]).all(), (isa, threads, row)


@pytest.mark.parametrize("kind", ["compiled", "plain"])
def test_a_temperature_draws_with_the_targets_noise(model, head, kind):
    executor = cpu(model)
    unroller = executor.unroller(head) if kind == "compiled" else ReferenceUnroller(head, executor)
    question = asked(model, 50.0)  # so hot that the noise alone decides
    found = unroller.unroll(question)
    for row in range(ROWS):
        for step in range(DEPTH):
            noise = gumbel(question.seed[row], 0, question.positions[row] + step, head.tokens)
            assert found.tokens[row, step, 0] in head.tokens[np.argsort(-noise)[:4]]


@pytest.mark.parametrize("kind", ["compiled", "plain"])
def test_guesses_end_where_they_are_too_unsure(model, head, kind):
    executor = cpu(model)
    unroller = executor.unroller(head) if kind == "compiled" else ReferenceUnroller(head, executor)
    whole = unroller.unroll(asked(model))
    least = float(np.median(whole.chances[:, 0, 0]))
    cut = unroller.unroll(asked(model, least=least))
    survival = np.cumprod(whole.chances[:, :, 0], axis=1)
    goes_on = np.concatenate([np.ones((ROWS, 1), dtype=bool), survival[:, :-1] >= least], axis=1)
    assert ((cut.chances[:, :, 0] > 0) == goes_on).all()
    assert cut.steps == goes_on.any(axis=0).sum() < DEPTH
    assert (cut.tokens[goes_on] == whole.tokens[goes_on]).all()


def test_hidden_states_are_those_of_the_rows_that_are_read(model):
    tokens = np.array([3, 1, 4, 1, 5, 9, 2, 6])
    for executor in (ReferenceExecutor(model), CpuExecutor(model, 2)):
        executor.allocate(64)
        read = Readout.of([2, 7], [3, 8], sampled=False, measures={"hidden", "logits"})
        entries = (
            Entry(Query(np.array([7, 7]), np.arange(2), read=Readout.of([0, 1], [1, 2])), 0, np.arange(20, 22)),
            Entry(Query(tokens, np.arange(8), read=read), 0, np.arange(8)),
        )
        other, answer = executor.forward(Batch(entries, plain_selection(4))).answers
        assert other.hidden is None
        states = DraftHead.of(model, np.arange(4), *(model.head,) * 3).states(answer.hidden)
        assert states @ model.head.dequantize().T == pytest.approx(answer.logits, abs=2e-2)


def test_guesses_stay_when_others_are_made(model, head):
    unroller = cpu(model).unroller(head)
    first = unroller.unroll(asked(model, 0.8))
    tokens, chances = first.tokens.copy(), first.chances.copy()
    for depth in (1, DEPTH + 3, 2):
        unroller.unroll(asked(model, 0.3, depth=depth))
    assert (first.tokens == tokens).all()
    assert (first.chances == chances).all()
    again = unroller.unroll(asked(model, 0.8))
    assert (again.tokens == tokens).all()
    assert (again.chances == chances).all()


def test_more_sequences_than_the_buffers_hold_are_unrolled_in_parts(model, head):
    unroller = cpu(model).unroller(head)
    many = asked(model, 0.8, rows=150, depth=2)
    found = unroller.unroll(many)
    for row in (0, 63, 64, 149):
        assert (found.tokens[row] == unroller.unroll(part(many, [row])).tokens[0]).all()


def test_keys_in_eight_bits_are_seen_as_well(model, head):
    executor = cpu(model, kv="int8")
    compiled, plain = (one.unroll(asked(model)) for one in (executor.unroller(head), ReferenceUnroller(head, executor)))
    same = compiled.tokens[:, 0, 0] == plain.tokens[:, 0, 0]
    assert same.sum() >= ROWS - 1
    assert compiled.chances[same, 0, 0] == pytest.approx(plain.chances[same, 0, 0], rel=0.1)


@pytest.mark.parametrize("kind", [CpuExecutor, ReferenceExecutor])
def test_what_is_seen_matters_and_moves_with_the_pool(model, kind):
    executor = kind(model)
    show_text(executor, TEXT)
    head = toy_draft_head(model, inner=96, layer=1)
    unroller, question = make_unroller(executor, head), asked(model)
    first = unroller.unroll(question)
    other = unroller.unroll(replace(question, seen=question.seen[::-1]))
    assert (first.chances != other.chances).any()
    show_text(executor, 3 * TEXT)  # elsewhere in memory, and heads further apart
    again = unroller.unroll(question)
    assert (again.tokens == first.tokens).all()
    assert (again.chances == first.chances).all()


def test_helpers_read_on_after_a_single_sequence_was_unrolled(monkeypatch, model, head):
    monkeypatch.setattr(executor_module, "_AHEAD", 100)
    monkeypatch.setattr(executor_module, "_AHEAD_ONCE_ASKED", 300)
    executor = cpu(model)
    unroller = executor.unroller(head)
    ((place, size),) = executor._weights.part(100, 300)
    for sequences, expected in ((1, [1, place, size]), (2, None), (1, [1, place, size])):
        unroller.unroll(asked(model, rows=sequences))
        address = int(executor._team.control[AHEAD])
        found = (ctypes.c_int64 * 3).from_address(address)[:] if address else None
        assert found == expected


def test_small_heads_are_unrolled_by_the_plain_twin(model):
    for changes, layer in (({"hidden": 48}, None), ({"hidden": 64}, 0)):
        narrow = toy_model(toy_config(**changes))
        assert isinstance(make_unroller(CpuExecutor(narrow, 1), toy_draft_head(narrow, layer=layer)), ReferenceUnroller)


def tensors_of(head):
    names = ("gate", "up", "down") if head.query is None else ("gate", "up", "down", "query")
    own = {"tokens": head.tokens.astype(np.float32), "layer": np.array([head.layer], np.float32)}
    return own | {name: getattr(head, name).dequantize() for name in names}


@pytest.mark.parametrize("layer", [None, 1])
def test_a_head_lies_with_its_model(tmp_path, model, layer):
    trained = toy_draft_head(model, layer=layer)
    tensors = tensors_of(trained)
    save_file(tensors, tmp_path / "draft-head.safetensors")
    at_home = type(model)(model.name, model.config, model.tensors, source=str(tmp_path))
    found = draft_head_of(at_home)
    assert (found.tokens == trained.tokens).all()
    assert (found.gate.dequantize() == tensors["gate"]).all()
    assert found.layer == (layer or 0)
    assert found.width == (0 if layer is None else model.config.heads * model.config.head_dim)
    assert draft_head_of(model) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"up": None}, "lacks the tensor up"),
        ({"gate": np.zeros((8, 6), np.float32)}, "made for another model"),
        ({"tokens": np.array([0, 1100], np.float32)}, "outside the vocabulary"),
        ({"tokens": np.zeros(0, np.float32)}, "outside the vocabulary"),
        ({"query": np.zeros((64, 7), np.float32)}, "made for another model: query"),
        ({"layer": None}, "lacks the tensor layer"),
        ({"layer": np.array([2], np.float32)}, "looks at layer 2; .* has 2"),
        ({"query": None}, "made for another model: gate"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(tmp_path, model, change, said):
    tensors = tensors_of(toy_draft_head(model, layer=1)) | change
    path = tmp_path / "draft-head.safetensors"
    save_file({name: value for name, value in tensors.items() if value is not None}, path)
    with pytest.raises(ModelError, match=said):
        load_draft_head(path, model)


def test_without_a_head_it_is_said_what_makes_one():
    with pytest.raises(MethodError, match="ridgeway train"):
        toy_llm().generate([1, 2], method="draft-head")
    other = toy_model(toy_config(hidden=64))
    with pytest.raises(MethodError, match="does not fit: it is made for another model"):
        toy_llm().add_draft_head(toy_draft_head(other))


def test_a_head_that_sees_is_held_against_its_model_as_well():
    llm = toy_llm()
    fits = toy_draft_head(llm.model, layer=1)
    wrong = Tensor.of("query", np.zeros((8, 64), np.float32))
    for change, said in (
        ({"layer": 2}, "looks at layer 2"),
        ({"layer": -1}, "looks at layer -1"),
        ({"query": wrong}, "query is"),
    ):
        with pytest.raises(MethodError, match=said):
            llm.add_draft_head(replace(fits, **change))
    llm.add_draft_head(fits)
    assert llm.draft_head is fits
