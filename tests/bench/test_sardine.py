"""SARDINE as a world: its relevance is SARDINE's own, slates reach it as they are, and luck is seeded alike."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.sardine import SardineStudy, SardineWorld
from evaluation.simulation.loop import run
from evaluation.simulation.references import Oracle, Random


class Stub:
    """What the adapter uses of a SARDINE environment: users want items of their topic, and tire of it at once."""

    slate_size, alpha, max_score, offset, slope, rel_penalty = 3, 0.9, 1.0, 0.5, 10.0, True
    diversity_threshold, diversity_penalty = 3, 2.0
    item_embedd = np.eye(4)[np.arange(20) % 4]
    item_comp = np.arange(20) % 4
    propensities = 0.85 ** np.arange(3)

    def reset(self, seed: int) -> None:
        self.random, self.shown = np.random.default_rng(seed), list[list[int]]()
        self.cur_user_embedd = np.eye(4)[seed % 4]
        self.bored = np.zeros(4, np.bool_)

    def step(self, slate: np.ndarray) -> tuple[Any, ...]:
        self.shown.append(slate.tolist())
        clicks = (self.random.random(3) < self.probability(slate)).astype(int)
        self.bored[:1] = clicks.any()
        return None, clicks.sum(), False, False, {"clicks": clicks}

    def probability(self, slate: np.ndarray) -> np.ndarray:
        relevance = 1 / (1 + np.exp(-10 * (self.item_embedd[slate] @ self.cur_user_embedd - 0.5)))
        relevance = relevance * 0.5 ** self.bored.sum()
        same = np.bincount(self.item_comp[slate]).max() >= 3
        return 0.9 * relevance / (2.0 if same else 1.0) * self.propensities


def world(seed: int = 1) -> SardineWorld:
    return SardineWorld(Stub, 6, 8, 2, seed)


def test_a_slates_worth_is_the_sum_of_its_click_probabilities() -> None:
    played, random = world(), np.random.default_rng(0)
    users = played.begin()
    for _ in range(4):
        slates = np.stack([random.choice(20, 3, replace=False) for _ in users])
        expected = [env.probability(slate).sum() for env, slate in zip(played._envs, slates, strict=True)]
        assert played.value(users, slates) == pytest.approx(expected)
        response = played.show(users, slates)
        assert response.reward == pytest.approx(expected)
        assert [env.shown[-1] for env in played._envs] == slates.tolist()


def test_history_is_what_was_clicked_of_random_slates() -> None:
    played = world()
    users, items = played.history()
    assert len(users) > 0
    shown = [{item for slate in env.shown for item in slate} for env in played._envs]
    assert all(item in shown[user] for user, item in zip(users.tolist(), items.tolist(), strict=True))
    assert np.array_equal(items, world().history()[1])
    assert not np.array_equal(items, world(2).history()[1])


def test_arms_can_be_let_loose_in_it() -> None:
    one, other = world(), world()
    random, oracle = run(one, Random(one, 1), 20), run(other, Oracle(other, 1), 20)
    assert random.slates == oracle.slates == 48
    assert oracle.reward > 1.2 * random.reward


def test_sardines_own_relevance() -> None:
    """Against the real thing, where it is installed: `pip install '.[sardine]'`."""
    pytest.importorskip("sardine")
    played = SardineStudy("SlateTopK-Uncertain-v0", (1,), ("random",), 5, 4, 1).environment(1)
    users, random = played.begin(), np.random.default_rng(0)
    for _ in range(6):
        slates = np.stack([random.choice(1000, 10, replace=False) for _ in users])
        ours = played.relevance(users)
        for row, env in enumerate(played._envs):
            told = SimpleNamespace(**env.step(slates[row])[4])
            assert ours[row, slates[row]] == pytest.approx(told.relevances)
