"""User vectors of a micro-batch, from attention caches that are carried on while they are true.

The caches (keys, values, what was seen) are derived from user states and bounded in number. A cache is
true when its stamp equals the stamp of the state that the batch started from, (events, offset), and was
made from the catalogue's present inputs; every other is rebuilt, exactly, from the state's own events.
Knows nothing of Kafka, of messages or of policies.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from streams.fold import Touched
from streams.state import UserState
from streams.world import World

Key = tuple[int, bytes]
"""Partition and user key."""


class UserCache:
    """Derived data of the most recently active users under one world.

    `remembered`: as long as a user has had no more events than this, his state has forgotten none of them.
    """

    def __init__(self, world: World, rows: int, remembered: int) -> None:
        self._world = world
        self._remembered = remembered
        self._ring = world.model.new_cache(rows)
        self._hidden = np.zeros((rows, world.model.dim), np.float32)
        self._row: OrderedDict[Key, int] = OrderedDict()
        self._free = list(range(rows - 1, -1, -1))
        self._stamp: list[tuple[int, int] | None] = [None] * rows
        self._made = [(0, 0)] * rows  # (epoch, items in the catalogue, or -1 when none was unknown)
        self._seen: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * rows
        self._seen_count = [0] * rows
        self.hits = 0
        self.rebuilds = 0

    def evolve(self, partition: int, users: Sequence[Touched]) -> tuple[NDArray[np.float32], list[NDArray[np.int64]]]:
        """Return the vectors, float32 [U, d+1], and seen slots (U arrays of int64) of users after their new events."""
        if len(users) > len(self._stamp):
            raise ValueError(f"{len(users)} users in a batch, caches for {len(self._stamp)}: raise worker_cached_users")
        rows = [self._row_for((partition, touched.user.encode())) for touched in users]
        steps: list[tuple[int, Touched]] = []
        rebuilds: list[tuple[int, Touched]] = []
        for row, touched in zip(rows, users, strict=True):
            if self._is_true(row, touched):
                if touched.new:
                    steps.append((row, touched))
            else:
                self._ring.clear(np.array([row]))
                if touched.state.events:
                    rebuilds.append((row, touched))
                else:
                    self._seen_count[row] = 0
                    self._made[row] = (self._world.epoch, -1)
            self._stamp[row] = None  # not true again until the batch has gone through
        self.hits += len(users) - len(rebuilds)
        self.rebuilds += len(rebuilds)
        self._step(steps)
        self._rebuild(rebuilds)
        vectors = self._world.model.user_vectors(self._hidden[rows])
        for at, (row, touched) in enumerate(zip(rows, users, strict=True)):
            self._stamp[row] = (touched.state.events, touched.state.offset)
            if not touched.state.events:
                vectors[at] = self._world.model.start_vector
            elif touched.state.events > self._remembered:
                self._see(row, touched.state)  # the state forgets by now, and what it forgot must not be told from here
        return vectors, [self._seen[row][: self._seen_count[row]] for row in rows]

    def drop(self, partition: int) -> None:
        """Forget the users of a partition that was given up."""
        for key in [key for key in self._row if key[0] == partition]:
            self._free.append(self._row.pop(key))

    def forget(self, partition: int, user: bytes) -> None:
        """Drop what was derived from an erased user's state, and blank it."""
        row = self._row.pop((partition, user), None)
        if row is not None:
            self._free.append(row)
            self._ring.erase(np.array([row]))
            self._hidden[row] = 0
            self._seen[row], self._seen_count[row] = np.empty(0, np.int64), 0

    def _is_true(self, row: int, touched: Touched) -> bool:
        epoch, known = self._made[row]
        return (
            self._stamp[row] is not None
            and self._stamp[row] == touched.stamp
            and epoch == self._world.epoch
            and known in (-1, len(self._world.catalogue))
        )

    def _row_for(self, key: Key) -> int:
        row = self._row.pop(key, None)
        if row is None:
            row = self._free.pop() if self._free else self._row.popitem(last=False)[1]
            self._stamp[row] = None
        self._row[key] = row
        return row

    def _step(self, users: Sequence[tuple[int, Touched]]) -> None:
        """Append each user's new events: a wave holds at most one event of each user."""
        world = self._world
        for wave in range(max((len(touched.new) for _, touched in users), default=0)):
            now = [(row, touched.new[wave]) for row, touched in users if len(touched.new) > wave]
            rows = np.array([row for row, _ in now])
            slots = world.catalogue.slots([event[0] for _, event in now])
            self._hidden[rows] = world.model.step(
                self._ring,
                rows,
                self._inputs(slots),
                np.array([event[1] for _, event in now], np.int64),
                np.array([event[3] for _, event in now], np.uint8),
                np.array([event[2] for _, event in now], np.float32),
            )
            for row, slot in zip(rows.tolist(), slots.tolist(), strict=True):
                self._saw(row, slot)

    def _rebuild(self, users: Sequence[tuple[int, Touched]]) -> None:
        if not users:
            return
        world = self._world
        rows = np.array([row for row, _ in users])
        histories = [touched.state.history() for _, touched in users]
        slots = [world.catalogue.slots_of_hashes(history["item"]) for history in histories]
        self._hidden[rows] = world.model.rebuild(
            self._ring,
            rows,
            [self._inputs(known) for known in slots],
            [history["time"] for history in histories],
            [history["action"] for history in histories],
            [history["weight"] for history in histories],
        )
        for row, touched in users:
            unknown = self._see(row, touched.state)
            self._made[row] = (world.epoch, len(world.catalogue) if unknown else -1)

    def _see(self, row: int, state: UserState) -> bool:
        """Take over what the state says was seen; return whether the catalogue does not know some of it."""
        hashes = np.unique(np.concatenate([state.seen_before(), state.history()["item"]]))
        slots = self._world.catalogue.slots_of_hashes(hashes)
        self._seen[row] = slots[slots >= 0]
        self._seen_count[row] = len(self._seen[row])
        return len(self._seen[row]) < len(slots)

    def _inputs(self, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Input vectors by slot; zeros for an item that the catalogue does not know."""
        inputs = np.zeros((len(slots), self._world.model.dim), np.float32)
        known = slots >= 0
        inputs[known] = self._world.inputs[slots[known]]
        return inputs

    def _saw(self, row: int, slot: int) -> None:
        if slot < 0:
            self._made[row] = (self._made[row][0], len(self._world.catalogue))
            return
        count = self._seen_count[row]
        if (self._seen[row][:count] == slot).any():
            return
        if count == len(self._seen[row]):
            self._seen[row] = np.concatenate([self._seen[row], np.empty(max(16, count), np.int64)])
        self._seen[row][count] = slot
        self._seen_count[row] = count + 1


def excluded_pairs(seen: Iterable[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return flat pairs (row int64 [n], slot int64 [n]) of what each user has seen."""
    listed = list(seen)
    counts = [len(slots) for slots in listed]
    if not listed:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.repeat(np.arange(len(listed)), counts), np.concatenate(listed)
