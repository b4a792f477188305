"""The world: the same luck whatever is shown, and each of its forces does what it is there for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation.simulation.world import World, WorldConfig

SMALL = WorldConfig(users=60, items=50, new_items=10, ticks=30, k=5, met=5)
STILL = replace(SMALL, drift=0.0, breaks=0.0, novelty=0.0, herding=0.0, fatigue=0.0, wear=0.0, taken=0.0, new_items=0)


def played(config: WorldConfig, seed: int, first: int, ticks: int = 30) -> tuple[World, list[np.ndarray]]:
    """Show everybody items `first`, `first` + 1, …; the clicks of each tick."""
    world, clicks = World(config, seed), []
    for _ in range(ticks):
        users = world.begin()
        slates = np.broadcast_to(np.arange(first, first + config.k), (len(users), config.k))
        clicks.append(world.show(users, slates).clicks if len(users) else np.empty((0, config.k), bool))
    return world, clicks


def test_the_same_seed_is_the_same_world() -> None:
    (one, clicks), (other, again) = played(SMALL, 1, 0), played(SMALL, 1, 0)
    assert all(np.array_equal(a, b) for a, b in zip(clicks, again, strict=True))
    everybody = np.arange(SMALL.users)
    assert np.array_equal(one.relevance(everybody), other.relevance(everybody))
    assert not np.array_equal(one.relevance(everybody), played(SMALL, 2, 0)[0].relevance(everybody))


def test_luck_does_not_depend_on_what_was_shown() -> None:
    """Common random numbers: two arms' tastes stay equal, and a user's nth visit has the same numbers for an item."""
    one, other = played(STILL, 1, 0)[0], played(STILL, 1, 20)[0]
    everybody = np.arange(STILL.users)
    assert np.array_equal(one.relevance(everybody), other.relevance(everybody))
    one.visits[:], other.visits[:] = 7, 7
    what = np.broadcast_to(np.arange(5), (60, 5))
    assert np.array_equal(one._uniforms(everybody, 101, what), other._uniforms(everybody, 101, what))
    flipped = one._uniforms(everybody, 101, what[:, ::-1])
    assert np.array_equal(flipped[:, ::-1], other._uniforms(everybody, 101, what))


def test_reward_and_best_are_the_models_closed_form() -> None:
    world = World(STILL, 3)
    users = world.begin()
    relevance = world.relevance(users)
    slates = np.argsort(-relevance, axis=1)[:, :5]
    eta = 1 / np.arange(1, 6)
    expected = (np.take_along_axis(relevance, slates, axis=1) * eta).sum(axis=1)
    response = world.show(users, slates)
    assert response.reward == pytest.approx(expected)
    assert response.best == pytest.approx(response.reward)


@pytest.mark.parametrize(
    ("force", "value"), [("drift", 0.1), ("breaks", 0.2), ("herding", 1.0), ("fatigue", 1.0), ("wear", 1.0)]
)
def test_each_force_changes_what_is_wanted(force: str, value: float) -> None:
    everybody = np.arange(STILL.users)
    still = played(STILL, 4, 0)[0].relevance(everybody)
    assert np.allclose(still, World(STILL, 4).relevance(everybody))
    moved = played(replace(STILL, **{force: value}), 4, 0)[0].relevance(everybody)
    assert np.abs(moved - still).max() > 0.02
    if force in ("fatigue", "wear"):
        assert (moved <= still + 1e-12).all()


def test_what_was_taken_is_wanted_less_and_comes_back() -> None:
    world = World(replace(STILL, taken=2.0, offset=0.0), 5)
    users = world.begin()
    before = world.relevance(users)
    clicks = world.show(users, np.broadcast_to(np.arange(5), (len(users), 5))).clicks
    after = world.relevance(users)
    assert clicks.any()
    assert (after[:, :5][clicks] < before[:, :5][clicks]).all()
    assert np.allclose(after[:, :5][~clicks], before[:, :5][~clicks])
    everybody_again = np.array(users)
    for _ in range(20):
        world.show(everybody_again, np.broadcast_to(np.arange(20, 25), (len(users), 5)))
    assert np.allclose(world.relevance(users)[:, :5], before[:, :5], atol=0.02)


def test_who_finds_something_comes_back_more_often() -> None:
    """Longer sessions, shorter absences, no leaving: in the end more slates."""
    rich, poor = replace(STILL, offset=2.0, ticks=100), replace(STILL, offset=-8.0, ticks=100)
    assert played(rich, 6, 0, 100)[0].visits.sum() > 1.5 * played(poor, 6, 0, 100)[0].visits.sum()


def test_items_come_one_by_one_and_two_groups_differ() -> None:
    world, known = World(SMALL, 7), []
    for _ in range(SMALL.ticks):
        world.begin()
        known.append(world.known)
    assert known[0] == 50
    assert known[-1] == 60
    assert (np.diff(known) >= 0).all()
    assert world.group.sum() == round(0.3 * 60)
    wanted = [world.relevance(np.flatnonzero(world.group == group)).mean(axis=0) for group in (0, 1)]
    assert np.corrcoef(*wanted)[0, 1] < 0.95


def test_a_world_is_refused_that_has_too_few_items() -> None:
    with pytest.raises(ValueError, match="items is 4, expected at least k"):
        WorldConfig(items=4, k=5)
