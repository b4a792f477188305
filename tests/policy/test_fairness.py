"""The controller: what it aims at, that its loop closes, and the three bounds that it keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from policy.fairness import FairnessConfig, Steering, held_out, measured_cost, steer
from policy.group_rates import GroupRates

ITEMS = {"a": ["Action", "War"], "b": ["Drama"]}


def known(
    share: float, merits: tuple[float, float], slates: float = 1e6, age: float = 0.0, user: str = "u"
) -> GroupRates:
    """Rates of one user group: group a had `share` of the exposure, and as many candidates as b."""
    rates = GroupRates()
    rates.users, rates.items = [user], ["a", "b"]
    weight = slates * np.array([10.0, 10.0])
    pairs = [slates * np.array([share, 1 - share]), weight, weight, weight * merits, slates * np.array([20, 20])]
    rates.pairs, rates.slates, rates.age = np.array(pairs)[:, None], np.array([slates]), age * slates
    return rates


def arms(alone: float, steered: float, slates: float = 1000.0, spread: float = 1.0) -> np.ndarray:
    """Sums of two arms with so many slates, mean clicks, and standard deviation of these."""
    means = np.array([alone, steered])
    rows = [np.full(2, slates), slates * means, np.full(2, slates), slates * means, slates * (means**2 + spread**2)]
    return np.array(rows).T


def term(steering: Steering) -> list[float]:
    return steering.term[0].tolist()


def test_exposure_is_to_be_in_proportion_to_candidates_times_merit() -> None:
    config = FairnessConfig(ITEMS, gain=2.0)
    found = steer(config, known(0.5, (0.1, 0.3)))
    assert found.target[0].tolist() == pytest.approx([0.25, 0.75], abs=1e-3)
    assert term(found) == pytest.approx([-0.5, 0.5], abs=5e-3)
    assert steer(FairnessConfig(ITEMS, gain=2.0, target="parity"), known(0.5, (0.1, 0.3))).term.tolist() == [[0, 0]]


def test_groups_of_users_have_terms_of_their_own_and_others_none() -> None:
    config = FairnessConfig(ITEMS, users=("u", "v"))
    found = steer(config, known(0.5, (0.1, 0.3)))
    assert found.term[0, 1] > 0
    assert found.term[1].tolist() == [0, 0]
    assert (config.user_group("v"), config.user_group("w"), config.user_group(None)) == (1, -1, -1)
    assert FairnessConfig(ITEMS).user_group("whoever") == 0


def test_a_term_is_bounded_and_nothing_known_is_no_term() -> None:
    config = FairnessConfig(ITEMS, gain=1000.0, bound=0.7)
    assert term(steer(config, known(1.0, (0.1, 0.3)))) == [-0.7, 0.7]
    assert term(steer(config, GroupRates())) == [0, 0]
    few = steer(config, known(1.0, (0.1, 0.3), slates=2.0))
    assert few.trust[0] < 0.01


def test_a_merit_that_is_hardly_known_is_the_mean_of_its_users() -> None:
    rates = known(0.5, (0.4, 0.4))
    rates.pairs[1:4, 0, 1] = 1.0, 1.0, 0.0  # one item shown, not clicked
    assert steer(FairnessConfig(ITEMS), rates).merit[0, 1] == pytest.approx(0.4, rel=0.03)


def simulated(gain: float, delay: int, slates: int = 6000, honest: bool = True) -> np.ndarray:
    """Share of group a, slate by slate, under its term: the ranking gives .9 of the exposure, its merit half."""
    rates, shares, waiting = GroupRates(half_life=2000), [], []
    rates.users, rates.items = ["u"], ["a", "b"]
    rates.pairs, rates.slates = np.zeros((5, 1, 2)), np.zeros(1)
    config = FairnessConfig(ITEMS, gain=gain, bound=4.0)
    for at in range(slates):
        if at % 20 == 0:
            lead = steer(config, rates).term[0] @ np.array([1, -1])
        share = 1 / (1 + np.exp(-(np.log(9) + lead / 0.35)))
        shares.append(share)
        waiting.append(share)
        if len(waiting) > delay:
            then = waiting.pop(0)
            rates.forget(0.5 ** (1 / 2000))
            rates.pairs[:, 0] += [[then, 1 - then], [5, 5], [5, 5], [1, 1], [20, 20]]
            rates.slates += 1
            rates.age += delay if honest else 0
    return np.array(shares)


def test_the_loop_closes() -> None:
    shares = simulated(gain=50.0, delay=50)
    assert shares[0] == pytest.approx(0.9)
    assert shares[-1000:].mean() == pytest.approx(0.5, abs=0.02)
    assert np.ptp(shares[-1000:]) < 0.02


def test_with_a_long_delay_the_loop_is_calm_for_its_gain_is_lowered() -> None:
    assert np.ptp(simulated(gain=50.0, delay=600)[-2000:]) < 0.1
    assert np.ptp(simulated(gain=50.0, delay=600, honest=False)[-2000:]) > 0.5  # it would swing


def test_cost_is_what_is_clicked_less_than_on_slates_left_alone() -> None:
    cost, error = measured_cost(arms(2.0, 1.9)) or (0, 0)
    assert cost == pytest.approx(0.05)
    assert error == pytest.approx(np.sqrt((1 + 0.95**2) / 1000) / 2, rel=1e-3)
    assert measured_cost(GroupRates().arms) is None
    assert measured_cost(arms(2.0, 1.9, slates=1.0)) is None


def test_the_interval_of_the_cost_covers_the_truth() -> None:
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(300):
        drawn = random.poisson((1.0, 0.9), (400, 2)).astype(float)
        sums = np.array([[400, x.sum(), 400, x.sum(), (x * x).sum()] for x in drawn.T])
        cost, error = measured_cost(sums) or (0, 0)
        covered += abs(cost - 0.1) <= 1.96 * error
    assert 0.91 * 300 <= covered <= 0.985 * 300


def test_what_may_be_given_up_is_not_exceeded() -> None:
    config, rates = FairnessConfig(ITEMS, max_cost=0.05), known(0.9, (0.2, 0.2))
    strengths = []
    for steered in (2.1, 2.0, 1.93, 1.91, 1.89):
        rates.arms = arms(2.0, steered, slates=1e8)
        strengths.append(steer(config, rates).strength)
    assert strengths == pytest.approx([1, 1, 1, 0.5, 0], abs=1e-2)
    rates.arms = arms(2.0, 1.89, slates=100)  # may well be chance
    assert steer(config, rates).strength == 1
    rates.arms = arms(2.0, 1.0)
    assert steer(config, rates).term.tolist() == [[0, 0]]


def test_the_share_held_out_belongs_to_the_event() -> None:
    offsets = np.arange(20_000)
    chosen = held_out(0.05, 7, 3, offsets)
    assert chosen.mean() == pytest.approx(0.05, abs=0.006)
    np.testing.assert_array_equal(held_out(0.05, 7, 3, offsets[500:600]), chosen[500:600])
    assert (held_out(0.05, 8, 3, offsets) != chosen).any()
    assert not held_out(0.0, 7, 3, offsets).any()


def test_an_item_is_of_the_first_group_that_has_one_of_its_categories() -> None:
    config = FairnessConfig(ITEMS)
    assert [config.item_group(one) for one in (["Drama"], ["War", "Drama"], ["Drama", "War"], ["Noir"], [])] == [
        1,
        0,
        0,
        -1,
        -1,
    ]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "items is None, expected a table"),
        ({"items": {"a": ["x"]}}, "items names 1 groups, expected 2 to 32"),
        ({"items": {"a": ["x"], "b": ["x"]}}, "items.b has the category 'x'"),
        ({"items": {"a": "x", "b": ["y"]}}, "items.a is 'x', expected a list"),
        ({"items": {"a": [1], "b": ["y"]}}, "items.a"),
        ({"items": ITEMS, "users": "f"}, "users is 'f', expected a list"),
        ({"items": ITEMS, "users": ["f", "f"]}, "users names a group twice"),
        ({"items": ITEMS, "users": ["x" * 65]}, "1 to 64 characters"),
        ({"items": ITEMS, "target": "equal"}, "target is 'equal', expected merit or parity"),
        ({"items": ITEMS, "gain": -1}, "gain is -1, expected a number from 0 to 1000"),
        ({"items": ITEMS, "bound": "1"}, "bound is '1'"),
        ({"items": ITEMS, "max_cost": True}, "max_cost"),
        ({"items": ITEMS, "holdout": 0.6}, "holdout is 0.6, expected a number from 0 to 0.5"),
        ({"items": ITEMS, "gains": 1}, "gains is not known here"),
    ],
)
def test_a_bad_table_is_named(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FairnessConfig.of(table)
