import numpy as np
import pytest

from models.config import EvolutionConfig
from models.ring import RingCache


@pytest.fixture
def cache() -> RingCache:
    return RingCache(5, EvolutionConfig(dim=4, heads=2, window=3), "release", scratch_rows=2)


def test_gather_copies_the_rows_asked_for(cache: RingCache) -> None:
    cache.keys[1, 4] = 7
    cache.values[1, 2] = 8
    keys, values = cache.gather(1, np.array([4, 2]))
    assert keys.shape == values.shape == (2, 3, 4)
    assert keys[0].min() == 7 and keys[1].max() == 0
    assert values[1].min() == 8 and values[0].max() == 0


@pytest.mark.parametrize("rows", [[5], [-1], [0, 3, 0]])
def test_rows_outside_or_twice_are_refused(cache: RingCache, rows: list[int]) -> None:
    with pytest.raises(ValueError, match="rows"):
        cache.check(np.array(rows))


def test_no_rows_are_fine(cache: RingCache) -> None:
    cache.check(np.array([], np.int64))


def test_a_cache_holds_somebody() -> None:
    with pytest.raises(ValueError, match="rows is 0"):
        RingCache(0, EvolutionConfig(), "release", scratch_rows=2)


def test_erasing_leaves_nothing_of_a_row_and_the_others_as_they_are(cache: RingCache) -> None:
    for array in (cache.keys, cache.values, cache.times, cache.count):
        array[...] = 7
    cache.erase(np.array([2]))
    assert not (cache.keys[:, 2].any() or cache.values[:, 2].any() or cache.times[2].any() or cache.count[2])
    assert (cache.keys[:, [0, 1, 3, 4]] == 7).all() and (cache.count[[0, 1, 3, 4]] == 7).all()
