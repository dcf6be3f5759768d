"""Drafters that cost no weight stream: what they guess, and that it never changes the text."""

import numpy as np
import pytest

from ridgeway.core.sampling_params import SamplingParams
from ridgeway.core.sequence import Sequence
from ridgeway.core.traits import ModelTraits
from ridgeway.methods.autoregressive import Autoregressive
from ridgeway.methods.matches import AnswersDrafter, Matches, TextDrafter
from ridgeway.methods.ngram import NGramDrafter
from ridgeway.methods.recycling import RecyclingDrafter
from ridgeway.methods.registry import make_method
from ridgeway.methods.suffix import SuffixDrafter, SuffixTree
from ridgeway.testing import check_lossless, toy_llm

FREE = ["ngram", "ngram:branches=3,depth=6", "suffix", "suffix:remembered=40", "recycling", "recycling:successors=2"]


def sequence_of(tokens):
    traits = ModelTraits(vocab_size=100, max_positions=512)
    return Sequence("r", 0, tokens, SamplingParams(), 0, Autoregressive(), traits)


@pytest.mark.parametrize("spec", FREE)
def test_the_text_is_that_of_plain_decoding(spec):
    check_lossless(spec)


def test_the_longest_match_wins_and_the_latest_of_its_kind():
    tokens = [1, 2, 3, 7, 9, 2, 3, 8, 2, 3]
    assert NGramDrafter(4).guess(sequence_of(tokens), 2).tree().tokens.tolist() == [8, 2]  # (2, 3): the later of both
    assert NGramDrafter(4).guess(sequence_of([*tokens[:3], 7, 9, 3, 8, 1, 2, 3]), 1).tree().tokens.tolist() == [7]


def test_a_draft_goes_round_a_loop():
    assert NGramDrafter(4).guess(sequence_of([5, 6, 5, 6, 5]), 5).tree().tokens.tolist() == [6, 5, 6, 5, 6]


def test_several_matches_make_a_tree():
    tree = NGramDrafter(1, branches=2).guess(sequence_of([1, 2, 3, 1, 4, 5, 1]), 4).tree()
    assert sorted(tree.tokens[tree.parent < 0].tolist()) == [2, 4]
    assert (tree.survival[tree.parent < 0] <= 1).all()


def test_the_index_looks_at_each_new_token_once():
    class Counted(list):
        reads = 0

        def __getitem__(self, place):
            Counted.reads += 1
            return super().__getitem__(place)

    index, tokens = Matches(), Counted(np.random.default_rng(0).integers(0, 9, 2000).tolist())
    index.extend(tokens)
    Counted.reads = 0
    tokens.append(3)
    index.extend(tokens)
    index.find(tokens, tokens, 4)
    assert Counted.reads <= 100  # the length of the text plays no part


def test_an_index_that_grew_equals_one_that_was_built_at_once():
    tokens = np.random.default_rng(1).integers(0, 4, 200).tolist()
    grown, built = Matches(), Matches()
    for end in range(1, 201):
        grown.extend(tokens[:end])
    built.extend(tokens)
    assert grown.__dict__ == built.__dict__


def test_every_match_has_its_exact_length():
    text = np.random.default_rng(2).integers(0, 3, 60).tolist()
    index = Matches()
    index.extend(text)
    newest = text[-20:]
    found = index.find(text, newest, 8)
    assert found == sorted(found, reverse=True)
    for length, place in found:
        assert text[place - length : place] == newest[-length:]
        assert length in (8, place) or text[place - length - 1] != newest[-length - 1]
    same = [place for place in range(2, 60) if text[place - 2 : place] == newest[-2:]]
    assert sorted(place for _, place in found) == same[-16:]


def test_a_long_match_is_surer_than_a_short_one_and_agreement_than_contradiction():
    def chance(*texts):
        tree = TextDrafter(16).guess(sequence_of([token for text in texts for token in text]), 1)
        return tree.survival[0]

    assert chance([1, 2, 3, 4, 9, 8, 1, 2, 3, 4]) > chance([5, 6, 3, 4, 9, 8, 1, 2, 3, 4])
    once, twice, elsewhere = [1, 2, 7, 8], [1, 2, 7, 9], [1, 2, 5, 9]
    assert chance(once, twice, [1, 2]) > chance(once, [1, 2]) > chance(once, elsewhere, [1, 2])


def test_where_places_differ_both_are_guessed():
    tree = TextDrafter(4).guess(sequence_of([1, 2, 3, 6, 1, 2, 4, 6, 1, 2]), 8).tree()
    assert sorted(tree.tokens[tree.parent < 0].tolist()) == [3, 4]


def test_earlier_answers_are_remembered_whole_and_the_oldest_forgotten():
    drafter = AnswersDrafter(8, remembered=20)
    for start in (10, 20, 30):
        sequence = sequence_of([1, 2])
        drafter.observe(sequence, None, None, None)
        assert len(drafter.text) <= 20
        sequence.tokens += range(start, start + 8)
        sequence.finish_reason = "stop"
        drafter.observe(sequence, None, None, None)
    assert drafter.text == [*range(30, 38)]
    assert drafter.guess(sequence_of([5, 30, 31]), 2).tokens == [32, 33]
    assert not drafter.guess(sequence_of([5, 10, 11]), 2).tokens


def test_suffix_counts_say_what_is_likely_and_how_surely():
    drafter = SuffixDrafter(window=6, remembered=0)
    tree = drafter.guess(sequence_of([1, 2, 7, 1, 2, 7, 1, 2, 8, 1, 2]), 2).tree()
    assert tree.tokens[0] == 7
    assert 0.5 < tree.survival[0] < 0.7  # two of three, less what is allowed for chance


def test_what_the_suffix_tree_forgets_leaves_no_trace():
    tree = SuffixTree(4)
    texts = [np.random.default_rng(seed).integers(0, 5, 30).tolist() for seed in range(2)]
    for text in texts:
        ends = [tree.root]
        for token in text:
            ends = tree.insert(ends, token)
    for text in texts:
        tree.remove(text)
    assert not tree.root.children


def test_answers_help_later_requests_and_no_more_are_remembered_than_was_said():
    llm, method = toy_llm(), make_method("suffix:remembered=60")
    params = SamplingParams(temperature=0.9, seed=5, max_tokens=25)
    first = llm.generate([[7, 8, 9]], params, method=method)[0]
    again = llm.generate([[7, 8, 9]], params, method=method)[0]
    assert again.outputs[0].token_ids == first.outputs[0].token_ids
    assert again.metrics.weight_streams < first.metrics.weight_streams
    llm.generate([[seed, 1] for seed in range(5)], params, method=method)
    assert method.drafter._held <= 60
    assert sum(child.count for child in method.drafter.shared.root.children.values()) == method.drafter._held


def test_recycling_keeps_what_was_likely_and_counts_which_rank_was_right():
    llm = toy_llm()
    method = make_method("recycling:successors=3")
    params = SamplingParams(temperature=0, max_tokens=60)
    output = llm.generate([[1, 2, 3]], params, method=method)[0]
    drafter = method.drafter
    assert isinstance(drafter, RecyclingDrafter)
    assert all(len(successors) == 3 for successors in drafter.after.values())
    assert output.metrics.weight_streams < 60
    assert drafter._right[0] / drafter._tried[0] > drafter._right[2] / drafter._tried[2]
