"""Where the states of one partition are kept while this worker owns it: a mapping that changes only by commits.

The engine restores a store from the changelog, lets the handler read it, and takes a batch's changes over
after their transaction has committed. Here are what every store promises and the one in memory; the one on
disk is `store_disk.py`. Knows nothing of what states mean, of Kafka or of transactions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

Mark = Callable[[bytes], bytes | None]
"""The few bytes of a state by which `Store.marked` finds it again without reading it; None where it need not be."""


class StoreDamaged(Exception):
    """What a store holds on disk cannot be trusted: it is to be cleared and filled from the changelog.

    Any method of a store but `close` may raise it (`clear` where not even an empty store can be made: a full disk).
    It is never the fault of a record.
    """


class Store(Mapping[bytes, bytes]):
    """The committed states of one partition, by key. Never read and written at the same time.

    Attributes:
        position: the changelog offset from which on records are not in here yet; 0: none of them are.
        origin: which changelog those before are from; None: the store ends with the process and needs to know none.
        contact: a moment, in seconds since the epoch. Tombstones that are not in here yet were not yet due to be
            compacted away then, so that each can still be read for the topic's delete.retention.ms from then on.
        mark: what is kept of each state beside it, for `marked`.
        keep_seconds: how long after `contact` a store may be gone on with at most.
    """

    position: int = 0
    origin: str | None = None
    contact: float = 0.0
    mark: Mark | None = None
    keep_seconds: float = float("inf")

    @abstractmethod
    def take(self, changes: Mapping[bytes, bytes | None], position: int, contact: float | None = None) -> None:
        """Take changes over (None deletes) and the position with them: all or nothing, whatever dies.

        `contact`: see the class; without it the caller is the changelog's only writer and `position` its end.
        """

    @abstractmethod
    def clear(self, origin: str | None = None) -> None:
        """Forget everything: no keys, position 0. What is taken from now on is from `origin`."""

    @abstractmethod
    def close(self) -> None:
        """Give the store up; it is not used afterwards."""

    def marked(self) -> Iterable[tuple[bytes, bytes]]:
        """Key and mark of the states that have one."""
        return () if self.mark is None else _marks(self, self.mark)


def marked(states: Mapping[bytes, bytes], mark: Mark) -> Iterable[tuple[bytes, bytes]]:
    """Key and mark of the states that have one: where the store keeps this mark, without reading the states."""
    return states.marked() if isinstance(states, Store) and states.mark is mark else _marks(states, mark)


def _marks(states: Mapping[bytes, bytes], mark: Mark) -> Iterable[tuple[bytes, bytes]]:
    return ((key, found) for key, state in states.items() if (found := mark(state)) is not None)


class Stores(Protocol):
    """Gives each partition its store, one owner at a time."""

    def open(self, partition: int) -> Store:
        """Return the partition's store as it was last left here, perhaps empty; the caller brings it up to date."""


class MemoryStore(Store):
    """A store in memory; it always begins empty."""

    def __init__(self, mark: Mark | None = None) -> None:
        self._states: dict[bytes, bytes] = {}
        self.mark = mark

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

    def take(self, changes: Mapping[bytes, bytes | None], position: int, contact: float | None = None) -> None:
        for key, value in changes.items():
            if value is None:
                self._states.pop(key, None)
            else:
                self._states[key] = value
        self.position = position

    def clear(self, origin: str | None = None) -> None:
        self._states.clear()
        self.position = 0

    def close(self) -> None:
        self._states.clear()


class MemoryStores:
    """All stores in memory: a restart reads the whole changelog."""

    def __init__(self, mark: Mark | None = None) -> None:
        self._mark = mark

    def open(self, partition: int) -> Store:
        return MemoryStore(self._mark)
