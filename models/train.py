"""From a log of interactions to a release, once and for all. Knows nothing about streams, policies or files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from models.batches import InteractionLog, iterate
from models.features import FeatureSpace, ItemFeatures
from models.learner import Learner, TrainConfig, seeded
from models.release import Release

__all__ = ["Progress", "TrainConfig", "check_log", "train", "warm_up"]

Progress = Callable[[int, int, float], None]


def train(
    log: InteractionLog,
    ids: Sequence[str],
    features: ItemFeatures,
    config: TrainConfig | None = None,
    *,
    seed: int = 0,
    text_encoder: str = "",
    progress: Progress | None = None,
    device: str = "cpu",
) -> Release:
    """Train a release.

    Args:
        log: interactions; ``log.items`` are rows of ids and features.
        ids: n items. Those without an interaction are not in the release: they must not compete in training,
            where they could only lose, and so learn to be ranked last. They are served by their features.
        features: of the same n items.
        config: None for the default recipe.
        seed: two runs with one seed agree up to rounding.
        text_encoder: fingerprint of the encoder behind ``features.text``.
        progress: called after each epoch with (epoch from 1, epochs, mean loss).
        device: a torch device.

    Raises:
        ValueError: the log has no known item or one that is not in the list, or ids and features disagree.
    """
    config = config or TrainConfig()
    check_log(log, ids, features)
    known = np.unique(log.items[log.items >= 0])
    row = np.full(len(ids) + 1, -1)
    row[known] = np.arange(len(known))
    log, features = replace(log, items=row[log.items]), features.take(known)
    space = FeatureSpace.fit(features)
    learner = Learner(space.matrix(features), config, seed=seed, device=device)
    learner.count(log.items)
    loss = warm_up(learner, log, np.random.default_rng(seed), progress)
    users = len(np.unique(log.users))
    facts = {"events": len(log), "users": users, "epochs": config.epochs, "seed": seed, "loss": loss}
    arrays = learner.arrays(np.arange(len(known)))
    return Release(config.model, space, tuple(ids[at] for at in known), arrays, text_encoder, facts)


def check_log(log: InteractionLog, ids: Sequence[str], features: ItemFeatures) -> None:
    """Raises ValueError unless the log has a known item and none beyond the list."""
    if len(ids) != len(features):
        raise ValueError(f"train got {len(ids)} ids and features of {len(features)} items")
    largest = int(log.items.max(initial=-1))
    if not 0 <= largest < len(ids):
        raise ValueError(f"train: the largest item row in the log is {largest}, expected within 0..{len(ids) - 1}")


def warm_up(
    learner: Learner,
    log: InteractionLog,
    random: np.random.Generator,
    progress: Progress | None = None,
    *,
    epochs: range | None = None,
) -> float:
    """Epochs over a log whose items the learner has counted; the mean loss of the last one.

    epochs: numbers of those to go through now, of the configuration's, from 1; None: all of them.
    """
    config, loss = learner.config, float("nan")
    learner.set_learning_rate(config.learning_rate)
    competitors = learner.competitors()
    with seeded(int(random.integers(2**62)), learner.device):
        for epoch in epochs or range(1, config.epochs + 1):
            batches = iterate(log, 2 * config.model.window, config.batch_size, config.tie_shuffle, random)
            losses = [learner.step(batch, competitors, random) for batch in batches if batch.targets.any()]
            loss = float(np.mean(losses))
            if progress is not None:
                progress(epoch, config.epochs, loss)
    return loss
