import numpy as np
import pytest

from models.drift import DAY_MS, drift, topic_axes

AXES = np.eye(3, dtype=np.float32)


def test_a_quarter_turn_in_two_days_is_45_degrees_a_day_from_one_topic_to_another() -> None:
    before, after = np.array([[5, 0, 0, 1]], np.float32), np.array([[0, 7, 0, 1]], np.float32)
    found = drift(before, after, np.array([2 * DAY_MS]), AXES)
    assert found.degrees[0] == pytest.approx(45, abs=1e-3)
    np.testing.assert_allclose(found.topics[0], [-0.5, 0.5, 0], atol=1e-6)


def test_small_angles_are_told_and_no_movement_is_0() -> None:
    angle = np.radians(0.01)
    before = np.array([[1, 0, 0], [1, 0, 0]], np.float32)
    after = np.array([[np.cos(angle), np.sin(angle), 0], [3, 0, 0]], np.float32)
    found = drift(before, after, np.array([DAY_MS, DAY_MS]), AXES)
    assert found.degrees[0] == pytest.approx(0.01, rel=1e-3)
    assert found.degrees[1] == 0


def test_a_moment_counts_as_an_hour() -> None:
    one, other = np.array([[1, 0, 0]], np.float32), np.array([[0, 1, 0]], np.float32)
    assert drift(one, other, np.array([0]), AXES).degrees[0] == pytest.approx(90 * 24, rel=1e-5)


def test_what_cannot_be_is_refused() -> None:
    one = np.ones((1, 3), np.float32)
    with pytest.raises(ValueError, match="-1 ms, expected not below 0"):
        drift(one, one, np.array([-1]), AXES)
    with pytest.raises(ValueError, match="1 and 1 vectors and 2 times"):
        drift(one, one, np.array([1, 2]), AXES)


def test_a_topic_lies_where_its_items_are_and_others_are_not() -> None:
    items = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 0, 1], [0, 0, 1]], np.float32)
    shares = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], np.float32)
    axes = topic_axes(items, shares)
    np.testing.assert_allclose(np.linalg.norm(axes[:2], axis=1), 1, rtol=1e-6)
    assert (items[:2] @ axes[0] > 0.5).all()
    assert (items[2:] @ axes[0] < 0).all()
    assert not axes[2].any()
