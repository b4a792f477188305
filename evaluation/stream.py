"""A finite stream of interactions as arrays, and where its test begins. Knows nothing of files, models or scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.batches import InteractionLog
from models.config import Bool, Float32, Int64, UInt8


@dataclass(frozen=True, eq=False)
class EventStream:
    """n interactions in order of time; an event's number is its row.

    Attributes:
        users: [n] rows of ``user_ids``.
        items: [n] rows of ``item_ids``.
        times_ms: [n] ascending.
        actions: [n] rows of ``action_names``.
        weights: [n].
        item_ids: first the ``listed`` items of the catalogue that was given, then the others in order of first event.
        listed: how many items may be recommended before anybody has met them.

    Raises:
        ValueError: times go backwards, or a code is out of range.
    """

    users: Int64
    items: Int64
    times_ms: Int64
    actions: UInt8
    weights: Float32
    user_ids: Sequence[str]
    item_ids: Sequence[str]
    action_names: Sequence[str] = ("view",)
    listed: int = 0

    def __post_init__(self) -> None:
        if (np.diff(self.times_ms) < 0).any():
            raise ValueError("EventStream.times_ms go backwards, expected events in order of time")
        for name, codes, size in (("users", self.users, self.user_ids), ("items", self.items, self.item_ids)):
            if len(codes) and not 0 <= codes.min() <= codes.max() < len(size):
                raise ValueError(f"EventStream.{name} holds {codes.min()} to {codes.max()}, expected 0 to {len(size)}")

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def known_from(self) -> Int64:
        """[items] number of the event after which an item may be recommended: −1 for listed ones, else its first."""
        first = np.full(len(self.item_ids), len(self), np.int64)
        np.minimum.at(first, self.items, np.arange(len(self)))
        first[: self.listed] = -1
        return first

    def known_items(self, event: int) -> int:
        """How many items may be recommended just before an event: the first rows of ``item_ids``."""
        return int(np.searchsorted(self.known_from, event))

    @cached_property
    def previous(self) -> Int64:
        """[n] number of the same user's event before, −1 for his first."""
        return _previous(self.users)

    @cached_property
    def tied(self) -> Bool:
        """[n] whether an event has the time of its user's event before."""
        same: Bool = (self.previous >= 0) & (self.times_ms == self.times_ms[self.previous])
        return same

    @cached_property
    def item_events(self) -> Int64:
        """[n] events that the item had before this one."""
        return _occurrence(self.items)

    @cached_property
    def user_events(self) -> Int64:
        """[n] events that the user had before this one."""
        return _occurrence(self.users)

    @cached_property
    def repeated(self) -> Bool:
        """[n] whether the user had an event with the item before."""
        pairs = self.users * len(self.item_ids) + self.items
        again: Bool = _occurrence(pairs) > 0
        return again

    def cut(self, warm_up: float) -> int:
        """The number of the first test event: one moment for everybody, the time of the event at that share.

        ``warm_up``: below 1 a share of the events, else a number of them. Events of one time are not divided: they are
        in the test.

        Raises:
            ValueError: nothing would be left on one of the sides.
        """
        wanted = round(warm_up * len(self)) if warm_up < 1 else round(warm_up)
        if not 0 < wanted < len(self):
            raise ValueError(f"a warm-up of {warm_up:g} is {wanted} of {len(self)} events")
        found = int(np.searchsorted(self.times_ms, self.times_ms[wanted]))
        if found == 0:
            raise ValueError(f"the first {wanted} of {len(self)} events have the same time")
        return found

    def log(self, begin: int, end: int) -> InteractionLog:
        """The events from ``begin`` to before ``end`` as training takes them, items by row of ``item_ids``."""
        part = slice(begin, end)
        return InteractionLog(
            self.users[part], self.items[part], self.times_ms[part], self.actions[part], self.weights[part]
        )

    def head(self, events: int) -> EventStream:
        """The first events alone; items and users that come later are not in it."""
        if events >= len(self):
            return self
        return EventStream(
            self.users[:events],
            self.items[:events],
            self.times_ms[:events],
            self.actions[:events],
            self.weights[:events],
            self.user_ids[: int(self.users[:events].max(initial=-1)) + 1],
            self.item_ids[: self.known_items(events)],
            self.action_names,
            self.listed,
        )


def _previous(codes: NDArray[np.int64]) -> Int64:
    order = np.argsort(codes, kind="stable")
    before = np.full(len(codes), -1, np.int64)
    same = codes[order[1:]] == codes[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    return before


def _occurrence(codes: NDArray[np.int64]) -> Int64:
    """[n] how often each code came before."""
    order = np.argsort(codes, kind="stable")
    begins = np.flatnonzero(np.diff(codes[order], prepend=codes[order[0]] - 1)) if len(codes) else np.empty(0, int)
    count = np.empty(len(codes), np.int64)
    count[order] = np.arange(len(codes)) - np.repeat(begins, np.diff(begins, append=len(codes)))
    return count
