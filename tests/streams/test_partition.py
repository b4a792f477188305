"""One partition without Kafka: given up at the wrong moment, failing where it never should."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aiokafka import TopicPartition

from streams.cluster import Cluster
from streams.engine import Engine
from streams.engine_config import EngineConfig
from streams.job import Effects, NotNow, Record
from streams.partition import Means, Partition
from streams.store import MemoryStore, Store
from tests.streams.model_kafka import Entry

SOURCE = TopicPartition("events", 0)


class Pair:
    """Transactions that all go well, as fast as the test lets them."""

    def __init__(self, *arguments: Any) -> None:
        self.commits: list[int] = []
        self.committing = asyncio.Event()
        self.go_on = asyncio.Event()
        self.closing = asyncio.Event()
        self.may_close = asyncio.Event()
        self.may_close.set()
        self.closed = False

    async def open(self) -> None: ...

    async def commit(self, outputs: object, group: str, next_offset: int) -> dict[str, int]:
        self.committing.set()
        await self.go_on.wait()
        self.commits.append(next_offset)
        return {}

    async def close(self) -> None:
        self.closing.set()
        await self.may_close.wait()
        self.closed = True


class Poisoned:
    """Fails on every record."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.error: Exception = ZeroDivisionError()

    def assigned(self, partition: int, states: Mapping[bytes, bytes]) -> None: ...

    def revoked(self, partition: int) -> None: ...

    def apply(self, partition: int, records: Sequence[Record], states: Mapping[bytes, bytes]) -> Effects:
        self.asked.append(len(records))
        raise self.error


