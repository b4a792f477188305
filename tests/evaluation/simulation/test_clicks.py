"""Click models: what is drawn is what the closed form says, and each item and place keeps its luck."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from evaluation.simulation.clicks import MODELS, Cascade, ClickModel, PositionBased, Trust

RELEVANCE = np.array([0.8, 0.1, 0.5, 0.3])


@pytest.mark.parametrize("name", sorted(MODELS))
def test_draws_have_the_expected_rate_at_every_position(name: str) -> None:
    random, n = np.random.default_rng(1), 60_000
    shown = np.broadcast_to(RELEVANCE, (n, 4))
    model = MODELS[name]
    _, wanted = model.draw(shown, random.random((n, 4)), random.random((n, 4)))
    assert np.abs(wanted.mean(axis=0) - model.expected(RELEVANCE[None])[0]).max() < 0.006  # 3 standard errors


def test_cascade_by_enumeration() -> None:
    """All 2^4 outcomes of who wants what: the sum of their probabilities, worked through one place at a time."""
    model, expected = Cascade(0.4, 0.9), np.zeros(4)
    for wants in itertools.product((False, True), repeat=4):
        probability = np.prod([r if want else 1 - r for r, want in zip(RELEVANCE, wants, strict=True)])
        reached = 1.0
        for place, want in enumerate(wants):
            expected[place] += probability * reached * want
            reached *= 0.4 if want else 0.9
    assert model.expected(RELEVANCE[None])[0] == pytest.approx(expected, abs=1e-12)


def test_trust_clicks_more_than_is_wanted_and_most_at_the_top() -> None:
    random, n = np.random.default_rng(2), 60_000
    shown = np.full((n, 3), 0.2)
    clicks, wanted = Trust(1.0, 0.5, 1.0).draw(shown, random.random((n, 3)), random.random((n, 3)))
    # η_k (r + (1 − r) ε_k), and of it η_k r wanted
    eta, mistaken = 1 / np.arange(1, 4), 0.5 / np.arange(1, 4)
    assert np.abs(clicks.mean(axis=0) - eta * (0.2 + 0.8 * mistaken)).max() < 0.006
    assert np.abs(wanted.mean(axis=0) - eta * 0.2).max() < 0.006
    assert not (wanted & ~clicks).any()


@pytest.mark.parametrize("model", [PositionBased(), Cascade(), Trust()])
def test_by_falling_relevance_is_the_best_order(model: ClickModel) -> None:
    """The oracle sorts: no other order of the same items earns more."""
    orders = np.array(list(itertools.permutations(RELEVANCE)))
    value = model.expected(orders).sum(axis=1)
    assert orders[value.argmax()].tolist() == sorted(RELEVANCE, reverse=True)


def test_an_item_that_moves_up_keeps_its_luck() -> None:
    """The same numbers: who clicked an item at the third place, having looked everywhere, clicks it at the first."""
    random, n = np.random.default_rng(3), 2000
    looks, wants = random.random((n, 3)), random.random((n, 3))
    shown = np.broadcast_to(np.array([0.2, 0.4, 0.6]), (n, 3))
    low, _ = PositionBased().draw(shown, looks, wants)
    high, _ = PositionBased().draw(shown[:, ::-1], looks, wants[:, ::-1])
    assert low[:, 2].sum() > 100
    assert high[low[:, 2], 0].all()
