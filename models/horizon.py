"""The user vector at a later time: what a hidden state becomes `ahead` of the event that it follows. NumPy, serving.

The next event is predicted by the hidden state itself; what comes in a day or a week is not what comes next. A small
head moves the direction of the state (a shift that all users share, and one that depends on the state, on how far
ahead, and on the hour and the weekday of the two moments), and says how sharp the taste is then, and how much
popularity counts. How far ahead is log2 of seconds, interpolated between whole numbers. At 0 the vector is the
ordinary one, to the byte, and it moves off from there without a jump.

Topics are categories of items. What share each will have is a mixture, with weights that depend on how far ahead, of
three views: the items that the vector speaks for, the user's own events, everybody's events.

Section ``horizon.*`` of a release, all float32; d of the model, h free, t topics as in ``FeatureSpace.vocabulary``,
see `shapes`. Knows nothing of training, catalogues or messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from models.attention import unit
from models.config import Float32, Int64

PREFIX = "horizon."
BUCKETS = 28
"""Whole numbers of log2 seconds: the last stands for four years and more."""
RAMP = 6
"""log2 of the seconds within which the head sets in: no pair nearer than a minute is learned from."""
CALENDAR = 16
"""Columns of `calendar`: eight for each of two moments."""
VIEWS = ("items", "own", "everybody")

OWN_DECAY = np.float32(0.98)
OWN_PRIOR = np.float32(10.0)
"""A user's topics: each event counts .98 of the one after it, beside 10 events like everybody's."""

_DAY_MS, _WEEK_MS = 86_400_000, 7 * 86_400_000


def shapes(dim: int, hidden: int, topics: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the section."""
    return {
        "horizon.sharpness": (BUCKETS,),  # log of what the vector is multiplied by
        "horizon.popularity": (BUCKETS,),  # log of what items' biases are multiplied by
        "horizon.shift": (BUCKETS, dim),
        "horizon.ahead": (BUCKETS, hidden),
        "horizon.up": (dim, hidden),
        "horizon.calendar": (CALENDAR, hidden),
        "horizon.down": (hidden, dim),
        "horizon.views": (BUCKETS, len(VIEWS)),  # logits of the mixture
        "horizon.everybody": (topics,),  # shares of the topics among everybody's recent events
    }


def optional(arrays: Iterable[str]) -> set[str]:
    """Those of the names that belong to this section."""
    return {name for name in arrays if name.startswith(PREFIX)}


def check(arrays: Mapping[str, npt.NDArray[Any]], dim: int, topics: int) -> None:
    """Check the section of a release, if it has one.

    Raises:
        ValueError: naming the array, what it is and what was expected.
    """
    names = optional(arrays)
    if not names:
        return
    up = arrays.get("horizon.up")
    expected = shapes(dim, up.shape[1] if up is not None and up.ndim == 2 else 1, topics)
    if odd := sorted(names ^ expected.keys()):
        raise ValueError(f"Release.arrays: missing or unexpected {odd}")
    for name, shape in expected.items():
        array = arrays[name]
        if array.dtype != np.float32 or array.shape != shape:
            raise ValueError(f"{name} is {array.dtype} {array.shape}, expected float32 {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity, expected finite weights")


def steps(ahead_ms: Int64) -> tuple[Float32, Float32]:
    """Weights [B, BUCKETS] of the two whole numbers around log2 of the seconds, and how far the head has set in, [B].

    The latter goes from 0 to 1 within the first 2 ** RAMP seconds, and the weights sum to it.
    """
    seconds = np.maximum(ahead_ms, 0) / 1000.0
    place = np.clip(np.log2(np.maximum(seconds, 1.0)), 0, BUCKETS - 1)
    low = np.minimum(place.astype(np.int64), BUCKETS - 2)
    onset = np.clip(np.log2(1 + seconds) / RAMP, 0, 1).astype(np.float32)
    out = np.zeros((len(place), BUCKETS), np.float32)
    row = np.arange(len(place))
    out[row, low], out[row, low + 1] = 1 - (place - low), place - low
    return out * onset[:, None], onset


