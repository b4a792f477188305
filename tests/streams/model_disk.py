"""A model of a worker's disk: what is flushed outlives the worker, what is not is lost with it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from streams.store import MemoryStore, Store


class Disk:
    """A place for stores that outlives its worker, as a volume does: what was flushed before it died is there."""

    def __init__(self) -> None:
        self.flushed: dict[int, tuple[dict[bytes, bytes], int, str | None, float]] = {}
        self.held: dict[int, Kept] = {}

    def open(self, partition: int) -> Store:
        assert partition not in self.held, "the slot is held by a store that was not closed"
        store = self.held[partition] = Kept(self, partition)
        return store

    def flush(self) -> None:
        for store in self.held.values():
            store.flush()

    def crash(self) -> None:
        """Its worker is dead: what was not flushed is lost, and its locks are gone with it."""
        self.held.clear()


class Kept(MemoryStore):
    """A store on such a disk: it knows whose it is, goes on from its last flush, and ends when it is closed."""

    def __init__(self, disk: Disk, partition: int) -> None:
        super().__init__()
        self._disk, self._partition, self._closed = disk, partition, False
        states, self.position, self.origin, self.contact = disk.flushed.get(partition, ({}, 0, "", 0.0))
        self._states = dict(states)

    def take(self, changes: Mapping[bytes, bytes | None], position: int, contact: float | None = None) -> None:
        assert not self._closed
        super().take(changes, position)
        self.contact = time.time() if contact is None else contact

    def clear(self, origin: str | None = None) -> None:
        assert not self._closed
        super().clear()
        self.origin, self.contact = origin or "", time.time()

    def flush(self) -> None:
        self._disk.flushed[self._partition] = (dict(self._states), self.position, self.origin, self.contact)

    def close(self) -> None:
        self.flush()
        self._closed = True
        del self._disk.held[self._partition]
