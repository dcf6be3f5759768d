import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ridgeway.core.noise import Purpose, gumbel, philox, uniform

# Known answers of Philox4x32-10, from the Random123 distribution of the generator's authors.
KNOWN = [
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, 0xFFFFFFFFFFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_its_authors_known_answers(counter, key, words):
    assert_array_equal(philox(counter, key), np.array(words, dtype=np.uint64))


def test_noise_depends_on_each_part_of_its_key():
    base = gumbel(1, 0, 5, 7)
    others = [gumbel(2, 0, 5, 7), gumbel(1, 1, 5, 7), gumbel(1, 0, 6, 7), gumbel(1, 0, 5, 8)]
    assert all(base != other for other in others)
    assert uniform(1, 0, 5, Purpose.TOKEN) != uniform(1, 0, 5, Purpose.ACCEPT)


def test_noise_of_some_tokens_is_that_of_all_tokens():
    everyone = gumbel(3, 0, 9, np.arange(1000))
    some = np.array([5, 999, 17])
    assert_array_equal(gumbel(3, 0, 9, some), everyone[some])


def test_uniform_numbers_are_uniform_and_never_0_or_1():
    draws = uniform(11, 0, np.arange(200), Purpose.TOKEN, np.arange(500)[:, None]).ravel()
    assert 0 < draws.min() < draws.max() < 1
    counts, _ = np.histogram(draws, bins=50, range=(0, 1))
    expected = len(draws) / 50
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 100  # 49 degrees of freedom: exceeded once in 25,000 seeds, and this seed is fixed


def test_the_largest_seed_is_a_seed():
    assert np.isfinite(gumbel(2**64 - 1, 0, 0, 0))
