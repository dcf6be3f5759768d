"""Mask rows make drafts in the stream that verifies the last ones; the text stays plain decoding's."""

import re
from pathlib import Path

import numpy as np
import pytest

from ridgeway.core.arrays import ints
from ridgeway.core.errors import MethodError
from ridgeway.core.query import Answer
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.core.sequence import Sequence
from ridgeway.core.traits import LogitShift, ModelTraits
from ridgeway.methods.mask_layout import MaskLayout, Space, candidates, linear, of_candidates, quadratic, worthwhile
from ridgeway.methods.registry import make_method
from ridgeway.methods.verified_diffusion import visible
from ridgeway.roofline.prices import PriceList
from ridgeway.testing import check_lossless, toy_config, toy_llm, toy_model
from ridgeway.testing.replay import PricedStreams

MASK = 60
LAYOUTS = ["linear", "quadratic", "pruned"]
PROMPTS = [[3, 1, 4, 1, 5], [9, 2, 6] * 5, [8]]
DRAWN = SamplingParams(temperature=1.0, seed=5, max_tokens=40, ignore_eos=True)


@pytest.fixture(autouse=True)
def _free_rows(monkeypatch):
    """What rows are measured to cost depends on what else this machine does; here they cost nothing."""
    monkeypatch.setattr(PriceList, "__getitem__", lambda self, rows: 1.0)


