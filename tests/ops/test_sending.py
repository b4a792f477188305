"""Sending: everything, in order, at the rate asked for; a refusal is raised."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from aiokafka.errors import TopicAuthorizationFailedError

from ops import sending
from ops.sending import send_all
from streams.cluster import Cluster
from streams.names import Topics
from tests.conftest import Wire


@pytest.mark.broker
async def test_records_arrive_in_order_of_key_and_are_counted(cluster: Cluster, topics: Topics, wire: Wire) -> None:
    records = [(f"u{number % 7}".encode(), str(number).encode()) for number in range(2000)]
    heard: list[int] = []
    assert await send_all(cluster, topics.events, iter(records), on_sent=heard.append) == 2000
    assert heard == list(range(1, 2001))
    found = await wire.read(topics.events)
    assert sorted(int(record.value) for record in found) == list(range(2000))
    for key in {key for key, _ in records}:
        mine = [int(record.value) for record in found if record.key == key]
        assert mine == sorted(mine)


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class FakeProducer:
    """Remembers when each record was sent; sending takes 10 ms of the clock. Refuses the value `refused`."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.at = clock, list[float]()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, topic: str, key: bytes, value: bytes) -> asyncio.Future[None]:
        self.at.append(self.clock.now)
        self.clock.now += 0.01
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if value == b"refused":
            done.set_exception(TopicAuthorizationFailedError())
        else:
            done.set_result(None)
        return done


class ClusterOf(Cluster):
    """A cluster whose only producer is a fake."""

    def __init__(self, producer: FakeProducer) -> None:
        super().__init__("nowhere:1")
        object.__setattr__(self, "fake", producer)

    def producer(self, **options: Any) -> Any:
        return self.fake


async def test_the_rate_is_kept_whatever_sending_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    producer = FakeProducer(clock)
    monkeypatch.setattr(sending, "time", clock)
    monkeypatch.setattr(sending.asyncio, "sleep", clock.sleep)
    await send_all(ClusterOf(producer), "events", [(b"", b"")] * 11, rate=20)
    assert producer.at == pytest.approx([100 + number / 20 for number in range(11)])


async def test_what_the_cluster_refuses_is_raised_and_ends_it() -> None:
    producer = FakeProducer(Clock())
    endless = itertools.chain([(b"", b"refused")], itertools.repeat((b"", b"")))
    with pytest.raises(TopicAuthorizationFailedError):
        await send_all(ClusterOf(producer), "events", endless, rate=1000)
