"""Drift that a total hides is seen in its parts, soon, and a world that stays gives no alarm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from river.drift import ADWIN

from policy.drift import Alarm, DriftConfig, DriftWatch

BEFORE = 3000


def flip(seed: int, after: int = 3000) -> list[tuple[list[float], list[bool]]]:
    """Predicted and observed clicks of two segments of users, by turns. What they like changes places at BEFORE: one
    goes from .3 to .5, the other from .3 to .1, and the total stays as it was."""
    random, found = np.random.default_rng(seed), []
    for step in range(BEFORE + after):
        rates = [0.3, 0.3] if step < BEFORE else [0.5, 0.1]
        found.append(([0.3, 0.3], (random.random(2) < rates).tolist()))
    return found


def log_loss(predicted: float, clicked: bool) -> float:
    return -math.log(predicted if clicked else 1 - predicted)


def standardised(predicted: float, clicked: bool) -> float:
    return (clicked - predicted) / math.sqrt(predicted * (1 - predicted))


@pytest.mark.parametrize("seed", range(3))
def test_a_flip_that_the_log_loss_does_not_show_is_seen_in_residuals_by_segment(seed: int) -> None:
    adwin, watch, alarms = ADWIN(), DriftWatch(), []
    for step, (predicted, clicked) in enumerate(flip(seed)):
        for one in zip(predicted, clicked, strict=True):
            adwin.update(log_loss(*one))
            assert not adwin.drift_detected
        residuals = map(standardised, predicted, clicked)
        alarms += [(step, alarm) for alarm in watch.update(dict(zip(("a", "b"), residuals, strict=True)))]
    step, alarm = alarms[0]
    assert BEFORE < step < BEFORE + 500
    assert alarm.up == (alarm.signal == "a")


def test_the_same_flip_is_not_seen_in_one_residual_for_all() -> None:
    """The mechanism is the parts."""
    watch = DriftWatch()
    for predicted, clicked in flip(0):
        residuals = list(map(standardised, predicted, clicked))
        assert not watch.update({"all": sum(residuals) / math.sqrt(2)})


def test_a_prediction_of_a_half_has_the_same_log_loss_whatever_comes() -> None:
    adwin, watch = ADWIN(), DriftWatch()
    random, alarms = np.random.default_rng(1), 0
    for step in range(6000):
        clicked = bool(random.random() < (0.5 if step < 3000 else 0.9))
        adwin.update(log_loss(0.5, clicked))
        alarms += len(watch.update({"position 1": standardised(0.5, clicked)}))
        assert not adwin.drift_detected
    assert alarms


def test_no_alarm_while_the_world_stays() -> None:
    random, watch = np.random.default_rng(2), DriftWatch()
    names = [f"position {k}" for k in range(1, 11)]
    chances = 0.4 / np.arange(1, 11)
    for clicked in random.random((15_000, 10)) < chances:
        residuals = (clicked - chances) / np.sqrt(chances * (1 - chances))
        assert not watch.update(dict(zip(names, residuals.tolist(), strict=True)))


def test_a_mean_that_was_off_and_moves_is_seen_by_adwin() -> None:
    """Page's sums are held down by a threshold out of reach: the other detector has to do it."""
    random, watch = np.random.default_rng(3), DriftWatch(DriftConfig(threshold=1e9))
    found = [
        alarm for step in range(8000) for alarm in watch.update({"s": random.normal(-0.3 if step < 4000 else 0.5)})
    ]
    assert found == [Alarm("s", True, "adwin")]


def test_after_an_alarm_it_is_quiet_and_counts() -> None:
    watch = DriftWatch(DriftConfig(warm_up=200))
    steps = [step for step in range(1000) if watch.update({"a": 1.0, "b": 0.0})]
    assert steps[0] >= 199 and np.diff(steps).min() >= 200
    assert watch.alarms == {"a": len(steps)}
    assert watch.last == {"a": steps[-1] + 1}


def test_signals_and_residuals_are_bounded() -> None:
    watch = DriftWatch(DriftConfig(warm_up=0))
    for number in range(200):
        watch.update({f"s{number}": 0.0})
    assert len(watch.state()["signals"]) == 64
    assert not any(watch.update({"s0": 1e9}) for _ in range(10))


def test_bad_settings_and_states_are_named() -> None:
    with pytest.raises(ValueError, match="threshold is -1"):
        DriftConfig(threshold=-1.0)
    watch = DriftWatch()
    watch.update({"a": 0.5})
    state = watch.state()
    state["signals"][0][-1] = "00"
    with pytest.raises(ValueError, match="adwin holds 1 bytes"):
        DriftWatch.from_state(state)
