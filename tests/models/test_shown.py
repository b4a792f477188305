"""The position-based likelihood of slates, and where in their users' histories they stand."""

from __future__ import annotations

import numpy as np
import pytest

from models.batches import InteractionLog
from models.exemplars import Exemplars
from models.liked import Liked
from models.shown import SlateLog, before, information, level_of, surplus

SCORES = np.linspace(-3, 3, 7, dtype=np.float32)


def sigmoid(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-scores))


@pytest.mark.parametrize("click", [True, False])
@pytest.mark.parametrize("eta", [1.0, 0.2])
def test_surplus_is_the_slope_of_the_likelihood(click: bool, eta: float) -> None:
    def loss(scores: np.ndarray) -> np.ndarray:
        chance = eta * sigmoid(scores)
        return -np.log(chance if click else 1 - chance)

    wide = SCORES.astype(np.float64)
    slope = (loss(wide + 1e-4) - loss(wide - 1e-4)) / 2e-4
    found = surplus(SCORES, np.full(7, click), np.full(7, eta, np.float32))
    np.testing.assert_allclose(found, slope, atol=1e-3)


def test_information_is_the_expected_square_of_the_surplus() -> None:
    eta = np.full(7, 0.3, np.float32)
    chance = eta * sigmoid(SCORES)
    squares = [surplus(SCORES, np.full(7, click), eta) ** 2 for click in (True, False)]
    np.testing.assert_allclose(information(SCORES, eta), chance * squares[0] + (1 - chance) * squares[1], rtol=1e-3)


def test_the_level_makes_as_many_clicks_expected_as_there_were() -> None:
    random = np.random.default_rng(0)
    scores = random.standard_normal((50, 4)).astype(np.float32) + 3
    eta = np.broadcast_to(np.array([1, 0.5, 0.3, 0.25], np.float32), scores.shape)
    clicks, there = random.random(scores.shape) < 0.1, random.random(scores.shape) < 0.9
    level = level_of(scores, clicks, eta, there)
    expected = (eta * sigmoid(scores + level))[there].sum()
    assert expected == pytest.approx(clicks[there].sum(), rel=1e-3)


def test_an_item_is_liked_for_what_was_done_where_it_was_looked_at_not_for_how_often_it_stood_there() -> None:
    """The first item at the first position, the second as good but at the last, the third worse at the first."""
    random, liked = np.random.default_rng(1), Liked(3, memory=1e9)
    chance, eta = np.array([0.4, 0.4, 0.2]), np.array([1.0, 0.1, 1.0], np.float32)
    rows = np.arange(3)
    for _ in range(6000):
        clicks = random.random(3) < eta * chance
        liked.learn(rows, surplus(liked.values, clicks, eta), information(liked.values, eta))
    np.testing.assert_allclose(sigmoid(liked.values), chance, atol=0.05)


def test_what_is_hardly_known_is_raised_and_what_is_known_is_not() -> None:
    liked = Liked(2, memory=1e9)
    for _ in range(500):
        liked.learn(np.array([0]), surplus(liked.values[:1], np.array([False]), np.ones(1)), np.full(1, 0.25))
    raised = liked.hopeful(1.0) - liked.values
    assert raised[1] == pytest.approx(1.0)
    assert raised[0] < 0.15
    again = Liked(0, memory=1e9)
    again.restore(**liked.state())
    np.testing.assert_array_equal(again.hopeful(2.0), liked.hopeful(2.0))


def test_a_slate_stands_after_what_its_user_did_before_it() -> None:
    exemplars, n = Exemplars(100), 6
    users, times = np.array([1, 2, 1, 1, 2, 1]), np.array([10, 10, 20, 30, 40, 50]) * 1000
    exemplars.add(InteractionLog(users, np.arange(n), times, np.zeros(n, np.uint8), np.ones(n, np.float32)))
    shape = (4, 2)
    slates = SlateLog(
        np.array([1, 2, 3, 1]),
        np.array([30, 39, 10, 9]) * 1000,
        np.zeros(shape, np.int64),
        np.zeros(shape, bool),
        np.ones(shape, np.float32),
    )
    ends, known = before(exemplars, slates, 3)
    assert ends.tolist() == [3, 1, -1, -1]
    assert known.recent.tolist() == [[3, 2, 0], [1, -1, -1], [-1] * 3, [-1] * 3]
    assert known.events.tolist() == [3, 1, 0, 0]
    assert known.gap_s.tolist() == [10, -1, -1, -1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"times_ms": np.zeros(2, np.int64)}, "expected n of each"),
        ({"clicks": np.zeros((1, 3), bool)}, "expected"),
        ({"examination": np.zeros((1, 2), np.float32)}, "positive"),
    ],
)
def test_a_log_that_contradicts_itself_is_refused(changed: dict[str, np.ndarray], said: str) -> None:
    arrays = {
        "users": np.zeros(1, np.int64),
        "times_ms": np.zeros(1, np.int64),
        "items": np.zeros((1, 2), np.int64),
        "clicks": np.zeros((1, 2), bool),
        "examination": np.ones((1, 2), np.float32),
    }
    with pytest.raises(ValueError, match=said):
        SlateLog(**(arrays | changed))
