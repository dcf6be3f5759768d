import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeway.cache.pages import PagedCache, PageTable
from ridgeway.cache.pool import PagePool


def cache_of(pages=8, size=4):
    return PagedCache(PagePool(pages, size))


def test_a_prefix_is_found_only_in_whole_pages_and_only_in_its_scope():
    cache = cache_of()
    tokens = list(range(10))
    table = PageTable(scope="causal")
    cache.reserve(table, 10)
    cache.remember(table, tokens, 10)
    cache.release(table)
    same, other = PageTable(scope="causal"), PageTable(scope="block(4)")
    assert cache.match(same, tokens, 9) == 8
    assert cache.match(other, tokens, 9) == 0
    cache.release(same)
    cache.pool.check()


def test_the_same_page_after_another_beginning_is_not_found():
    cache = cache_of()
    table = PageTable(scope="s")
    cache.reserve(table, 8)
    cache.remember(table, [1, 2, 3, 4, 5, 6, 7, 8], 8)
    assert cache.match(PageTable(scope="s"), [9, 9, 9, 9, 5, 6, 7, 8], 8) == 0


def test_known_pages_are_evicted_longest_unused_first_and_the_end_of_a_prefix_before_its_beginning():
    cache = cache_of(pages=4)
    for start in (0, 100):
        table = PageTable(scope="s")
        cache.reserve(table, 8)
        cache.remember(table, range(start, start + 8), 8)
        cache.release(table)
    new = PageTable(scope="s")
    assert cache.reserve(new, 4)
    old, young = PageTable(scope="s"), PageTable(scope="s")
    assert cache.match(old, list(range(8)), 8) == 4
    assert cache.match(young, list(range(100, 108)), 8) == 8


def test_a_pool_that_keeps_nothing_shares_what_is_known_and_takes_it_before_it_takes_free_pages():
    cache = PagedCache(PagePool(total=16, page_size=4, keeps=False))
    tokens = list(range(9))
    leader, sibling, later = (PageTable(scope="s") for _ in range(3))
    cache.reserve(leader, 9)
    used = set(leader.pages)
    cache.remember(leader, tokens, 9)
    cache.release(leader)
    assert cache.match(sibling, tokens, 8) == 8  # as long as nobody has wanted the pages
    cache.release(sibling)
    cache.reserve(later, 12)
    assert set(later.pages) == used
    assert cache.match(PageTable(scope="s"), tokens, 8) == 0
    cache.release(later)
    cache.pool.check()


def test_a_reservation_that_does_not_fit_changes_nothing():
    cache = cache_of(pages=2)
    table = PageTable(scope="s")
    assert not cache.reserve(table, 9)
    assert table.pages == []
    assert cache.pool.available == 2


def test_a_page_that_nobody_holds_cannot_be_released():
    pool = PagePool(1, 4)
    page = pool.take()
    pool.release(page)
    with pytest.raises(AssertionError, match="nobody holds it"):
        pool.release(page)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.sampled_from(["grow", "release", "match"]))),
    st.booleans(),
)
def test_free_plus_cached_plus_owned_is_always_the_total(script, keeps):
    cache = PagedCache(PagePool(total=6, page_size=4, keeps=keeps))
    tables = [PageTable(scope="s") for _ in range(4)]
    texts = [[0] * 40, [0] * 12 + [1] * 28, [2] * 40, list(range(40))]
    for which, length, action in script:
        table, tokens = tables[which], texts[which]
        if action == "release":
            cache.release(table)
        elif action == "match" and not table.pages:
            assert cache.match(table, tokens, length) <= length
        elif cache.reserve(table, length):
            cache.remember(table, tokens, min(length, len(table.pages) * 4))
            assert len(set(cache.slots(table, length))) == length
        cache.pool.check()
    for table in tables:
        cache.release(table)
    cache.pool.check()
    assert cache.pool.owned == 0
