"""Looking a user up in the topics: his last events, slates and the decisions behind them, when somebody asks.

Only the partition that his id belongs to is read, the last offsets of it: what is not found there is said to be not
found there. Looked up again, only what came since is read. Knows the contracts and how records are partitioned; knows
nothing of pages.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from aiokafka import TopicPartition
from aiokafka.partitioner import murmur2
from numpy.typing import NDArray

from streams.cluster import Cluster
from streams.contracts import Decision, Event, Recommendation
from streams.names import Topics
from streams.restore import partitions_of

WINDOWS = {"events": 4000, "recommendations": 4000, "decisions": 1500}
"""Offsets of a partition that are read, at most, of each topic."""

FETCH_BYTES = 1024 * 1024
SLATES = 30
EVENTS = 40
DECISIONS = 2
TURNS = 60
TIMEOUT_S = 20.0

_event = msgspec.json.Decoder(Event)
_slate = msgspec.json.Decoder(Recommendation)
_decision = msgspec.json.Decoder(Decision)


@dataclass(slots=True)
class User:
    """What was found of a user, newest first.

    `erased`: the last thing said of him is a tombstone. `read`: by topic, the next offset to read.
    """

    user: str
    partition: int
    looked: int
    events: deque[tuple[int, int, Event]] = field(default_factory=lambda: deque(maxlen=EVENTS))  # offset, timestamp
    slates: deque[tuple[int, Recommendation]] = field(default_factory=lambda: deque(maxlen=SLATES))  # timestamp
    decisions: deque[tuple[int, Decision]] = field(default_factory=lambda: deque(maxlen=DECISIONS))  # timestamp
    turns: deque[tuple[int, float | None]] = field(default_factory=lambda: deque(maxlen=TURNS))  # timestamp, drift
    erased: bool = False
    read: dict[str, int] = field(default_factory=dict)

    def copy(self) -> User:
        """One that can be read on while this one is shown."""
        lists = self.events.copy(), self.slates.copy(), self.decisions.copy(), self.turns.copy()
        return User(self.user, self.partition, self.looked, *lists, self.erased, dict(self.read))


def partition_of(user: str, partitions: int) -> int:
    """Where Kafka's usual partitioner puts the key."""
    return int(murmur2(user.encode()) & 0x7FFFFFFF) % partitions


async def look_up(cluster: Cluster, topics: Topics, user: str, before: User | None = None) -> User:
    """Read the end of the user's partition, or what came since `before`.

    Raises TimeoutError when that takes too long, KafkaError and OSError.
    """
    async with asyncio.timeout(TIMEOUT_S):
        if before is not None:
            found = before.copy()
        else:
            count = len(await partitions_of(cluster, topics.events))
            found = User(user, partition_of(user, count), sum(WINDOWS.values()))
        consumer = cluster.consumer(max_partition_fetch_bytes=FETCH_BYTES, fetch_max_wait_ms=50)
        try:
            await consumer.start()
            for name in WINDOWS:
                await _read(consumer, TopicPartition(topics.name(name), found.partition), name, found)
        finally:
            await consumer.stop()
    return found


async def _read(consumer: Any, place: TopicPartition, name: str, found: User) -> None:
    consumer.assign([place])
    end = (await consumer.end_offsets([place]))[place]
    begin = (await consumer.beginning_offsets([place]))[place]
    known = found.read.get(name, 0)
    consumer.seek(place, max(begin, end - WINDOWS[name], known if known <= end else 0))  # beyond: a topic made anew
    found.read[name] = end
    key = found.user.encode()
    while await consumer.position(place) < end:
        for records in (await consumer.getmany(place, timeout_ms=500)).values():
            for record in records:
                if record.key == key and record.offset < end:
                    _take(name, record, found)


def _take(name: str, record: Any, found: User) -> None:
    try:
        if name == "events":
            found.events.appendleft((record.offset, record.timestamp, _event.decode(record.value or b"")))
        elif record.value is None:
            found.slates.clear()
            found.decisions.clear()
            found.turns.clear()
            found.erased = True
        elif name == "recommendations":
            found.slates.appendleft((record.timestamp, _slate.decode(record.value)))
            found.erased = False
        else:
            decision = _decision.decode(record.value)
            found.decisions.appendleft((record.timestamp, decision))
            found.turns.appendleft((record.timestamp, decision.drift))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return  # what is not as it should be is on the page of dead letters


def numbers(column: bytes) -> NDArray[np.float32]:
    """A column of a decision."""
    return np.frombuffer(column, "<f4")
