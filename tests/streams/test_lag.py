"""How far behind a worker says it is: what it knows, and nothing where it does not know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from streams.broadcast import Shelf
from streams.cluster import Cluster
from streams.contracts import ReleasePointer
from streams.engine_config import EngineConfig
from streams.names import Topics
from streams.partition import Partition
from streams.worker import Worker, WorkerConfig
from tests import small

NOWHERE = Cluster("127.0.0.1:9")
TOPICS = Topics()


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    engine = EngineConfig(NOWHERE, "app", TOPICS.events, TOPICS.state, TOPICS.events_dlq)
    made = Worker(WorkerConfig(engine, small.config(), TOPICS, Path("releases")))
    yield made
    await made._engine._consumer.stop()


def own(worker: Worker, number: int, monkeypatch: pytest.MonkeyPatch, end: int | None) -> Partition:
    """Give the worker a partition, whose log ends at `end` by the last answer that was fetched."""
    source, engine = TopicPartition(TOPICS.events, number), worker._engine
    owned = engine._partitions[source] = Partition(source, engine._means, engine._consumer, engine)
    monkeypatch.setattr(engine._consumer, "highwater", lambda place: end)
    return owned


async def test_the_lag_is_unknown_until_a_partition_is_taken_over_and_read(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned = own(worker, 0, monkeypatch, end=None)
    assert worker.status()["lag"] is None
    owned.next_offset = 5
    owned.intake.open(5)
    assert worker.status()["lag"] is None  # nothing was fetched yet
    own_end = {"end": 9}
    monkeypatch.setattr(worker._engine._consumer, "highwater", lambda place: own_end["end"])
    assert (worker.status()["lag"], worker.status()["partitions"][0]["lag"]) == (4, 4)
    owned.intake.shut()  # it failed, and is to be taken over again: what was read last is old
    assert (worker.status()["lag"], worker.status()["partitions"][0]["lag"]) == (None, None)


async def test_who_owns_nothing_is_not_behind(worker: Worker) -> None:
    assert worker.status()["lag"] == 0


async def test_one_partition_that_is_not_known_hides_behind_no_other(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = own(worker, 0, monkeypatch, end=9)
    known.intake.open(0)
    own(worker, 1, monkeypatch, end=9)
    assert worker.status()["lag"] is None
    assert [one["lag"] for one in worker.status()["partitions"].values()] == [9, None]


async def test_a_release_that_was_loaded_is_named_before_the_first_event(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (worker.status()["release"], worker.status()["items"]) == (None, 0)
    shelf: Shelf = worker._broadcast._shelf
    monkeypatch.setattr(shelf, "_load", lambda pointer: small.world().model)
    shelf.tell_items(list(small.items().items()), (40,))
    shelf.tell_release(ReleasePointer(small.release().id, "", small.START))
    shelf.take_release((40,))
    told = worker.status()
    assert (told["release"], told["items"], told["catalogue"]) == (small.release().id, 40, [40])
