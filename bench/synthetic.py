"""A made-up world to measure in: clustered items, a release trained on them, users with histories, Zipf events.

The same seed gives the same world. Knows nothing of Kafka or of what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models import sections
from models.batches import InteractionLog
from models.config import EvolutionConfig
from models.counts import Counts
from models.recent import RecentItems
from models.release import Release
from models.train import TrainConfig, train
from streams.contracts import ItemVector
from streams.state import EVENT, UserState, id_hash
from streams.world import features_of

Ints = NDArray[np.int64]

ENCODER = "synthetic"
TEXT_DIM = 64
ITEMS_PER_CLUSTER = 50
TRAINED_USERS, TRAINED_EVENTS = 200, 40
COUNTED_USERS, COUNTED_EVENTS = 2_000, 60
COUNTED_WEIGHT = 0.3
ZIPF = 0.6
MINUTE_MS = 60_000


@dataclass(frozen=True)
class Synthetic:
    """Items in clusters, and what a user of this world does next."""

    items: list[ItemVector]
    seed: int = 0

    @classmethod
    def of(cls, count: int, seed: int = 0) -> Synthetic:
        """`count` items: each lies around the centre of its cluster, as texts of one genre do."""
        random = np.random.default_rng(seed)
        cluster = np.arange(count) // ITEMS_PER_CLUSTER
        centres = random.standard_normal((cluster[-1] + 1, TEXT_DIM))
        vectors = (centres[cluster] + 0.7 * random.standard_normal((count, TEXT_DIM))).astype("<f4")
        items = [
            ItemVector(f"item-{at}", ENCODER, f"{at:016x}", vector.tobytes(), f"Title {at}", [f"c{cluster[at] % 20}"])
            for at, vector in enumerate(vectors)
        ]
        return cls(items, seed)

    def release(self, model: EvolutionConfig | None = None) -> Release:
        """A release trained for one short epoch: real weights, of whatever quality."""
        random = np.random.default_rng(self.seed + 1)
        count = TRAINED_USERS * TRAINED_EVENTS
        users = np.repeat(np.arange(TRAINED_USERS), TRAINED_EVENTS)
        log = InteractionLog(
            users,
            self._liked(users, random),
            MINUTE_MS * np.arange(count),
            np.zeros(count, np.uint8),
            np.ones(count, np.float32),
        )
        config = TrainConfig(model=model or EvolutionConfig(), epochs=1)
        ids = [item.item for item in self.items]
        return train(log, ids, features_of(self.items), config, seed=self.seed, text_encoder=ENCODER)

    def counted(self, release: Release) -> Release:
        """The release with counts of what many users did besides, and a blend that listens to everything alike."""
        random = np.random.default_rng(self.seed + 4)
        row = {item: at for at, item in enumerate(release.item_ids)}
        rows = np.array([row.get(item.item, -1) for item in self.items])
        counts = Counts(items=len(row))
        recent = RecentItems(counts.config.length)
        for at in range(COUNTED_EVENTS):
            users = random.permutation(COUNTED_USERS)
            items = rows[self._liked(users, random)]
            counts.learn(recent.follow(users, items, np.full(len(users), at * MINUTE_MS)).recent, items)
        arrays = release.arrays | counts.arrays()
        # As far as a learned blend goes: heavier ones make slates nearly certain, and their marginals dear.
        weights = [1.0 if feature == sections.MODEL else COUNTED_WEIGHT for feature in sections.features(arrays)]
        arrays["blend.weights"] = np.array([weights], np.float32)
        return replace(release, arrays=arrays, source=counts.config.source)

    def histories(self, users: int, most: int, until: int) -> list[UserState]:
        """A state for each user: 1 to `most` earlier events, one a minute up to `until` (ms)."""
        random = np.random.default_rng(self.seed + 2)
        hashes = np.frombuffer(b"".join(id_hash(item.item) for item in self.items), "<u8")
        states = []
        for user, size in enumerate(random.integers(1, most + 1, users).tolist()):
            ring = np.zeros(size, EVENT)
            ring["item"] = hashes[self._liked(np.full(size, user), random)]
            ring["time"] = until - MINUTE_MS * np.arange(size)[::-1]
            ring["weight"] = 1.0
            states.append(UserState(events=size, last_time=until, ring=ring.tobytes()))
        return states

    def events(self, users: Ints, at: int = 0) -> list[str]:
        """The item that each of these users takes next, `at` events after the start."""
        rows = self._liked(users, np.random.default_rng((self.seed, 3, at)))
        return [self.items[row].item for row in rows.tolist()]

    def _liked(self, users: Ints, random: np.random.Generator) -> Ints:
        """A row for each user: four times in five from the cluster that is his, else from anywhere."""
        clusters = -(-len(self.items) // ITEMS_PER_CLUSTER)
        own = (users % clusters) * ITEMS_PER_CLUSTER + random.integers(0, ITEMS_PER_CLUSTER, len(users))
        anywhere = random.integers(0, len(self.items), len(users))
        liked: Ints = np.where(random.random(len(users)) < 0.8, np.minimum(own, len(self.items) - 1), anywhere)
        return liked


def zipf_users(users: int, count: int, random: np.random.Generator) -> Ints:
    """`count` users, some much more active than others: rank r with probability ∝ r^-ZIPF."""
    weight = np.arange(1, users + 1) ** -ZIPF
    return random.choice(users, count, p=weight / weight.sum())


def distinct_zipf_users(users: int, count: int, random: np.random.Generator) -> Ints:
    """As `zipf_users`, nobody twice."""
    weight = np.arange(1, users + 1) ** -ZIPF
    return random.choice(users, count, replace=False, p=weight / weight.sum())