def calendar(now_ms: Int64, ahead_ms: Int64) -> Float32:
    """[B, CALENDAR] the time of the day and of the week (UTC), as waves, of the later moment and of this one."""
    waves = []
    for moment in (now_ms + ahead_ms, now_ms):
        for period in (_DAY_MS, _WEEK_MS):
            phase = 2 * np.pi * (moment % period) / period
            waves += [np.sin(phase), np.cos(phase), np.sin(2 * phase), np.cos(2 * phase)]
    return np.stack(waves, axis=1).astype(np.float32)


def shares(members: Float32) -> Float32:
    """[n, t] which topics an item is of → what each gets of it: they share 1; an item without any has only zeros."""
    total: Float32 = members / np.maximum(members.sum(axis=1, keepdims=True), np.float32(1))
    return total


def own_shares(of_events: Float32, present: npt.NDArray[np.bool_], everybody: Float32) -> Float32:
    """[B, t] topics of users' own events.

    Args:
        of_events: [B, n, t] ``shares`` of each event's item, oldest first.
        present: [B, n] which of them there are; the newest is the last one present.
        everybody: [t] where a user without events starts.
    """
    age = np.cumsum(present[:, ::-1], axis=1)[:, ::-1] - 1
    weight = np.where(present, OWN_DECAY ** age.astype(np.float32), np.float32(0)).astype(np.float32)
    counted = np.einsum("bn,bnt->bt", weight, of_events)
    total = counted.sum(axis=1, keepdims=True)
    out: Float32 = (counted + OWN_PRIOR * everybody) / (total + OWN_PRIOR)
    return out


class Horizon:
    """The head of a release."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], temperature: np.float32, members: int = 1) -> None:
        """temperature: τ of the release's user vectors; members: of its model."""
        self._w = {name.removeprefix(PREFIX): arrays[name] for name in optional(arrays)}
        self._temperature, self._members = temperature, members

    @property
    def everybody(self) -> Float32:
        """[t] shares of the topics among everybody's events, the newest ones most, when the release was made."""
        found: Float32 = self._w["everybody"]
        return found

    def vectors(self, hidden: Float32, now_ms: Int64, ahead_ms: Int64) -> Float32:
        """[B, d + 1] user vectors `ahead_ms` [B] after `now_ms` [B], the times of the events that `hidden` [B, d]
        follows. Times that are not ahead are taken for 0.
        """
        w, (at, onset) = self._w, steps(ahead_ms)
        inner = np.maximum(hidden @ w["up"] + at @ w["ahead"] + calendar(now_ms, ahead_ms) @ w["calendar"], 0)
        moved = unit(hidden, self._members) + at @ w["shift"] + onset[:, None] * (inner @ w["down"])
        out = np.empty((len(hidden), hidden.shape[1] + 1), np.float32)
        out[:, :-1] = unit(moved, self._members) * (np.exp(at @ w["sharpness"]) / self._temperature)[:, None]
        out[:, -1] = np.exp(at @ w["popularity"])
        return out

    def topics(self, items: Float32, own: Float32, ahead_ms: Int64) -> Float32:
        """[B, t] shares that topics will have.

        Args:
            items: [B, t] shares among the items that the vector speaks for: the softmax of their scores.
            own: [B, t] of the user's own events, as ``own_shares`` has them.
            ahead_ms: [B].
        """
        at, _ = steps(ahead_ms)
        logits = at @ self._w["views"]
        weight = np.exp(logits - logits.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        views = np.stack([items, own, np.broadcast_to(self.everybody, items.shape)], axis=1)
        mixed: Float32 = np.einsum("bv,bvt->bt", weight, views).astype(np.float32)
        return mixed
