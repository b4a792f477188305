"""Each user's last items, and the gap between the last two events, by a code of the user. Knows nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.config import Float32, Int64

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """What was known of the users of n events right before each.

    Attributes:
        recent: [n, L] rows of their last items, newest first, -1 where unknown or none.
        events: [n] how many events they had had.
        gap_s: [n] seconds between the last two of those, 0 where the clock went back, -1 for fewer.
    """

    recent: Int64
    events: Int64
    gap_s: Float32


class RecentItems:
    """The last L items of every user that was met."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._place: dict[int, int] = {}
        self._free: list[int] = []
        self._recent = np.empty((0, length), np.int32)
        self._events = np.empty(0, np.int64)
        self._last_ms = np.empty(0, np.int64)
        self._gap_s = np.empty(0, np.float32)

    def __len__(self) -> int:
        return len(self._place)

    def follow(self, users: Int64, items: Int64, times_ms: Int64) -> Before:
        """Take in n events in order of arrival; what was known before each, those of the same call included.

        An event of an unknown item, -1, keeps its place among the last items.
        """
        places = [self._find(user) for user in users.tolist()]
        recent = np.empty((len(places), self._length), np.int64)
        events, gap_s = np.empty(len(places), np.int64), np.empty(len(places), np.float32)
        for at, (place, item, time_ms) in enumerate(zip(places, items.tolist(), times_ms.tolist(), strict=True)):
            row = self._recent[place]
            recent[at], events[at], gap_s[at] = row, self._events[place], self._gap_s[place]
            row[1:] = row[:-1]
            row[0] = item
            if self._events[place]:
                self._gap_s[place] = max(0, time_ms - self._last_ms[place]) / 1000
            self._events[place] += 1
            self._last_ms[place] = time_ms
        return Before(recent, events, gap_s)

    def forget(self, users: Iterable[int]) -> None:
        """These users were never met."""
        for user in users:
            place = self._place.pop(user, None)
            if place is not None:
                self._clear(place)
                self._free.append(place)

    def state(self) -> Arrays:
        """Everything, exactly."""
        places = np.fromiter(self._place.values(), np.int64, len(self._place))
        return {
            "users": np.fromiter(self._place.keys(), np.int64, len(self._place)),
            "recent": self._recent[places],
            "events": self._events[places],
            "last_ms": self._last_ms[places],
            "gap_s": self._gap_s[places],
        }

    @classmethod
    def restore(cls, state: Mapping[str, npt.NDArray[Any]]) -> RecentItems:
        """As it was when ``state`` was taken."""
        items = cls(state["recent"].shape[1])
        items._place = {user: place for place, user in enumerate(state["users"].tolist())}
        items._recent, items._events = state["recent"].astype(np.int32), state["events"].astype(np.int64)
        items._last_ms, items._gap_s = state["last_ms"].astype(np.int64), state["gap_s"].astype(np.float32)
        return items

    def _find(self, user: int) -> int:
        place = self._place.get(user)
        if place is None:
            if not self._free:
                self._make_room()
            place = self._place[user] = self._free.pop()
        return place

    def _make_room(self) -> None:
        size = len(self._events)
        more = max(64, size)
        self._recent = np.concatenate([self._recent, np.empty((more, self._length), np.int32)])
        self._events = np.concatenate([self._events, np.empty(more, np.int64)])
        self._last_ms = np.concatenate([self._last_ms, np.empty(more, np.int64)])
        self._gap_s = np.concatenate([self._gap_s, np.empty(more, np.float32)])
        for place in range(size + more - 1, size - 1, -1):
            self._clear(place)
            self._free.append(place)

    def _clear(self, place: int) -> None:
        self._recent[place] = -1
        self._events[place] = self._last_ms[place] = 0
        self._gap_s[place] = -1