class Log:
    async def committed(self, source: TopicPartition) -> int:
        return 0

    async def beginning_offsets(self, sources: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(sources, 0)

    async def end_offsets(self, sources: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(sources, 100)


class SlowStores:
    """Opens a store when the test says so."""

    def __init__(self) -> None:
        self.opening, self.go_on = threading.Event(), threading.Event()
        self.opened: list[MemoryStore] = []
        self.closed = 0

    def open(self, partition: int) -> Store:
        self.opening.set()
        assert self.go_on.wait(30)
        store = MemoryStore()
        store.close = self._close  # type: ignore[method-assign]
        self.opened.append(store)
        return store

    def _close(self) -> None:
        self.closed += 1


class Engineer:
    """Hears of the partition in the engine's place."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def parked(self) -> None:
        self.heard.append("parked")

    def broken(self, error: BaseException) -> None:
        self.heard.append(repr(error))


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Pair:
    async def restored(*arguments: object) -> None: ...

    pair = Pair()
    monkeypatch.setattr("streams.partition.restore", restored)
    monkeypatch.setattr("streams.partition.TransactionPair", lambda *arguments: pair)
    return pair


@pytest.fixture
def stores() -> Iterator[SlowStores]:
    stores = SlowStores()
    yield stores
    stores.go_on.set()


@pytest.fixture
def engineer() -> Engineer:
    return Engineer()


@pytest.fixture
async def partition(pair: Pair, stores: SlowStores, engineer: Engineer) -> Partition:
    config = EngineConfig(Cluster("nowhere:1"), "app", "events", "state", "dead", park_seconds=0)
    means = Means(config, Poisoned(), stores, ThreadPoolExecutor(1))
    partition = Partition(SOURCE, means, Log(), engineer)
    partition.start()
    return partition


async def fed(partition: Partition, stores: SlowStores, count: int) -> None:
    """The partition has been taken over and has `count` records in hand."""
    stores.go_on.set()
    while not partition.intake.ready:
        await asyncio.sleep(0.001)
    partition.intake.seek_to = None
    partition.intake.offer([Entry(offset, b"a", b"x") for offset in range(count)])


async def end(partition: Partition, patience: float = 60) -> None:
    await partition.end(lambda: asyncio.sleep(patience))


async def test_a_store_that_is_being_opened_when_the_partition_is_given_up_is_closed(
    partition: Partition, stores: SlowStores
) -> None:
    """It would keep its slot for as long as the process lives."""
    await asyncio.to_thread(stores.opening.wait, 30)
    ending = asyncio.create_task(end(partition))
    await asyncio.sleep(0.01)
    stores.go_on.set()
    await ending
    assert (len(stores.opened), stores.closed) == (1, 1)


async def test_giving_up_does_not_wait_for_all_poison_of_a_batch(
    partition: Partition, stores: SlowStores, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.partition._UNPROVED_POISON_LIMIT", 99)
    await fed(partition, stores, 64)
    await pair.committing.wait()
    ending = asyncio.create_task(end(partition))
    await asyncio.sleep(0.01)
    pair.go_on.set()
    await ending
    assert pair.commits == [1]  # what was in hand, and no more
    assert partition._means.handler.asked == [64, 32, 16, 8, 4, 2, 1]  # type: ignore[attr-defined]
    assert pair.closed


async def test_closing_transactions_is_not_cut_short(partition: Partition, stores: SlowStores, pair: Pair) -> None:
    """What is left of a producer, its sender and its connections, would live on."""
    await fed(partition, stores, 1)
    await pair.committing.wait()
    pair.may_close.clear()
    ending = asyncio.create_task(end(partition, patience=0))
    await pair.closing.wait()
    assert partition._task is not None
    partition._task.cancel()  # as whoever is cancelled while he waits for it does
    await asyncio.sleep(0.01)
    pair.may_close.set()
    await ending
    assert pair.closed


async def test_a_partition_that_ends_by_itself_is_heard_of(
    partition: Partition, stores: SlowStores, engineer: Engineer, pair: Pair
) -> None:
    async def broken() -> None:
        raise ZeroDivisionError("closing")

    pair.close = broken  # type: ignore[method-assign]
    pair.go_on.set()
    await fed(partition, stores, 9)
    async with asyncio.timeout(20):
        while len(engineer.heard) < 2:  # too many poisonous records in a row, and then its tidying up fails, too
            await asyncio.sleep(0.001)
    assert engineer.heard == ["parked", "ZeroDivisionError('closing')"]
    await end(partition)


async def test_one_that_is_parked_while_it_is_given_up_does_not_end_the_engine() -> None:
    """The engine no longer counts it among its own, of which there may be none."""
    engine = Engine(EngineConfig(Cluster("nowhere:1"), "app", "events", "state", "dead"), Poisoned())
    engine.parked()
    assert not engine._stopping.is_set()
    engine.broken(ZeroDivisionError())
    assert engine._stopping.is_set()
    await engine._consumer.stop()


class Leaving:
    """An owned partition whose giving up takes a moment, or fails at once."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.ended = error, False

    async def end(self, out_of_patience: object) -> None:
        if self.error is not None:
            raise self.error
        await asyncio.sleep(0.01)
        self.ended = True


async def test_one_that_cannot_be_given_up_cuts_no_other_short() -> None:
    """Else its neighbour would be left in mid-batch, with nobody who waits for it."""
    engine = Engine(EngineConfig(Cluster("nowhere:1"), "app", "events", "state", "dead"), Poisoned())
    slow, sources = Leaving(), [TopicPartition("events", number) for number in range(2)]
    engine._partitions = dict(zip(sources, [Leaving(OSError("closing")), slow], strict=True))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="closing"):
        await engine._release(sources)
    assert slow.ended
    await engine._consumer.stop()


async def test_what_is_away_turns_no_record_into_a_letter(
    partition: Partition, pair: Pair, stores: SlowStores, engineer: Engineer
) -> None:
    handler: Any = partition._means.handler
    handler.error = NotNow("the registry does not answer")
    pair.go_on.set()
    await fed(partition, stores, 4)
    async with asyncio.timeout(20):
        while partition.status != "retrying":
            await asyncio.sleep(0.001)
    assert set(handler.asked) == {4} and pair.commits == [] and engineer.heard == []
    await end(partition)