def llm_of(sharpness=0.3, mask_id=MASK, **changes):
    """With logits this flat it is mostly the noise that decides, which mask rows share: drafts are often right."""
    return toy_llm(toy_model(toy_config(mask_id=mask_id, **changes), sharpness=sharpness))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_text_is_that_of_plain_decoding(layout):
    check_lossless(f"verified-diffusion:block=3,layout={layout}", llm_of(), prompts=[[8], [9, 2, 6] * 5])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_so_it_is_for_mask_rows_that_predict_in_place_or_say_what_is_likeliest(layout):
    llm = llm_of(mask_shift=LogitShift.IN_PLACE)
    check_lossless(f"verified-diffusion:block=2,sampled=no,layout={layout}", llm, prompts=PROMPTS[:1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_steps_of_every_acceptance_length_occur_and_every_text_is_right(layout):
    llm = llm_of(vocab_size=7, mask_id=6)
    jobs = [(prompt, SamplingParams(temperature=t, seed=2, max_tokens=80)) for prompt in PROMPTS for t in (0.0, 1.0)]
    prompts, params = [list(np.array(prompt) % 7) for prompt, _ in jobs], [one for _, one in jobs]
    plain = llm.generate(prompts, params, method="ar")
    committed = set()
    for prompt, one, expected in zip(prompts, params, plain, strict=True):
        found = llm.generate(prompt, one, method=f"verified-diffusion:block=3,layout={layout}")[0]
        assert found.outputs[0].token_ids == expected.outputs[0].token_ids
        committed |= {step.committed for step in llm.steps}
    assert committed >= {1, 2, 3, 4}


def queries_of(llm, method, prompt, params):
    """Queries, selections and what was kept, of every step of a run."""
    seen, made = [], make_method(method)
    forward, commit = llm.executor.forward, type(made).commit

    class Watched(type(made)):
        def commit(self, sequence, query, answer):
            seen[-1].append(result := commit(self, sequence, query, answer))
            return result

    llm.executor.forward = lambda batch: (seen.append([batch.entries[0].query, batch.selection]), forward(batch))[1]
    llm.generate(prompt, params, method=Watched(**vars(made)))
    return seen


@pytest.mark.parametrize(("shift", "first"), [(LogitShift.NEXT, 1), (LogitShift.IN_PLACE, 2)])
def test_the_quadratic_layout_is_the_one_in_the_picture(shift, first):
    """t a b, then two mask rows behind each of them; what they guess comes after the token that their anchor draws."""
    llm = llm_of(mask_shift=shift)
    query, selection, commit = queries_of(llm, "verified-diffusion:block=2,layout=quadratic", [1, 2, 3], DRAWN)[1]
    t = int(query.positions[0])
    assert query.tokens[3:].tolist() == [MASK] * 6
    assert (query.positions - t).tolist() == [0, 1, 2, *(p + first for p in (0, 1, 1, 2, 2, 3))]
    assert (selection.position - t).tolist() == [1, 2, 3, 2, 3, 3, 4, 4, 5]
    sees = query.visibility.matrix(query.positions)
    assert ["".join("x" if one else "." for one in row) for row in sees] == [
        "x........",
        "xx.......",
        "xxx......",
        "x..xx....",
        "x..xx....",
        "xx...xx..",
        "xx...xx..",
        "xxx....xx",
        "xxx....xx",
    ]
    assert set(commit.keep) <= {0, 1, 2}


def test_clean_rows_see_no_mask_row_and_no_mask_row_is_kept():
    llm = llm_of()
    for query, _, commit in queries_of(llm, "verified-diffusion:block=3", [1, 2, 3], DRAWN):
        if query.masked is None:
            continue
        assert query.tokens[query.masked].tolist() == [MASK] * query.masked.sum()
        assert not query.visibility.matrix(query.positions)[np.ix_(~query.masked, query.masked)].any()
        assert not query.masked[commit.keep].any()


def test_mask_rows_count_for_nobodys_penalties():
    """What is penalized behind a row: the text, and the drafts of its own path."""
    llm = llm_of()
    params = DRAWN.but(repetition_penalty=1.3, presence_penalty=0.5)
    text = [1, 2, 3, *llm.generate([1, 2, 3], params, method="ar")[0].outputs[0].token_ids]
    assert MASK not in text
    checked = 0
    for query, selection, _ in queries_of(llm, "verified-diffusion:block=3,layout=quadratic", [1, 2, 3], params):
        before = text[: query.positions[0]]
        for read, change in selection.adjustments.items():
            row = int(query.read.rows[read])
            anchor = row if query.masked is None or not query.masked[row] else int(query.parent[row])
            assert set(change.ids) == {*before, *query.path(anchor)}
            checked += row != anchor
    assert checked > 50


@pytest.mark.parametrize("layout", ["linear", "quadratic"])
@pytest.mark.parametrize("block", [1, 2, 5])
def test_drafts_that_are_always_right_cost_the_streams_that_one_can_count(layout, block):
    """Logits are all the same, so noise alone decides, and mask rows have the same noise."""
    llm = llm_of(sharpness=0.0)
    for tokens in (1, 2, 30):
        asked = DRAWN.but(max_tokens=tokens, logit_bias={MASK: -100.0})
        output = llm.generate([1, 2, 3], asked, method=f"verified-diffusion:block={block},layout={layout}")[0]
        assert len(output.outputs[0].token_ids) == tokens
        assert output.metrics.weight_streams == 1 + -(-(tokens - 1) // (block + 1))


def test_drafts_that_are_always_wrong_cost_a_stream_for_each_token():
    llm = llm_of(sharpness=0.0)
    never = DRAWN.but(logit_bias={0: -100.0})  # mask rows that are not sampled say token 0
    for layout in LAYOUTS:
        method = f"verified-diffusion:sampled=no,layout={layout}"
        output = llm.generate([1, 2, 3], never, method=method)[0]
        assert output.metrics.weight_streams == 40
        assert sum(output.outputs[0].drafts.accepted) == 0
        assert output.outputs[0].token_ids == llm.generate([1, 2, 3], never)[0].outputs[0].token_ids


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weight_streams_of_a_real_run_match_what_the_counts_say(layout):
    llm, streams = llm_of(), []
    forward = llm.executor.forward
    llm.executor.forward = lambda batch: (streams.append(1), forward(batch))[1]
    output = llm.generate([1, 2, 3], DRAWN, method=f"verified-diffusion:layout={layout}")[0]
    assert len(streams) == output.metrics.weight_streams == 40 - sum(output.outputs[0].drafts.accepted) < 30


def test_the_mask_token_is_never_drafted_though_the_text_may_hold_it():
    llm = llm_of(sharpness=0.0, mask_id=0)  # what rows that are not sampled say is the mask token
    output = llm.generate([1, 2], DRAWN, method="verified-diffusion:sampled=no,layout=quadratic")[0]
    assert output.outputs[0].drafts.steps == 0
    wanted = DRAWN.but(logit_bias={0: 50.0})
    output = llm.generate([1, 2], wanted, method="verified-diffusion")[0]
    assert output.outputs[0].token_ids == [0] * 40


def test_with_the_targets_noise_more_drafts_are_right_than_with_the_likeliest_token():
    llm = llm_of(sharpness=1.0)
    rates = []
    for sampled in ("yes", "no"):
        outputs = llm.generate(PROMPTS, DRAWN.but(max_tokens=80), method=f"verified-diffusion:sampled={sampled}")
        rates.append(sum(sum(o.outputs[0].drafts.accepted) for o in outputs))
    assert rates[0] > 2 * rates[1]


def test_prefixes_and_batches_are_shared_with_other_methods():
    llm = llm_of()
    long = list(range(40))
    first = llm.generate(long, DRAWN, method="verified-diffusion")[0].outputs[0].token_ids
    methods = ["ar", "verified-diffusion:layout=linear", "ngram", "lookahead", "auto", "verified-diffusion"]
    found = llm.generate([long + first] * 6, DRAWN, method=methods)
    expected = toy_llm(llm.model).generate(long + first, DRAWN, method="ar")[0].outputs[0].token_ids
    assert [output.outputs[0].token_ids for output in found] == [expected] * 6
    assert all(output.num_cached_tokens >= 64 for output in found)


# Tokens per forward, and choices by price, with mask rows that are right as often as one says.


def coin_run(spec, acceptance, tokens=4000, price=lambda rows: 1.0, seed=1):
    """Decode a random text; each mask row's token is right with a known chance. Returns tokens, streams, seconds."""
    generator = np.random.default_rng(seed)
    text = generator.integers(100, 200, tokens + 20)
    traits = ModelTraits(vocab_size=1000, max_positions=1 << 30, mask_id=999)
    method = make_method(spec)
    sequence = Sequence("r", 0, [int(text[0])], SamplingParams(temperature=0, max_tokens=None), 0, method, traits)
    streams, seconds = 0, 0.0
    while sequence.committed < tokens:
        rows = method.demand(sequence).useful
        draft = None
        if rows > 1:
            draft = method.drafter.propose([sequence], [rows - 1], PricedStreams(price, 1))[0]
        query = method.plan(sequence, rows, draft)
        said = text[query.read.predicts].copy()
        wrong = (query.tokens[query.read.rows] == 999) & (generator.random(len(said)) >= acceptance)
        said[wrong] = 0
        answer = Answer(ints(said), confidence=np.full(len(said), acceptance))
        commit = method.commit(sequence, query, answer)
        sequence.extend([int(token) for token in commit.tokens], len(commit.keep))
        method.drafter.observe(sequence, query, answer, commit)
        streams += 1
        seconds += price(len(query))
    return sequence.committed, streams, seconds


@pytest.mark.parametrize("acceptance", [0.3, 0.8])
@pytest.mark.parametrize("block", [1, 3])
def test_tokens_per_forward_equal_the_formulas(acceptance, block):
    """E drafts are accepted of a step's, all of them with probability p. Quadratic: each step has drafts, 1 + E.
    Linear: behind a refusal comes a step without, (1 + E + 1 - p) / (1 + 1 - p)."""
    expected = sum(acceptance**depth for depth in range(1, block + 1))
    p = acceptance**block
    tokens, streams, _ = coin_run(f"verified-diffusion:block={block},layout=quadratic", acceptance)
    assert tokens / streams == pytest.approx(1 + expected, rel=0.04)
    tokens, streams, _ = coin_run(f"verified-diffusion:block={block},layout=linear", acceptance)
    assert tokens / streams == pytest.approx((1 + expected + 1 - p) / (2 - p), rel=0.04)


def test_the_table_in_the_docs_follows_from_the_formulas():
    text = (Path(__file__).parent.parent.parent / "docs" / "methods.md").read_text()
    lines = re.findall(r"\| (0\.\d) \| (linear|quadratic), (\d) \|(.*)\|", text)
    assert len(lines) == 12
    for acceptance, layout, drafts, numbers in lines:
        a, k = float(acceptance), int(drafts)
        expected, p = sum(a**depth for depth in range(1, k + 1)), a**k
        if layout == "linear":
            tokens, rows = (2 + expected - p) / (2 - p), ((2 * k + 1) + (1 - p) * (k + 1)) / (2 - p)
        else:
            tokens, rows = 1 + expected, (k + 1) ** 2
        speeds = [tokens / (1 + share * (rows - 1)) for share in (0.003, 0.05, 0.2)]
        written = [float(number) for number in numbers.split("|")]
        assert written.pop(1) == pytest.approx(rows, abs=0.051)
        assert written == pytest.approx([tokens, *speeds], abs=0.0051)


def test_where_rows_are_free_the_pruned_layout_has_all_of_them():
    tokens, streams, _ = coin_run("verified-diffusion:block=3", 1.0, 500)
    assert tokens / streams == pytest.approx(4, rel=0.02)


def test_where_a_row_costs_a_stream_there_are_hardly_any():
    tokens, streams, seconds = coin_run("verified-diffusion:block=3", 0.4, 2000, price=float)
    assert seconds < 1.02 * tokens
    assert streams <= tokens


def regret(acceptance, row, tokens):
    """By how much the pruned layout is slower than the best fixed one, as a share, if a row costs so many streams."""

    def speed(spec):
        done, _, seconds = coin_run(spec, acceptance, tokens, lambda rows: 1 + row * (rows - 1))
        return done / seconds

    fixed = [f"verified-diffusion:block={block},layout={one}" for block in (1, 4) for one in ("linear", "quadratic")]
    return 1 - speed("verified-diffusion:block=4") / max(1.0, *map(speed, fixed))


@pytest.mark.parametrize(("acceptance", "row"), [(0.8, 0.0), (0.5, 0.06), (0.1, 0.5)])
def test_the_pruned_layout_is_about_as_fast_as_the_best_fixed_one(acceptance, row):
    assert regret(acceptance, row, 700) < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("row", [0.0, 0.03, 0.09, 0.2, 1.0])
@pytest.mark.parametrize("acceptance", [0.1, 0.5, 0.8])
def test_so_it_is_at_any_price_of_a_row(acceptance, row):
    assert regret(acceptance, row, 4000) < 0.03


def test_a_layout_keeps_within_rows_and_within_the_answer():
    assert linear(Space(drafts=3, block=4, rows=20, room=20)) == MaskLayout((0, 0, 0, 4))
    assert linear(Space(drafts=3, block=4, rows=5, room=20)) == MaskLayout((0, 0, 0, 2))
    assert quadratic(Space(drafts=2, block=2, rows=20, room=20)) == MaskLayout((2, 2, 2))
    assert quadratic(Space(drafts=2, block=2, rows=7, room=20)) == MaskLayout((2, 2))
    assert quadratic(Space(drafts=2, block=4, rows=20, room=3)) == MaskLayout((2, 1, 0))
    assert quadratic(Space(drafts=2, block=4, rows=3, room=20)) == MaskLayout((3,))
    assert quadratic(Space(drafts=0, block=4, rows=3, room=0)) == MaskLayout((0,))


def test_every_beginning_of_the_candidates_is_a_layout():
    rows = candidates(Space(drafts=2, block=2, rows=8, room=9), survival=[0.6, 0.5], ahead=[0.7, 0.4])
    assert [row.worth for row in rows] == sorted((row.worth for row in rows), reverse=True)
    for count in range(len(rows) + 1):
        layout = of_candidates(rows[:count])
        assert layout.rows == count
        assert all(0 <= size <= 2 for size in layout.groups)
    assert of_candidates(rows[:4]) == MaskLayout((1, 0, 1))
    assert worthwhile([0.6, 0.5, 0.1], lambda rows: 1 + 0.3 * rows, rate=1.0)[0] == 2


def test_visible_is_the_picture_without_drafts():
    assert visible(2, ints([1, 1])).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("changes", "spec", "says"),
    [
        (
            {},
            "verified-diffusion",
            r"names none; mask_id=ID.*this model can use: ar, auto, ngram.*, verified-diffusion:mask_id=ID$",
        ),
        ({}, "verified-diffusion:mask_id=61", r"mask_id=61 is not in its vocabulary \(0 to 60\)"),
        (
            {"attention": "block", "block_size": 4, "mask_id": MASK},
            "verified-diffusion",
            "it needs a causal model with a mask token, and this model",
        ),
    ],
)
def test_a_model_that_cannot_be_read_both_ways_is_refused(changes, spec, says):
    llm = toy_llm(toy_model(toy_config(**changes)))
    with pytest.raises(MethodError, match=says):
        llm.generate([1, 2], method=spec)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("block=0", "a block has at least 1 position"),
        ("layout=square", "expected pruned, quadratic or linear"),
        ("mask_id=-3", "mask_id=-3: expected a token id, at least 0"),
        ("mask_id=x", "expected a whole number"),
    ],
)
def test_bad_options_are_explained(options, says):
    with pytest.raises(MethodError, match=says):
        make_method(f"verified-diffusion:{options}")


def test_it_says_which_rows_it_chose_and_why():
    llm = llm_of()

    def said(layout):
        method = f"verified-diffusion:block=2,layout={layout}"
        return llm.generate([1, 2, 3], DRAWN, method=method)[0].outputs[0].explanation[-1]

    assert said("quadratic") == (
        "quadratic layout: verifying 2 drafts, with 2 + 2 + 2 mask rows behind the places where the text may end"
    )
    assert "x expected" in said("pruned")
    drafter = make_method("verified-diffusion").drafter
    assert drafter._words(MaskLayout(), [0.4], PricedStreams(lambda rows: 0.001 * rows, 8)) == (
        "off: the first row beside plain decoding's costs 1.00 ms and brings 0.40 tokens"
    )
