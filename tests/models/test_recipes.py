"""Recipes are whole and can be kept; the one for sessions learns on ids alone that people come back."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from models.batches import InteractionLog
from models.blend import Blend, total
from models.config import EvolutionConfig
from models.cooccurrence import ServingCounts
from models.features import ItemFeatures
from models.online import OnlineTrainer
from models.online_config import OnlineConfig, config_of
from models.recipes import RECIPES, sessions
from models.release import Release

ITEMS = 40


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_comes_back_from_json_as_it_was(name: str) -> None:
    recipe = RECIPES[name](3, 7)
    assert recipe.training.epochs == 7
    assert recipe.training.model.layers == 3
    assert config_of(json.loads(json.dumps(asdict(recipe)))) == recipe


def visits(sessions: int, seed: int = 0) -> InteractionLog:
    """Visits a, b, a, c: each goes back to its first item, which is any; the other two are any, too."""
    random = np.random.default_rng(seed)
    first, second, last = random.integers(0, ITEMS, (3, sessions))
    items = np.stack([first, second, first, last], axis=1).ravel()
    n = len(items)
    users = np.repeat(np.arange(sessions), 4)
    return InteractionLog(users, items, 1000 * np.arange(n), np.zeros(n, np.uint8), np.ones(n, np.float32))


def small() -> OnlineConfig:
    config = sessions()
    model = EvolutionConfig(dim=8, layers=2, heads=1, window=4, hidden=8)
    training = replace(config.training, model=model, epochs=1, negatives=16)
    return replace(config, training=training, steps=1, recent=4, replayed=4, horizon=None, round_events=64)


@pytest.fixture(scope="module")
def release() -> Release:
    features = ItemFeatures(np.zeros((ITEMS, 0), np.float32), [()] * ITEMS, np.zeros(ITEMS, np.int64))
    trainer = OnlineTrainer(visits(600), [str(item) for item in range(ITEMS)], features, small(), seed=1)
    for seed in range(1, 5):
        trainer.learn(visits(150, seed))
    return trainer.release()


def test_where_people_come_back_the_item_before_the_last_is_offered_and_ranked_first(release: Release) -> None:
    counts, blend = ServingCounts(release.arrays, release.source), Blend(release.arrays)
    recent = np.full((ITEMS, counts.length), -1)
    recent[:, 0], recent[:, 1] = (np.arange(ITEMS) + 7) % ITEMS, np.arange(ITEMS)
    nobody = np.empty(0, np.int64)
    rows = counts.candidates(recent, 10, (nobody, nobody), np.ones(ITEMS, np.bool_))
    sums = counts.sums(recent, rows)
    columns = {name: known[rows] for name, known in counts.columns.items()}
    at = blend.contexts(np.full(ITEMS, 2), np.ones(ITEMS, np.float32), recent)
    model = np.where(rows >= 0, np.float32(0), np.float32(-np.inf))
    best = rows[np.arange(ITEMS), total(blend.terms(model, sums, columns, at)).argmax(axis=1)]
    assert (best == np.arange(ITEMS)).mean() > 0.9


def test_items_are_told_apart_by_their_ids(release: Release) -> None:
    residual = release.arrays["tower.residual"]
    assert len(residual) == ITEMS
    assert np.linalg.matrix_rank(residual) == release.config.dim
