"""What contenders are fed: the world (items, release, states of users with a past) and events, at once or at a rate.

User u belongs to partition u mod partitions, so that a state can be laid where his events will go. Knows nothing of who
reads it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np

from bench.synthetic import Ints, Synthetic, zipf_users
from models.release import Release
from streams.cluster import Cluster
from streams.contracts import Interaction, ReleasePointer, encode
from streams.names import Topics
from streams.releases import RELEASE_KEY
from streams.state import encode_state

AT_ONCE = 200  # records of a batch: below half a megabyte for the largest
PAST_EVENTS = 100  # most of a user's past: what two layers of window 50 need

Place = tuple[int, int]
"""Partition and offset of an event."""


class Load:
    """Writes to the topics of one contender."""

    def __init__(self, cluster: Cluster, topics: Topics, synthetic: Synthetic, users: int, partitions: int) -> None:
        self._topics, self._synthetic = topics, synthetic
        self._users, self._partitions = users, partitions
        self._producer = cluster.producer(max_batch_size=2**19, max_request_size=2**23)
        self._random = np.random.default_rng(synthetic.seed)
        self._next, self._past = [0] * partitions, [0] * partitions

    async def __aenter__(self) -> Load:
        await self._producer.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._producer.stop()

    async def world(self, release: Release) -> None:
        """Publish the items, the release's pointer, and a state for each user."""
        vectors = [(item.item.encode(), encode(item)) for item in self._synthetic.items]
        await self._write(self._topics.item_vectors, 0, vectors)
        pointer = ReleasePointer(release.id, "", _now_ms())
        await self._write(self._topics.models, 0, [(RELEASE_KEY, encode(pointer))])
        states = self._synthetic.histories(self._users, PAST_EVENTS, _now_ms() - 3_600_000)
        for partition in range(self._partitions):
            mine = range(partition, self._users, self._partitions)
            records = [(_key(user), encode_state(states[user])) for user in mine]
            await self._write(self._topics.state, partition, records)
            self._past[partition] = len(records)

    def written(self, partition: int) -> tuple[int, int]:
        """How many events a partition holds, and how many states were laid into it."""
        return self._next[partition], self._past[partition]

    @property
    def count(self) -> int:
        """How many events were handed to the producer in all."""
        return sum(self._next)

    async def everybody(self) -> int:
        """One event of each user, in random order; returns their number."""
        return await self._backlog(self._random.permutation(self._users))

    async def backlog(self, count: int) -> int:
        """`count` events of users as active as Zipf has it."""
        return await self._backlog(zipf_users(self._users, count, self._random))

    async def steadily(self, per_second: float, seconds: float) -> dict[Place, float]:
        """Events at a fixed rate; returns when each was handed to the producer (time.monotonic)."""
        count = round(per_second * seconds)
        users = zipf_users(self._users, count, self._random)
        events = self._events(users)
        sent: dict[Place, float] = {}
        started = time.monotonic()
        for at, (user, (key, value)) in enumerate(zip(users.tolist(), events, strict=True)):
            await asyncio.sleep(started + at / per_second - time.monotonic())
            partition = user % self._partitions
            sent[partition, self._next[partition]] = time.monotonic()
            self._next[partition] += 1
            await self._producer.send(self._topics.events, value, key, partition)
        await self._producer.flush()
        return sent

    async def in_bursts(self, per_second: float, seconds: float, every_s: float = 0.05) -> dict[Place, float]:
        """As `steadily`, a batch for each partition every so often: it takes the machine far less time.

        Where it falls behind its own clock, it sends what is due all the same.
        """
        count, done = round(per_second * seconds), 0
        users = zipf_users(self._users, count, self._random)
        events = self._events(users)
        sent: dict[Place, float] = {}
        started = time.monotonic()
        while done < count:
            await asyncio.sleep(every_s)
            due = min(count, round(per_second * (time.monotonic() - started)))
            for partition in range(self._partitions):
                mine = [events[at] for at in range(done, due) if users[at] % self._partitions == partition]
                now = time.monotonic()
                for offset in range(self._next[partition], self._next[partition] + len(mine)):
                    sent[partition, offset] = now
                self._next[partition] += len(mine)
                await self._write(self._topics.events, partition, mine)
            done = due
        return sent

    async def _backlog(self, users: Ints) -> int:
        events = self._events(users)
        for partition in range(self._partitions):
            mine = [events[at] for at in np.flatnonzero(users % self._partitions == partition).tolist()]
            await self._write(self._topics.events, partition, mine)
            self._next[partition] += len(mine)
        return len(events)

    def _events(self, users: Ints) -> list[tuple[bytes, bytes]]:
        items = self._synthetic.events(users, sum(self._next))
        now = _now_ms()
        return [
            (_key(user), encode(Interaction(f"user-{user}", item, now)))
            for user, item in zip(users.tolist(), items, strict=True)
        ]

    async def _write(self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
        for start in range(0, len(records), AT_ONCE):
            batch = self._producer.create_batch()
            for key, value in records[start : start + AT_ONCE]:
                batch.append(key=key, value=value, timestamp=None)
            await self._producer.send_batch(batch, topic, partition=partition)
        await self._producer.flush()


def _key(user: int) -> bytes:
    return f"user-{user}".encode()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
