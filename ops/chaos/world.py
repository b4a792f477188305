"""A made-up world: items in clusters with vectors of a made-up encoder, and releases trained on them for a moment.

The same seed gives the same world. Knows nothing of Kafka or of what goes wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streams.contracts import ItemVector

if TYPE_CHECKING:
    from models.release import Release

ENCODER = "chaos"
ITEMS, PER_CLUSTER = 400, 20
CLUSTERS = ITEMS // PER_CLUSTER
HISTORY = 40  # events that the release needs of a user: layers × window
_TEXT_DIM = 16
_TRAINED_USERS, _TRAINED_EVENTS = 120, 15


def catalogue(seed: int) -> list[ItemVector]:
    """The items: `i0`, `i1`, …; consecutive ones are alike."""
    random = np.random.default_rng((seed, 1))
    centres = random.standard_normal((CLUSTERS, _TEXT_DIM))
    items = []
    for number in range(ITEMS):
        cluster = number // PER_CLUSTER
        vector = (centres[cluster] + 0.5 * random.standard_normal(_TEXT_DIM)).astype("<f4").tobytes()
        items.append(ItemVector(f"i{number}", ENCODER, f"{number:016x}", vector, f"Item {number}", [f"c{cluster}"]))
    return items


def train_releases(items: list[ItemVector], seed: int, folder: Path) -> list[Path]:
    """Train two releases that rank differently, and save each in a folder of its own under `folder`."""
    return [_release(items, number).save(folder) for number in (2 * seed, 2 * seed + 1)]


def _release(items: list[ItemVector], seed: int) -> Release:
    import torch  # which takes seconds

    from models.batches import InteractionLog
    from models.config import EvolutionConfig
    from models.train import TrainConfig, train
    from streams.world import features_of

    torch.set_num_threads(1)  # more would wait for each other on models as small as this
    random = np.random.default_rng((seed, 2))
    users = np.repeat(np.arange(_TRAINED_USERS), _TRAINED_EVENTS)
    rows = (users % CLUSTERS) * PER_CLUSTER + random.integers(0, PER_CLUSTER, len(users))
    count = len(users)
    log = InteractionLog(users, rows, 60_000 * np.arange(count), np.zeros(count, np.uint8), np.ones(count, np.float32))
    config = TrainConfig(model=EvolutionConfig(dim=16, layers=2, heads=2, window=HISTORY // 2), epochs=2)
    return train(log, [item.item for item in items], features_of(items), config, seed=seed, text_encoder=ENCODER)
