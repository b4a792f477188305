"""Looking a user up in the topics: his last events, slates and the decisions behind them, when somebody asks.

Only the partition that his id belongs to is read, the last offsets of it: what is not found there is said to be not
found there. Knows the contracts and how records are partitioned; knows nothing of pages.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from aiokafka import TopicPartition
from aiokafka.partitioner import murmur2
from numpy.typing import NDArray

from streams.cluster import MAX_FETCH_BYTES, Cluster
from streams.contracts import Decision, Event, Recommendation
from streams.names import Topics
from streams.restore import partitions_of

WINDOWS = {"events": 4000, "recommendations": 4000, "decisions": 1500}
"""Offsets of a partition that are read, at most, of each topic."""

SLATES = 30
EVENTS = 40
DECISIONS = 2
TIMEOUT_S = 20.0

_event = msgspec.json.Decoder(Event)
_slate = msgspec.json.Decoder(Recommendation)
_decision = msgspec.json.Decoder(Decision)


@dataclass(slots=True)
class User:
    """What was found of a user, newest first. `erased`: the last thing said of him is a tombstone."""

    user: str
    partition: int
    looked: int
    events: list[tuple[int, int, Event]] = field(default_factory=list)  # offset, timestamp
    slates: list[tuple[int, Recommendation]] = field(default_factory=list)  # timestamp
    decisions: list[Decision] = field(default_factory=list)
    erased: bool = False


def partition_of(user: str, partitions: int) -> int:
    """Where Kafka's usual partitioner puts the key."""
    return int(murmur2(user.encode()) & 0x7FFFFFFF) % partitions


async def look_up(cluster: Cluster, topics: Topics, user: str) -> User:
    """Read the end of the user's partition. Raises TimeoutError when that takes too long, KafkaError and OSError."""
    async with asyncio.timeout(TIMEOUT_S):
        count = len(await partitions_of(cluster, topics.events))
        found = User(user, partition_of(user, count), sum(WINDOWS.values()))
        consumer = cluster.consumer(max_partition_fetch_bytes=MAX_FETCH_BYTES, fetch_max_wait_ms=50)
        try:
            await consumer.start()
            for name in WINDOWS:
                await _read(consumer, TopicPartition(topics.name(name), found.partition), name, found)
        finally:
            await consumer.stop()
    found.events = found.events[::-1][:EVENTS]
    found.slates = found.slates[::-1][:SLATES]
    found.decisions = found.decisions[::-1][:DECISIONS]
    return found


async def _read(consumer: Any, place: TopicPartition, name: str, found: User) -> None:
    consumer.assign([place])
    end = (await consumer.end_offsets([place]))[place]
    begin = (await consumer.beginning_offsets([place]))[place]
    consumer.seek(place, max(begin, end - WINDOWS[name]))
    key = found.user.encode()
    while await consumer.position(place) < end:
        for records in (await consumer.getmany(place, timeout_ms=500)).values():
            for record in records:
                if record.key == key and record.offset < end:
                    _take(name, record, found)


def _take(name: str, record: Any, found: User) -> None:
    try:
        if name == "events":
            found.events.append((record.offset, record.timestamp, _event.decode(record.value or b"")))
            del found.events[:-EVENTS]
        elif record.value is None:
            found.slates, found.decisions, found.erased = [], [], True
        elif name == "recommendations":
            found.slates.append((record.timestamp, _slate.decode(record.value)))
            found.erased = False
            del found.slates[:-SLATES]
        else:
            found.decisions.append(_decision.decode(record.value))
            del found.decisions[:-DECISIONS]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return  # what is not as it should be is on the page of dead letters


def numbers(column: bytes) -> NDArray[np.float32]:
    """A column of a decision."""
    return np.frombuffer(column, "<f4")
