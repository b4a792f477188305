import numpy as np
import pytest

from evaluation.measures import curve, gains, means, slices
from tests.evaluation.streams import stream


def test_gains_by_hand() -> None:
    hit, ndcg = gains(np.array([0, 1, 2, 3, 10])).tolist()
    assert hit == [0, 1, 1, 1, 1]
    assert ndcg == pytest.approx([0, 1, 0.6309297535714574, 0.5, 0.2890648263178879])


def test_means_over_a_slice() -> None:
    ranks = np.array([1, 0, 3, 0])
    assert means(ranks, np.array([True, True, False, False])) == {"hit_rate": 0.5, "ndcg": 0.5}
    assert means(ranks, np.zeros(4, bool)) == {"hit_rate": None, "ndcg": None}


def test_slices_by_hand() -> None:
    events = stream("a x 0\na y 0\nb x 1\nb x 1\nc z 2\nc w 3\na x 9", listed=("w",))
    found = {name: mask.tolist() for name, mask in slices(events, 2).items()}
    assert found == {
        "all": [True] * 5,
        "untied": [True, False, True, True, True],
        "tied": [False, True, False, False, False],
        "first_event": [True, False, True, False, False],
        "cold_item": [True, True, False, True, True],
        "unknown_item": [False, False, True, False, False],
        "repeat": [False, True, False, False, True],
    }


def test_an_item_is_cold_up_to_four_events() -> None:
    events = stream("\n".join(f"u{at} x" for at in range(8)))
    assert slices(events, 1)["cold_item"].tolist() == [True, True, True, True, False, False, False]


def test_the_curve_covers_all_test_events_once() -> None:
    ranks = {"a": np.array([1, 1, 0, 0, 0, 2, 1])}
    windows = curve(ranks, 10, 3)
    assert [(one.begin, one.end) for one in windows] == [(10, 12), (12, 15), (15, 17)]
    assert [one.arms["a"]["hit_rate"] for one in windows] == [1, 0, 1]
    assert len(curve(ranks, 0, 99)) == 7
