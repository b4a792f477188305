from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from policy import race
from policy.race import Floats
from tests.policy.enumeration import positions, slates


def hostile() -> Iterator[Floats]:
    """Weights that are even, geometric, of two levels, random: [rows, racers]."""
    random = np.random.default_rng(0)
    for racers in (3, 12, 60):
        at = np.arange(racers)
        yield np.exp(-np.array([0.0, 0.1, 0.5, 1.5, 4.0])[:, None] * at)
        for level in (2.0, 10.0, 1e4):
            yield np.where(at < np.array([1, 4, 5, 6])[:, None], level, 1.0)
        for spread in (1.0, 3.0, 10.0):
            yield np.exp(spread * random.standard_normal((3, racers)))


def everybody(weights: Floats, k: int) -> Floats:
    return race.positions(weights, k, np.broadcast_to(np.arange(weights.shape[1]), weights.shape))


@pytest.mark.parametrize("k", [2, 5, 10])
def test_who_comes_in_together_has_the_places_of_who_comes_in_one_by_one(
    k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = [everybody(weights, k) for weights in hostile()]
    monkeypatch.setattr(race, "_lightest", lambda k: 1e-30)
    for weights, found in zip(hostile(), together, strict=True):
        np.testing.assert_allclose(found, everybody(weights, k), atol=1e-12, rtol=0)
        filled = min(k, weights.shape[1])
        np.testing.assert_allclose(found.sum(axis=1)[:, :filled], 1.0, atol=1e-9, rtol=0)


def test_light_racers_agree_with_enumeration() -> None:
    """One runs away, the others are alike: all of them are light, and the k-th place is far behind the first."""
    weights = np.array([50.0, 1.0, 0.9, 1.1, 1.0, 0.8, 1.2, 1.0])
    expected = positions(slates(weights.tolist(), 4), 8, 4)
    np.testing.assert_allclose(everybody(weights[None], 4)[0], expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("there", [1, 2, 4])
def test_with_fewer_than_k_among_many_who_are_not_there(there: int) -> None:
    weights = np.zeros((2, 80))
    weights[:, [3, 70, 9, 41][:there]] = [1.0, 0.9, 2.0, 1e-3][:there]
    expected = positions(slates(weights[0, [3, 70, 9, 41][:there]].tolist(), 6), there, 6)
    np.testing.assert_allclose(everybody(weights, 6)[0, [3, 70, 9, 41][:there]], expected, atol=1e-10, rtol=0)


def test_a_race_does_not_depend_on_what_is_raced_beside_it() -> None:
    """Rows share nodes and chunks; each has a range of its own."""
    weights = np.exp(np.random.default_rng(1).standard_normal((90, 40)) * np.linspace(0, 6, 90)[:, None])
    alone = np.concatenate([everybody(row[None], 10) for row in weights[::9]])
    np.testing.assert_allclose(everybody(weights, 10)[::9], alone, atol=1e-13, rtol=0)
