"""What a click is worth to training, and that whoever repeats the rounds comes to the same."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from bench.clicks import World
from policy.drift import DriftConfig, DriftWatch
from policy.reward import LARGEST_WEIGHT
from streams.correction import Correction
from streams.estimator_clicks import DriftPart
from tests.streams.test_estimator_clicks import outcomes


def logged(world: World, count: int) -> list:
    return [replace(outcome, inclusion=[0.8] * 10) for outcome in outcomes(world, count)]


def test_a_click_is_worth_more_the_less_it_was_looked_at_and_the_less_likely_it_was_shown():
    correction = Correction()
    for outcome in logged(World(1), 1200):
        correction.learn(outcome)
    one = logged(World(2), 1)[0]
    every = [1.0] * 10
    certain, _ = Correction.unpack(correction.pack()).learn(replace(one, rewards=every, inclusion=[1.0] * 10))
    rare, _ = Correction.unpack(correction.pack()).learn(replace(one, rewards=every, inclusion=[0.3] * 10))
    assert [item for item, _ in certain] == one.items
    weights = np.array([[weight for _, weight in found] for found in (certain, rare)])
    assert weights[0, 0] == pytest.approx(1.0)
    assert weights[0, 1] == pytest.approx(2.0, rel=0.15)  # looked at half as often as the first
    assert (np.diff(weights[0])[:6] > 0).all()
    assert (weights[1][:3] > 1.5 * weights[0][:3]).all()
    assert weights.max() == LARGEST_WEIGHT


def test_what_was_not_clicked_or_not_logged_is_no_lesson():
    one = logged(World(2), 1)[0]
    assert Correction().learn(replace(one, rewards=[0.0] * 10)) == ([], [])
    assert Correction().learn(replace(one, rewards=[1.0] * 10, inclusion=None)) == ([], [])


def test_goes_on_where_it_was_packed():
    given = logged(World(3), 60)
    whole, part = Correction(), Correction()
    for number, outcome in enumerate(given):
        if number in (0, 20):
            part = Correction.unpack(part.pack())
        assert part.learn(outcome) == whole.learn(outcome)
    assert part.pack() == whole.pack()


def test_says_what_has_drifted():
    correction, world = Correction(drift=DriftPart(DriftWatch(DriftConfig(warm_up=300)))), World(4)
    for outcome in logged(world, 800):
        assert correction.learn(outcome)[1] == []
    world.examination = np.ones(10)
    drifted = [signal for outcome in logged(world, 400) for signal in correction.learn(outcome)[1]]
    assert drifted and drifted[0].startswith("position")
    assert correction.alarms == len(drifted)
