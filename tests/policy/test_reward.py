"""The reward model undoes positions, and its pseudo-reward is right when either half of it is."""

from __future__ import annotations

import numpy as np
import pytest

from policy.reward import RewardModel, pseudo_reward

ETA = 1 / np.arange(1, 7.0)
ITEMS = [f"item{number}" for number in range(12)]
TRUTH = np.linspace(0.1, 0.9, 12)


def trained(*, corrected: bool = True, slates: int = 4000) -> RewardModel:
    """The worst items are shown first, in most slates."""
    random, model = np.random.default_rng(1), RewardModel(bits=10)
    for _ in range(slates):
        order = np.argsort(TRUTH + random.normal(0, 0.3, 12))[:6]
        clicks = random.random(6) < ETA * TRUTH[order]
        features = model.features("new", [ITEMS[item] for item in order])
        model.learn(features, clicks, ETA if corrected else np.ones(6))
    return model


def test_it_knows_what_an_item_is_worth_wherever_it_was_shown() -> None:
    found = [model.predict(model.features("new", ITEMS)) for model in (trained(), trained(corrected=False))]
    assert np.abs(found[0] - TRUTH)[:9].max() < 0.06  # the best three are hardly ever shown
    assert np.abs(found[1] - TRUTH)[:9].max() > 0.2  # without η


def test_an_item_that_is_new_to_a_segment_is_what_it_is_to_others() -> None:
    model = trained()
    assert model.predict(model.features("other", ["item2"])) < model.predict(model.features("other", ["item8"]))


@pytest.mark.parametrize("wrong", ["reward", "inclusion", "both"])
def test_the_pseudo_reward_is_right_when_r_or_pi_is(wrong: str) -> None:
    """Over everything that was shown, and r̂ for what was not: the mean is the mean reward."""
    random, n = np.random.default_rng(2), 400_000
    truth = random.uniform(0.1, 0.9, n)
    inclusion, eta = np.where(truth > 0.5, 0.8, 0.2), random.choice(ETA, n)
    shown = random.random(n) < inclusion
    clicks = shown & (random.random(n) < eta * truth)
    reward = truth if wrong == "inclusion" else np.full(n, 0.2)
    assumed = inclusion if wrong == "reward" else np.full(n, 0.5)
    labels = np.where(shown, pseudo_reward(reward, clicks, eta, assumed), reward)
    error = abs(labels.mean() - truth.mean())
    assert error > 0.05 if wrong == "both" else error < 0.01


def test_weights_and_examination_are_bounded() -> None:
    one, certain = np.ones(1), np.ones(1, bool)
    reward = np.array([0.3])
    assert pseudo_reward(reward, certain, one, np.array([1e-12])) == pytest.approx(0.3 + 10 * 0.7)
    assert pseudo_reward(reward, certain, one, np.array([1e-12]), largest=20.0) == pytest.approx(0.3 + 20 * 0.7)
    assert pseudo_reward(reward, certain, one * 1e-6, one) == pytest.approx(0.3 + 20 - 0.3)
    assert pseudo_reward(reward, ~certain, one, one) == pytest.approx(0.0)


def test_bad_input_is_named() -> None:
    model = RewardModel(bits=4)
    features = model.features("a", ["x"])
    with pytest.raises(ValueError, match=r"examination is 0\.0"):
        model.learn(features, np.ones(1, bool), np.zeros(1))
    with pytest.raises(ValueError, match="bucket is 3 to 16"):
        RewardModel.from_state(model.state() | {"bucket": [3, 16], "weight": [0.0] * 2, "information": [0.0] * 2})
    with pytest.raises(ValueError, match="shapes"):
        RewardModel.from_state(model.state() | {"bucket": [3]})
    with pytest.raises(ValueError, match="memory is 0"):
        RewardModel(memory=0)
