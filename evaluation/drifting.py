"""Streams whose drift is known: what every user's taste is at every moment, past and to come. Seeded.

Each user has a topic that his events are about, but for a tenth of them, which are about any. In a ``weekly`` stream it
is one topic from Monday to Friday (UTC) and another on Saturday and Sunday; in a ``trending`` one it moves at constant
speed to the next topic and on to the one after it, and so on, all round. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.stream import EventStream
from models.baselines import Float64
from models.config import Float32
from models.features import ItemFeatures

DAY_MS = 86_400_000
START_MS = 1_700_438_400_000  # a Monday, 00:00 UTC
NOISE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Drifting:
    """A stream, its items' features, and the truth: [t] shares of the topics for a user at a time, ms."""

    stream: EventStream
    features: ItemFeatures
    truth: Callable[[int, int], Float32]


def drifting(
    kind: Literal["weekly", "trending"],
    *,
    users: int = 40,
    days: int = 42,
    events_a_day: float = 6.0,
    topics: int = 6,
    items_a_topic: int = 8,
    days_a_topic: float = 10.0,
    seed: int = 0,
) -> Drifting:
    """Make a stream of about users × days × events_a_day events; ``days_a_topic``: how long a trend takes."""
    random = np.random.default_rng(seed)
    start, other = random.integers(0, topics, users), random.integers(1, topics, users)
    phase = random.uniform(0, topics, users)

    def truth(user: int, time_ms: int) -> Float32:
        days_in = (time_ms - START_MS) / DAY_MS
        clear = np.zeros(topics, np.float32)
        if kind == "weekly":
            clear[(start[user] + (other[user] if days_in % 7 >= 5 else 0)) % topics] = 1
        else:
            place = (phase[user] + days_in / days_a_topic) % topics
            clear[int(place)], clear[(int(place) + 1) % topics] = 1 - place % 1, place % 1
        shares: Float32 = ((1 - NOISE) * clear + NOISE / topics).astype(np.float32)
        return shares

    count = round(users * days * events_a_day)
    times = np.sort(START_MS + random.integers(0, days * DAY_MS, count))
    whose = random.integers(0, users, count)
    chosen = np.array(
        [random.choice(topics, p=_exact(truth(u, t))) for u, t in zip(whose.tolist(), times.tolist(), strict=True)]
    )
    items = chosen * items_a_topic + random.integers(0, items_a_topic, count)
    size = topics * items_a_topic
    stream = EventStream(
        whose,
        items,
        times,
        np.zeros(count, np.uint8),
        np.ones(count, np.float32),
        [f"u{at}" for at in range(users)],
        [f"i{at}" for at in range(size)],
        listed=size,
    )
    names = [[f"topic {at // items_a_topic:02d}"] for at in range(size)]
    return Drifting(stream, ItemFeatures(np.zeros((size, 0), np.float32), names, np.zeros(size, np.int64)), truth)


def _exact(shares: Float32) -> Float64:
    exact: Float64 = shares.astype(np.float64) / shares.sum(dtype=np.float64)
    return exact
