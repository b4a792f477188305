"""The log of events as the checker sees it: plain JSON, and which of them were let in. The log is the truth.

Shares no code with engine and pipeline. What is bad is known from the sender, not judged again here.
"""

from __future__ import annotations

import bisect
import json
from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

Place = tuple[int, int]
"""Partition and offset of an event."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event that was let in. `kind` is as sent, but `external` for an impression of another system's slate."""

    partition: int
    offset: int
    user: str
    kind: str
    time: int
    item: str
    weight: float
    action: str
    id: str | None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong: where, whose, and what."""

    text: str
    partition: int
    offset: int | None = None
    user: str | None = None

    def __str__(self) -> str:
        where = f"partition {self.partition}" + ("" if self.offset is None else f", offset {self.offset}")
        return f"{where}{f', user {self.user}' if self.user else ''}: {self.text}"


class Log:
    """The good events by place, by user, and how far event time had come at each. `bad`: places of the others."""

    def __init__(self, bad: Set[Place]) -> None:
        self._bad = bad
        self.events: dict[Place, Event] = {}
        self.by_user: dict[str, list[Event]] = defaultdict(list)
        self.unreadable: list[Place] = []
        self._offsets: dict[int, list[int]] = defaultdict(list)
        self._watermarks: dict[int, list[int]] = defaultdict(list)

    def take(self, record: Any) -> None:
        """Take in a record of the topic of events; those of a partition in order."""
        place = record.partition, record.offset
        if place in self._bad:
            return
        try:
            event = _event(record)
        except (TypeError, ValueError, KeyError):
            self.unreadable.append(place)
            return
        self.events[place] = event
        self.by_user[event.user].append(event)
        before = self.watermark(event.partition)
        self._offsets[event.partition].append(event.offset)
        self._watermarks[event.partition].append(max(before, event.time))

    def watermark(self, partition: int, offset: int | None = None) -> int:
        """The latest event time up to and with `offset`; by default at the end of the log."""
        found = self._watermarks[partition]
        if offset is None:
            return found[-1] if found else 0
        at = bisect.bisect_right(self._offsets[partition], offset)
        return found[at - 1] if at else 0

    def erased_after(self, user: str, offset: int) -> int | None:
        """The offset of the user's first erasure after `offset`; None: there is none."""
        erasures = (event.offset for event in self.by_user[user] if event.kind == "erase" and event.offset > offset)
        return next(erasures, None)


def _event(record: Any) -> Event:
    found = json.loads(record.value)
    external = found["kind"] == "impression" and found.get("slate") is None
    return Event(
        partition=record.partition,
        offset=record.offset,
        user=found["user"],
        kind="external" if external else found["kind"],
        time=found["time"],
        item=found.get("item", ""),
        weight=found.get("weight", 1.0),
        action=found.get("action", "view"),
        id=found.get("id"),
    )
