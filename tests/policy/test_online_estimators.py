"""One contract for every online estimator: deterministic, exact across its state, bounded, quicker when told to be.

An estimator that is added gets a line in CASES.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from policy.drift import DriftConfig, DriftWatch
from policy.examination import Examination
from policy.exposure import CalibrationAudit, ExposureModel
from policy.frequency import StreamingFrequency
from policy.reward import RewardModel
from policy.swap_check import SwapCheck

ITEMS = [f"item{number}" for number in range(30)]
HASHES = np.random.default_rng(0).integers(0, 2**64, 30, dtype=np.uint64)


@dataclass(frozen=True)
class Case:
    """An estimator: how to make it, one observation of a world at `rate`, and what it says of the world."""

    make: Callable[[], Any]
    learn: Callable[[Any, np.random.Generator, float], None]
    predict: Callable[[Any], list[float]]

    def learned(self, steps: int, seed: int, rate: float = 0.2, estimator: Any = None) -> Any:
        estimator = estimator if estimator is not None else self.make()
        random = np.random.default_rng(seed)
        for _ in range(steps):
            self.learn(estimator, random, rate)
        return estimator


def clicks(random: np.random.Generator, rate: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return random.random(6) < rate


def learn_exposure(model: ExposureModel, random: np.random.Generator, rate: float) -> None:
    item = ITEMS[random.integers(30)]
    model.learn_one(model.features("new", item, -1.0, "r", 3), bool(random.random() < rate))


def learn_reward(model: RewardModel, random: np.random.Generator, rate: float) -> None:
    shown = [ITEMS[at] for at in random.permutation(30)[:6]]
    model.learn(model.features("new", shown), clicks(random, rate), np.array([1, 0.9, 0.8, 0.7, 0.6, 0.5]))


def learn_examination(model: Examination, random: np.random.Generator, rate: float) -> None:
    model.learn("new", random.random(6) < [0.3, *[rate] * 5], np.full(6, 0.3))


def learn_drift(watch: DriftWatch, random: np.random.Generator, rate: float) -> None:
    watch.update({"a": float(random.normal(rate - 0.2)), "b": 0.1})


CASES = {
    "frequency": Case(
        lambda: StreamingFrequency(width=64),
        lambda one, random, rate: one.learn(HASHES[random.random(30) < rate], one.step + 1),
        lambda one: one.probability(HASHES).tolist(),
    ),
    "exposure": Case(
        lambda: ExposureModel(bits=8),
        learn_exposure,
        lambda one: [one.predict_one(one.features("new", item, -1.0, "r", 3)) for item in ITEMS],
    ),
    "audit": Case(
        lambda: CalibrationAudit(half_life=200.0),
        lambda one, random, rate: one.update(0.4, float(random.random() * rate)),
        lambda one: [one.residual],
    ),
    "reward": Case(
        lambda: RewardModel(bits=8, memory=1000.0),
        learn_reward,
        lambda one: one.predict(one.features("new", ITEMS)).tolist(),
    ),
    "examination": Case(
        lambda: Examination(half_life=500.0, positions=6),
        learn_examination,
        lambda one: one.predict("new").tolist()[1:],
    ),
    "swaps": Case(
        lambda: SwapCheck(half_life=500.0, positions=6),
        lambda one, random, rate: one.learn(random.random(6) < [0.3, *[rate] * 5], uniform=True),
        lambda one: one.curve(6).examination.tolist()[1:],
    ),
    "drift": Case(
        lambda: DriftWatch(DriftConfig(warm_up=300, threshold=40.0)),
        learn_drift,
        lambda one: [float(sum(one.alarms.values()))],
    ),
}
QUICKENED = ["frequency", "exposure", "reward", "examination"]
over_all = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    listed: dict[str, Any] = json.loads(json.dumps(state, default=lambda array: array.tolist()))
    return listed


def restored(estimator: Any) -> Any:
    state = through_json(estimator.state())
    if isinstance(estimator, DriftWatch):
        return DriftWatch.from_state(state, estimator.config)
    return type(estimator).from_state(state)


@over_all
def test_the_same_observations_give_the_same_state(case: Case) -> None:
    first, second = (through_json(case.learned(300, 1).state()) for _ in range(2))
    assert first == second
    assert first != through_json(case.learned(300, 2).state())


@over_all
def test_learning_on_from_a_state_is_learning_on_without_one(case: Case) -> None:
    whole = case.learned(400, 1)
    part = case.make()
    random = np.random.default_rng(1)
    for step in range(400):
        if step in (0, 1, 5, 150, 399):
            part = restored(part)
        case.learn(part, random, 0.2)
    assert through_json(part.state()) == through_json(whole.state())
    assert case.predict(part) == case.predict(whole)


@over_all
def test_a_state_does_not_follow_what_is_learned_later(case: Case) -> None:
    estimator = case.learned(100, 1)
    state = estimator.state()
    before = through_json(state)
    case.learned(100, 2, estimator=estimator)
    assert through_json(state) == before


@over_all
def test_it_tells_a_changed_world(case: Case) -> None:
    estimator = case.learned(1000, 1)
    before = np.mean(case.predict(estimator))
    case.learned(1000, 2, rate=0.6, estimator=estimator)
    assert np.mean(case.predict(estimator)) > before + 0.1


@pytest.mark.parametrize("name", QUICKENED)
def test_once_quickened_it_follows_a_change_sooner_and_says_the_same_until_then(name: str) -> None:
    case, after = CASES[name], []
    for factor in (1.0, 8.0):
        estimator = case.learned(1000, 1)
        before = case.predict(estimator)
        estimator.quicken(factor)
        if name not in ("frequency", "examination"):  # gaps still open count more, and a context against all
            assert case.predict(estimator) == before
        case.learned(30, 2, rate=0.6, estimator=estimator)
        after.append(np.mean(case.predict(estimator)) - np.mean(before))
    assert after[1] > 1.5 * after[0] > 0
    with pytest.raises(ValueError, match="factor is 0"):
        case.make().quicken(0.5)


@over_all
def test_a_state_is_bounded(case: Case) -> None:
    sizes = [len(json.dumps(through_json(case.learned(steps, 1).state()))) for steps in (1000, 3000)]
    assert sizes[1] < 1.5 * sizes[0] + 4000
