"""How fast a user's taste moves: the way of his vector per day, as an angle and by topic. NumPy; for whoever watches.

Knows nothing of where vectors come from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.config import Float32, Int64

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """Of B users.

    Attributes:
        degrees: [B] angle between the two directions, per day.
        topics: [B, t] by how much a topic's cosine with the direction rose (fell, where negative), per day.
    """

    degrees: Float32
    topics: Float32


def drift(before: Float32, after: Float32, elapsed_ms: Int64, axes: Float32) -> Drift:
    """The movement from one user vector to a later one.

    Args:
        before, after: [B, d + 1] user vectors, or [B, d + 1] of anything that starts with their d numbers.
        elapsed_ms: [B] time between them. Less than an hour counts as an hour: the jump of a single event says
            nothing of a day.
        axes: [t, d] unit vectors of the topics, as `topic_axes` makes them.

    Raises:
        ValueError: a time is negative, or there are not as many of everything.
    """
    if not len(before) == len(after) == len(elapsed_ms):
        raise ValueError(f"drift got {len(before)} and {len(after)} vectors and {len(elapsed_ms)} times")
    if len(elapsed_ms) and elapsed_ms.min() < 0:
        raise ValueError(f"drift: a time is {elapsed_ms.min()} ms, expected not below 0")
    days = np.maximum(elapsed_ms / DAY_MS, 1 / 24).astype(np.float32)
    first, then = _unit(before[:, : axes.shape[1]]), _unit(after[:, : axes.shape[1]])
    # The angle from the chord: exact for small ones, where an arc cosine is not.
    chord = np.linalg.norm(then - first, axis=1)
    degrees = np.degrees(2 * np.arcsin(np.minimum(chord / 2, 1))) / days
    return Drift(degrees.astype(np.float32), ((then - first) @ axes.T / days[:, None]).astype(np.float32))


def topic_axes(items: Float32, shares: Float32) -> Float32:
    """[t, d] where topics lie: the mean of their items, less that of all; zeros for a topic without any.

    Args:
        items: [n, d] unit vectors.
        shares: [n, t] topics of each, as in models/horizon.py.
    """
    weight = shares.sum(axis=0)[:, None]
    mean = shares.T @ items / np.maximum(weight, np.float32(1e-9))
    return np.where(weight > 0, _unit(mean - items.mean(axis=0)), np.float32(0)).astype(np.float32)


def _unit(vectors: Float32) -> Float32:
    unit: Float32 = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    return unit
