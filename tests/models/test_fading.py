import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.fading import FadingCounts

ITEMS = 4


@given(st.lists(st.integers(-1, ITEMS - 1), max_size=60), st.integers(1, 20), st.integers(0, 60))
def test_an_event_is_worth_half_after_its_half_life_however_it_is_told(log: list[int], size: int, at: int) -> None:
    half_lives = [3.0, 500.0]
    fading = FadingCounts(ITEMS, half_lives)
    for start in range(0, len(log), size):
        fading.add(np.array(log[start : start + size], np.int64))
        if start <= at < start + size:
            fading.rescale()
            np.testing.assert_array_equal(fading.worth, [1, 1])
    expected = np.zeros((ITEMS, 2))
    for place, item in enumerate(log):
        if item >= 0:
            expected[item] += [0.5 ** ((len(log) - 1 - place) / half_life) for half_life in half_lives]
    np.testing.assert_allclose(fading.counts / fading.worth, expected, rtol=1e-9, atol=1e-12)


def test_rescaling_tells_by_what_it_divided() -> None:
    fading = FadingCounts(ITEMS, [1.0])
    fading.add(np.array([0, 1, 1]))
    before = fading.counts.copy()
    by = fading.rescale()
    assert by == pytest.approx([8])
    np.testing.assert_allclose(fading.counts * by, before)


def test_no_half_life_is_no_column() -> None:
    fading = FadingCounts(ITEMS, [])
    assert fading.add(np.array([0, 1])).shape == (2, 0)
    fading.grow(9)
    assert fading.counts.shape == (9, 0)
