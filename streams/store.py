"""Where the states of one partition are kept while this worker owns it: a mapping that changes only by commits.

The engine restores a store from the changelog, lets the handler read it, and takes a batch's changes over
after their transaction has committed. Knows nothing of what states mean, of Kafka or of transactions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Protocol


class StoreDamaged(Exception):
    """What a store holds on disk cannot be trusted: it is to be cleared and filled from the changelog.

    Any method of a store but `clear` and `close` may raise it. It is never the fault of a record.
    """


class Store(Mapping[bytes, bytes]):
    """The committed states of one partition, by key. Never read and written at the same time.

    Attributes:
        position: the changelog offset from which on records are not in here yet; 0: none of them are.
    """

    position: int = 0

    @abstractmethod
    def take(self, changes: Mapping[bytes, bytes | None], position: int) -> None:
        """Take changes over (None deletes) and the position with them: all or nothing, whatever dies."""

    @abstractmethod
    def clear(self) -> None:
        """Forget everything: no keys, position 0."""

    @abstractmethod
    def close(self) -> None:
        """Give the store up; it is not used afterwards."""


class Stores(Protocol):
    """Gives each partition its store, one owner at a time."""

    def open(self, partition: int) -> Store:
        """Return the partition's store as it was last left here, perhaps empty; the caller brings it up to date."""


class MemoryStore(Store):
    """A store in memory; it always begins empty."""

    def __init__(self) -> None:
        self._states: dict[bytes, bytes] = {}

    def __getitem__(self, key: bytes) -> bytes:
        return self._states[key]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, key: object) -> bool:
        return key in self._states

    def get(self, key: bytes, default: Any = None) -> Any:
        return self._states.get(key, default)

    def take(self, changes: Mapping[bytes, bytes | None], position: int) -> None:
        for key, value in changes.items():
            if value is None:
                self._states.pop(key, None)
            else:
                self._states[key] = value
        self.position = position

    def clear(self) -> None:
        self._states.clear()
        self.position = 0

    def close(self) -> None:
        self._states.clear()


class MemoryStores:
    """All stores in memory: a restart reads the whole changelog."""

    def open(self, partition: int) -> Store:
        return MemoryStore()
