"""Estimators of slates: by exact expectations over all slates of a small world, so that unbiased means exactly."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from evaluation.ope import slates
from policy import mixture

C, K = 5, 3
SLATES = np.array(list(permutations(range(C), K)))
RANDOM = np.random.default_rng(0)
LOGGING, TARGET = RANDOM.standard_normal((2, 1, C))
EPSILON = 0.2


def probabilities(logits: np.ndarray, temperature: float, epsilon: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every slate: the conditionals' running products [S, K], the marginals at its positions [S, K], all [C, K]."""
    rows = np.broadcast_to(logits, (len(SLATES), C))
    conditional, _ = mixture.chain(rows, SLATES, temperature, epsilon)
    position, _ = mixture.marginals(logits, K, temperature, epsilon)
    return np.cumprod(conditional, axis=1), position[0][SLATES, np.arange(K)], position[0]


P_PREFIX, P_MARGINAL, _ = probabilities(LOGGING, 0.8, EPSILON)
T_PREFIX, T_MARGINAL, T_ALL = probabilities(TARGET, 0.6, 0.05)
PREFIX, WEIGHT = T_PREFIX / P_PREFIX, T_MARGINAL / P_MARGINAL
LOGGED, WANTED = P_PREFIX[:, -1], T_PREFIX[:, -1]  # probability of each slate under either policy


def rewards(kind: str) -> np.ndarray:
    """[S, K] expected rewards that depend on the item at the position, on those up to it, or on all."""
    random = np.random.default_rng(3)
    own = random.random((C, K))[SLATES, np.arange(K)]
    before = np.cumsum(random.random(C)[SLATES], axis=1)
    return {"position": own, "cascade": own * before, "slate": own * before[:, -1:]}[kind]


def expectation(ratio_numerator: np.ndarray) -> float:
    """Of a contribution [S, J] when slates come from the logging policy."""
    return float(LOGGED @ ratio_numerator.sum(axis=1))


def unbiased(name: str, kind: str) -> bool:
    reward, model = rewards(kind), np.random.default_rng(4).random((C, K))
    predicted, expected = model[SLATES, np.arange(K)], np.broadcast_to((T_ALL * model).sum(axis=0), (len(SLATES), K))
    contributions = {
        "position_ips": lambda: slates.position_ips(WEIGHT, reward),
        "position_dr": lambda: slates.position_dr(WEIGHT, reward, predicted, expected),
        "cascade_ips": lambda: slates.cascade_ips(PREFIX, reward),
        "cascade_dr": lambda: slates.cascade_dr(PREFIX, reward, predicted, conditional(model), expected),
        "slate_ips": lambda: slates.slate_ips(PREFIX, reward),
    }
    value = float(WANTED @ reward.sum(axis=1))
    return expectation(contributions[name]().numerator) == pytest.approx(value, abs=1e-9)


def conditional(model: np.ndarray) -> np.ndarray:
    """[S, K] mean of the model over the target's next item given those before, by enumeration."""
    found = np.zeros((len(SLATES), K))
    for row, slate in enumerate(SLATES):
        for k in range(K):
            same = (SLATES[:, :k] == slate[:k]).all(axis=1)
            found[row, k] = (WANTED[same] @ model[SLATES[same, k], k]) / WANTED[same].sum()
    return found


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("position_ips", ["position"], ["cascade", "slate"]),
        ("position_dr", ["position"], ["cascade", "slate"]),
        ("cascade_ips", ["position", "cascade"], ["slate"]),
        ("cascade_dr", ["position", "cascade"], ["slate"]),
        ("slate_ips", ["position", "cascade", "slate"], []),
    ],
)
def test_each_is_unbiased_where_its_assumption_holds_and_not_where_it_does_not(
    name: str, right: list[str], wrong: list[str]
) -> None:
    assert [kind for kind in ("position", "cascade", "slate") if unbiased(name, kind)] == right
    assert len(right) + len(wrong) == 3


def test_a_weaker_assumption_costs_variance_and_a_model_saves_some() -> None:
    reward = rewards("position")

    def variance(ratio_numerator: np.ndarray) -> float:
        total = ratio_numerator.sum(axis=1)
        return float(LOGGED @ total**2 - (LOGGED @ total) ** 2)

    position = variance(slates.position_ips(WEIGHT, reward).numerator)
    cascade = variance(slates.cascade_ips(PREFIX, reward).numerator)
    whole = variance(slates.slate_ips(PREFIX, reward).numerator)
    assert position < cascade < whole
    model = np.random.default_rng(3).random((C, K))  # the true one
    predicted, expected = model[SLATES, np.arange(K)], np.broadcast_to((T_ALL * model).sum(axis=0), (len(SLATES), K))
    robust = variance(slates.cascade_dr(PREFIX, reward, predicted, conditional(model), expected).numerator)
    assert robust < 0.2 * cascade


def test_self_normalised_ones_are_ratios_by_position() -> None:
    reward = rewards("cascade")
    assert slates.position_snips(WEIGHT, reward).value == pytest.approx(
        sum((WEIGHT[:, k] @ reward[:, k]) / WEIGHT[:, k].sum() for k in range(K))
    )
    assert slates.cascade_snips(PREFIX, reward).value == pytest.approx(
        sum((PREFIX[:, k] @ reward[:, k]) / PREFIX[:, k].sum() for k in range(K))
    )
    assert slates.slate_snips(PREFIX, reward).value == pytest.approx(
        (PREFIX[:, -1] @ reward.sum(axis=1)) / PREFIX[:, -1].sum()
    )
