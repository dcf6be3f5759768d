"""A language whose every probability is known."""

from math import log

import numpy as np
import pytest

from ridgeway.training.grammar import ANIMALS, Grammar

SMALL = Grammar(
    {
        "S": ((0.25, "Noun sleeps"), (0.75, "Noun sees Noun")),
        "Noun": ((0.5, "it"), (0.5, "the dog")),
    }
)


def test_the_sentences_of_a_grammar_have_probability_1_together():
    assert sum(probability for _, probability in SMALL.sentences()) == pytest.approx(1)


def test_every_sentence_is_derived_in_one_way_only():
    sentences = [sentence for sentence, _ in SMALL.sentences()]
    assert len(sentences) == len(set(sentences)) == 6


def test_the_probability_of_a_sentence_is_that_of_its_derivation():
    for sentence, probability in SMALL.sentences():
        assert SMALL.probability(sentence) == pytest.approx(probability)


def test_the_entropy_is_the_expected_surprise_of_a_sentence():
    assert SMALL.entropy() == pytest.approx(sum(-p * log(p) for _, p in SMALL.sentences()))


def test_the_mean_and_the_longest_length_are_those_of_its_sentences():
    lengths = [(len(sentence), p) for sentence, p in SMALL.sentences()]
    assert SMALL.mean_bytes() == pytest.approx(sum(length * p for length, p in lengths))
    assert SMALL.longest_bytes() == max(length for length, _ in lengths)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        ".",
        "the dog sleeps",
        "the dog  sleeps.",
        "the dog sleep.",
        "the dogs sleeps.",
        "the dog sleeps. ",
        "a mice runs well.",
        "the cat that sees the dogs run well.",
        "the fox sees.",
    ],
)
def test_what_is_no_sentence_has_probability_0(wrong):
    assert not ANIMALS.accepts(wrong)


def test_the_verb_agrees_with_its_noun_across_another_one():
    assert ANIMALS.accepts("the cat that sees the dogs runs well.")


def test_samples_are_sentences_as_surprising_as_the_entropy_says():
    generator = np.random.default_rng(0)
    sentences = [ANIMALS.sample(generator) for _ in range(1500)]
    assert all(ANIMALS.accepts(sentence) for sentence in sentences)
    surprise = [-log(ANIMALS.probability(sentence)) for sentence in sentences]
    error = np.std(surprise) / len(surprise) ** 0.5
    assert abs(np.mean(surprise) - ANIMALS.entropy()) < 4 * error
    assert max(map(len, sentences)) <= ANIMALS.longest_bytes()
