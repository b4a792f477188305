"""Examination is recovered from clicks of a policy that prefers what is good, and again after it has changed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bench.clicks import World
from bench.estimators import FLAT, Clicks, recovery
from policy.drift import DriftWatch
from policy.examination import Examination

STEEP = 1 / np.arange(1, 11.0)


def error(clicks: Clicks, truth: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    return float(np.abs(clicks.examination.predict()[:10] - truth).max())


def test_recovers_the_curve_and_a_changed_one_sooner_when_drift_is_watched() -> None:
    """The bounds after a drift are those after 3,000 slates of it; docs/propensities.md has the whole way."""
    found = [recovery(0, slates=3000, watched=watched) for watched in (True, False)]
    assert found[0]["error"] < 0.03 and found[1]["error"] < 0.03
    assert found[0]["alarms"][0][0] - 3000 < 300  # slates after the change
    assert found[0]["alarms"][0][1].startswith("position")
    assert not found[1]["alarms"]
    assert found[0]["error_after_drift"] < 0.15
    assert found[1]["error_after_drift"] > 1.5 * found[0]["error_after_drift"]


def test_clicks_by_position_alone_would_be_wrong() -> None:
    """What is shown first is better: the ratio of click rates is no examination, with a model of reward it is."""
    world, clicks = World(3, examination=FLAT), Clicks()
    shown = world.show(4000)
    clicks.learn(shown)
    rates = shown.clicks.mean(axis=0)
    assert np.abs(rates / rates[0] - FLAT).max() > 0.1
    assert error(clicks, FLAT) < 0.08


def test_contexts_have_curves_of_their_own() -> None:
    world, clicks = World(4), Clicks()
    other = dataclasses.replace(world, examination=FLAT)
    for _ in range(4):
        for each, segment in ((world, 0), (other, 1)):
            shown = each.show(500)
            shown.segment[:] = segment
            clicks.learn(dataclasses.replace(shown, clicks=_clicked(each, shown)))
    curves = [clicks.examination.predict(name)[:10] for name in ("0", "1-4", "never met", "")]
    assert np.abs(curves[0] - STEEP).max() < 0.1
    assert np.abs(curves[1] - FLAT).max() < 0.15
    assert np.array_equal(curves[2], curves[3])
    assert (curves[0][1:] < curves[3][1:]).all() and (curves[3][1:] < curves[1][1:]).all()


def _clicked(world: World, shown: object) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    reward = world.reward(shown.segment, shown.items)  # type: ignore[attr-defined]
    return world.random.random(reward.shape) < world.examination * reward


def test_a_reward_too_large_everywhere_changes_no_examination() -> None:
    """What r̂ does not know yet is not laid to the positions."""
    random = np.random.default_rng(5)
    right, large = Examination(), Examination()
    for _ in range(3000):
        reward = random.uniform(0.05, 0.2, 10)
        clicks = random.random(10) < STEEP * reward
        right.learn("", clicks, reward)
        large.learn("", clicks, reward * 3)
    assert np.abs(right.predict()[:10] - large.predict()[:10]).max() < 0.05


def test_swaps_contradict_a_curve_learned_from_an_order_that_never_changes() -> None:
    """Without exploration position and taste cannot be told apart; the exchanged slates say that something is wrong."""
    world = World(6, temperature=1e-3, knowledge=1.0, swaps=0.3, epsilon=0.0, items=30, candidates=30)
    clicks = Clicks()
    clicks.examination.learn("", np.ones(10, bool), np.ones(10))
    shown = world.show(6000)
    for at in range(6000):  # swapped slates only check, and r̂ knows the items by their usual place
        pair = tuple(shown.swapped[at].tolist())
        swapped = (pair[0], pair[1]) if pair[0] >= 0 else None
        clicks.check.learn(shown.clicks[at], swapped=swapped)
        if swapped is None:
            clicks.examination.learn("", shown.clicks[at], np.full(10, 0.4))
    curve = clicks.check.curve(10)
    assert np.abs(np.log(curve.examination / STEEP)[1:] / curve.error[1:]).max() < 4
    assert len(curve.disagrees(clicks.examination.predict()[:10], np.zeros(10)))


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="half_life is 0"):
        Examination(half_life=0)
    with pytest.raises(ValueError, match="4 positions, expected at most 3"):
        Examination(positions=3).learn("", np.zeros(4, bool), np.zeros(4))
    with pytest.raises(ValueError, match="reward"):
        Examination(positions=3).learn("", np.zeros(2, bool), np.array([0.5, 1.5]))
    state = Examination(positions=3).state()
    with pytest.raises(ValueError, match="shapes"):
        Examination.from_state(state | {"contexts": ["", "a"]})


def test_contexts_are_bounded() -> None:
    examination = Examination(positions=2)
    for number in range(100):
        examination.learn(f"c{number}", np.zeros(2, bool), np.full(2, 0.5))
    assert len(examination.state()["contexts"]) == 32


def test_drift_of_clicks_is_not_seen_in_a_world_that_stays() -> None:
    clicks = Clicks(drift=DriftWatch())
    world = World(8)
    for _ in range(8):
        clicks.learn(world.show(500))
    assert clicks.alarms == []
