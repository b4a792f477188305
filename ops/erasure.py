"""Asking for users to be forgotten, and waiting until it is done: an `erase` event each, answered by a tombstone.

An outsider on the topics, like the audit: a tombstone on `recommendations` names the events that it answers, and its
transaction removed the user's state and open slates. What is left of him elsewhere is for `ops/traces.py` to say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from ops.errors import CliError
from streams.cluster import MAX_FETCH_BYTES, Cluster
from streams.contracts import MAX_ID_BYTES, Erase, encode
from streams.names import Topics
from streams.restore import TopicMissing, partitions_of

COVERS = "driftline-covers"

Place = tuple[int, int]
"""Partition and offset of an event."""


@dataclass(slots=True)
class Asked:
    """One user's erasure: the events that ask for it, and those of them that are not answered yet.

    `refused`: reasons of those that became dead letters. `seconds`: from asking until the last answer was read.
    """

    user: str
    places: list[Place]
    waiting: set[Place]
    refused: list[str]
    seconds: float | None = None

    @property
    def done(self) -> bool:
        """Every event of it is answered by a tombstone."""
        return not self.waiting and not self.refused


def checked_ids(users: Collection[str]) -> list[str]:
    """The ids without repetitions. Raises CliError for one that no user can have."""
    for user in users:
        try:
            size = len(user.encode())
        except UnicodeEncodeError as error:
            raise CliError(f"user {user!r} is not UTF-8, as every id is", "Check the user's id.") from error
        if not 0 < size <= MAX_ID_BYTES:
            raise CliError(f"user {user!r} has {size} bytes, expected 1 to {MAX_ID_BYTES}", "Check the user's id.")
    return list(dict.fromkeys(users))


class Erasures:
    """Sends erasures and follows their answers. Make it with `erasures`."""

    def __init__(self, topics: Topics, producer: Any, answers: Any) -> None:
        self._topics, self._producer, self._answers = topics, producer, answers
        self._asked: dict[Place, Asked] = {}
        self._begun = time.monotonic()

    async def ask(self, users: Sequence[str], *, everywhere: bool = False) -> list[Asked]:
        """Send each user's erasure; returns when the cluster has acknowledged all.

        It goes to the partition that most Kafka clients choose for his id, or to all of them: `everywhere`.
        """
        partitions = sorted(await self._producer.partitions_for(self._topics.events)) if everywhere else [None]
        sent = [
            (user, await self._producer.send(self._topics.events, _event(user), user.encode(), partition))
            for user in users
            for partition in partitions
        ]
        asked: dict[str, Asked] = {}
        for user, acknowledged in sent:
            record = await acknowledged
            one = asked.setdefault(user, Asked(user, [], set(), []))
            one.places.append((record.partition, record.offset))
            one.waiting.add((record.partition, record.offset))
            self._asked[record.partition, record.offset] = one
        return list(asked.values())

    async def wait(self, idle_s: float, answered: Callable[[int], None] = lambda count: None) -> None:
        """Read answers until all are there, or none has come for `idle_s`; `answered` hears how many are done."""
        open_ones = {one.user for one in self._asked.values() if one.waiting}
        until = time.monotonic() + idle_s
        while open_ones and time.monotonic() < until:
            batches = await self._answers.getmany(timeout_ms=100, max_records=500)
            for place, why in _answers(self._topics, batches):
                if (one := self._asked.get(place)) is not None and place in one.waiting:
                    until = time.monotonic() + idle_s
                    self._take(one, place, why)
                    if not one.waiting:
                        open_ones.discard(one.user)
            answered(len(open_ones))

    def _take(self, one: Asked, place: Place, why: str | None) -> None:
        one.waiting.discard(place)
        if why is not None:
            one.refused.append(why)
        if not one.waiting:
            one.seconds = time.monotonic() - self._begun


@asynccontextmanager
async def erasures(cluster: Cluster, topics: Topics) -> AsyncIterator[Erasures]:
    """Erasures whose answers are read from now on. Raises CliError when a topic is missing."""
    try:
        names = (topics.recommendations, topics.events_dlq)
        places = [place for name in names for place in await partitions_of(cluster, name)]
    except TopicMissing as error:
        raise CliError(str(error)) from error
    answers = cluster.consumer(max_partition_fetch_bytes=MAX_FETCH_BYTES)
    producer = cluster.producer(enable_idempotence=True, linger_ms=5)
    try:
        await answers.start()
        answers.assign(places)
        for place, end in (await answers.end_offsets(places)).items():
            answers.seek(place, end)
        await producer.start()
        yield Erasures(topics, producer, answers)
    finally:
        await asyncio.gather(producer.stop(), answers.stop())


def _event(user: str) -> bytes:
    return encode(Erase(user, time.time_ns() // 1_000_000))


def _answers(topics: Topics, batches: Any) -> Iterator[tuple[Place, str | None]]:
    """Places that these records answer: None for a tombstone, the reason for a dead letter."""
    for source, records in batches.items():
        for record in records:
            headers = dict(record.headers)
            if source.topic == topics.recommendations:
                if record.value is None:
                    for offset in msgspec.json.decode(headers.get(COVERS, b"[]"), type=list[int]):
                        yield (source.partition, offset), None
            elif headers.get("driftline-source-topic", b"").decode() == topics.events:
                place = int(headers["driftline-source-partition"]), int(headers["driftline-source-offset"])
                yield place, headers.get("driftline-message", b"").decode(errors="replace")
