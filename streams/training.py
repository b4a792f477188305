"""What training needs, read from the topics: the items with their vectors, and the log of interactions.

Turns messages into arrays. Knows nothing of how a model is trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from aiokafka import ConsumerRecord

from models.batches import InteractionLog
from streams.cluster import Cluster
from streams.contracts import Erase, Event, Interaction, ItemVector
from streams.restore import read_to_end
from streams.rounds import user_code
from streams.validation import BadMessage, EventRules, decode_event

_vector_decoder = msgspec.json.Decoder(ItemVector)


class History:
    """Collects events, a user's in order, into a log of interactions.

    An erasure takes what the user did before, and his event ids; a repeated event id counts once, as in the worker's
    states.
    `until` (ms, event time) leaves out interactions of that time or later, but no erasure. `ends` are next offsets by
    partition: where training goes on after what is in here.
    """

    def __init__(self, items: Sequence[str], actions: Sequence[str], until: int | None = None) -> None:
        self._until = until
        self._rows = {item: row for row, item in enumerate(items)}
        self._actions = {action: index for index, action in enumerate(actions)}
        self._users: dict[str, int] = {}
        self.ends: dict[int, int] = {}
        self._late: set[int] = set()
        self._ids: dict[str, set[str]] = {}
        self._erased: dict[int, int] = {}
        self._columns: tuple[list[int], list[int], list[int], list[int], list[float]] = ([], [], [], [], [])

    def add(self, event: Event, place: tuple[int, int] | None = None) -> None:
        """Take an interaction or an erasure; other events say nothing of taste. `place`: its partition and offset."""
        if place is not None:
            self._pass(event, *place)
        if isinstance(event, Erase):
            self._erased[self._user(event.user)] = len(self._columns[0])
            self._ids.pop(event.user, None)
        elif isinstance(event, Interaction) and self._in_time(event) and not self._repeated(event):
            row = self._rows.get(event.item, -1)
            values = (self._user(event.user), row, event.time, self._actions[event.action], event.weight)
            for column, value in zip(self._columns, values, strict=True):
                column.append(value)  # type: ignore[attr-defined]

    def log(self) -> InteractionLog:
        """The interactions so far, ordered by time, then user: the same however partitions were interleaved."""
        users, items, times, actions, weights = self._columns
        codes = np.array([user_code(user) for user in self._users], np.int64)
        kept = np.array([at >= self._erased.get(user, 0) for at, user in enumerate(users)], bool)
        own = codes[np.array(users, np.int64)] if users else codes
        order = np.lexsort((own, np.array(times, np.int64)))
        order = order[kept[order]]
        return InteractionLog(
            own[order],
            np.array(items, np.int64)[order],
            np.array(times, np.int64)[order],
            np.array(actions, np.uint8)[order],
            np.array(weights, np.float32)[order],
        )

    def _pass(self, event: Event, partition: int, offset: int) -> None:
        """Move the partition's end past an event, unless one before it was left out as too late."""
        if partition in self._late:
            return
        if isinstance(event, Interaction) and not self._in_time(event):
            self._late.add(partition)
            self.ends.setdefault(partition, offset)
        else:
            self.ends[partition] = offset + 1

    def _in_time(self, event: Interaction) -> bool:
        return self._until is None or event.time < self._until

    def _user(self, user: str) -> int:
        return self._users.setdefault(user, len(self._users))

    def _repeated(self, event: Interaction) -> bool:
        if event.id is None:
            return False
        ids = self._ids.setdefault(event.user, set())
        known = event.id in ids
        ids.add(event.id)
        return known


async def read_items(cluster: Cluster, topic: str) -> list[ItemVector]:
    """The items of `item_vectors` as they are now, ordered by id.

    Raises ValueError for a record that is no item vector.
    """
    found: dict[bytes, bytes | None] = {}
    await read_to_end(cluster, topic, lambda record: found.update({record.key: record.value}))
    return [_vector(topic, key, value) for key, value in sorted(found.items()) if value is not None]


def _vector(topic: str, key: bytes, value: bytes) -> ItemVector:
    try:
        return _vector_decoder.decode(value)
    except msgspec.DecodeError as error:
        raise ValueError(f"topic {topic}, key {key!r}: {error}, expected an item vector") from error


async def read_history(cluster: Cluster, topic: str, history: History, rules: EventRules) -> int:
    """Add the events of a topic and return how many were bad: those that a worker dead-letters for what they say."""
    bad = 0

    def take(record: ConsumerRecord) -> None:
        nonlocal bad
        try:
            event = decode_event(record.key, record.value, record.timestamp, rules)
            history.add(event, (record.partition, record.offset))
        except BadMessage:
            bad += 1

    await read_to_end(cluster, topic, take)
    return bad
