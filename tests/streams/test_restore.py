"""Reading topics to their end: everything committed, nothing aborted, and an end to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaError,
    PolicyViolationError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from structlog.testing import capture_logs

from streams.changelog import _NO_ID, Changelog, topic_identity
from streams.cluster import Cluster
from streams.restore import partitions_of, read_to_end, restore, why_not_go_on
from streams.store import MemoryStore, Store, StoreDamaged
from streams.store_disk import DiskStore
from streams.stores import DiskConfig, DiskStores
from streams.topics import Topics, create
from tests.conftest import Wire

pytestmark = pytest.mark.broker


async def test_reads_all_partitions_each_in_order(cluster: Cluster, topics: Topics, wire: Wire):
    for partition in range(3):
        await wire.produce(topics.events, [(b"k", b"%d" % number) for number in range(500)], partition=partition)
    found: dict[int, list[int]] = {}
    count = await read_to_end(
        cluster, topics.events, lambda record: found.setdefault(record.partition, []).append(int(record.value))
    )
    assert count == 1500
    assert found == {partition: list(range(500)) for partition in range(3)}
    one: list[int] = []
    assert await read_to_end(cluster, topics.events, lambda record: one.append(record.partition), partition=1) == 500
    assert set(one) == {1}
    assert await read_to_end(cluster, topics.items, one.append) == 0


async def test_what_was_aborted_or_is_not_committed_yet_is_not_there(cluster: Cluster, topics: Topics):
    producer = cluster.producer(transactional_id=f"{topics.prefix}t")
    await producer.start()
    for value, end in ((b"yes", "commit"), (b"aborted", "abort"), (b"also", "commit"), (b"open", None)):
        await producer.begin_transaction()
        await producer.send_and_wait(topics.models, value, key=b"k")
        if end:
            await getattr(producer, f"{end}_transaction")()
    found: list[bytes] = []
    async with asyncio.timeout(20):
        await read_to_end(cluster, topics.models, lambda record: found.append(record.value))
    await producer.abort_transaction()
    await producer.stop()
    assert found == [b"yes", b"also"]


async def test_restore_keeps_the_last_of_each_key_and_forgets_tombstones(cluster: Cluster, topics: Topics, wire: Wire):
    records = [(b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", None)]
    await wire.produce(topics.state, records, partition=2)
    store = MemoryStore()
    assert await restore(cluster, TopicPartition(topics.state, 2), store) == 4
    assert (dict(store), store.position) == ({b"a": b"2"}, 4)


async def test_restore_goes_on_from_where_the_store_is(cluster: Cluster, topics: Topics, wire: Wire):
    await wire.produce(topics.state, [(b"a", b"1"), (b"b", b"1")], partition=2)
    store = MemoryStore()
    store.take({b"mine": b"1"}, 1)
    await wire.produce(topics.state, [(b"c", b"1")], partition=2)
    assert await restore(cluster, TopicPartition(topics.state, 2), store) == 2
    assert dict(store) == {b"mine": b"1", b"b": b"1", b"c": b"1"}


async def alter(cluster: Cluster, topic: str, config: dict[str, str]) -> None:
    """Change a topic's configuration, and wait until the broker goes by it."""
    admin = cluster.admin()
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])
        found: dict[str, str] = {}
        while config.items() - found.items():
            (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])
            found = {entry[0]: entry[1] for entry in answer.resources[0][4]}
    finally:
        await admin.close()


OpenStore = Callable[[], DiskStore]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[OpenStore]:
    """Opens partition 2's store on disk, as each start of a worker does; at most one at a time."""
    opened: list[Store] = []

    def open_it() -> DiskStore:
        if opened:
            opened[-1].close()
        store = DiskStores(DiskConfig(tmp_path, "state", memory_mib=16)).open(2)
        assert isinstance(store, DiskStore)
        opened.append(store)
        return store

    yield open_it
    opened[-1].close()


async def test_a_store_on_disk_needs_the_tail_only(cluster: Cluster, topics: Topics, wire: Wire, open_store: OpenStore):
    source = TopicPartition(topics.state, 2)
    await wire.produce(topics.state, [(b"k%d" % (at % 50), b"%d" % at) for at in range(3000)], partition=2)
    assert await restore(cluster, source, open_store()) == 3000
    # The worker dies between the commit of these and `take`: they are in the changelog, and not in the store.
    await wire.produce(topics.state, [(b"k1", None), (b"k2", b"new")], partition=2)
    store = open_store()
    assert await restore(cluster, source, store) == 2
    expected = {b"k%d" % (at % 50): b"%d" % at for at in range(3000)} | {b"k2": b"new"}
    del expected[b"k1"]
    assert (dict(store), len(store), store.position) == (expected, 49, 3002)
    assert await restore(cluster, source, open_store()) == 0


async def test_a_topic_made_again_under_its_name_is_another(
    cluster: Cluster, topics: Topics, wire: Wire, open_store: OpenStore
):
    source = TopicPartition(topics.state, 2)
    await wire.produce(topics.state, [(b"old", b"1")], partition=2)
    store = open_store()
    await restore(cluster, source, store)
    before = store.origin
    admin = cluster.admin()
    await admin.start()
    await admin.delete_topics([topics.state])
    async with asyncio.timeout(20):
        while topics.state in await admin.list_topics():
            await asyncio.sleep(0.05)
        while not await create(cluster, topics):
            await asyncio.sleep(0.05)
    await admin.close()
    await wire.produce(topics.state, [(b"new", b"1"), (b"newer", b"1")], partition=2)
    store = open_store()
    with capture_logs() as logs:
        assert await restore(cluster, source, store) == 2
    assert dict(store) == {b"new": b"1", b"newer": b"1"}
    assert store.origin != before
    assert "another changelog" in next(one["reason"] for one in logs if one["log_level"] == "warning")


async def test_a_store_that_goes_further_than_the_changelog_is_rebuilt(
    cluster: Cluster, topics: Topics, wire: Wire, open_store: OpenStore
):
    source = TopicPartition(topics.state, 2)
    await wire.produce(topics.state, [(b"a", b"1")], partition=2)
    store = open_store()
    await restore(cluster, source, store)
    store.take({b"from nowhere": b"1"}, 7)
    with capture_logs() as logs:
        assert await restore(cluster, source, store) == 1
    assert (dict(store), store.position) == ({b"a": b"1"}, 1)
    assert "goes up to offset 7, the changelog ends at 1" in next(one["reason"] for one in logs if "reason" in one)


async def test_a_store_out_of_touch_for_longer_than_tombstones_last_is_rebuilt(
    cluster: Cluster, topics: Topics, wire: Wire, open_store: OpenStore
):
    """`erased` stands for a user whose tombstone was written and compacted away in the meantime."""
    source = TopicPartition(topics.state, 2)
    await wire.produce(topics.state, [(b"a", b"1")], partition=2)
    store = open_store()
    await restore(cluster, source, store)
    store.take({b"erased": b"1"}, 1, contact=time.time() - 5)
    assert await restore(cluster, source, store) == 0  # 24 h by default
    assert store.contact > time.time() - 5  # it has been in touch again
    store.take({}, 1, contact=time.time() - 5)
    await alter(cluster, topics.state, {"cleanup.policy": "compact", "delete.retention.ms": "8000"})
    assert await restore(cluster, source, store) == 1
    assert dict(store) == {b"a": b"1"}


async def test_a_changelog_whose_beginning_was_cut_off_is_another(
    cluster: Cluster, topics: Topics, wire: Wire, open_store: OpenStore
):
    source = TopicPartition(topics.state, 2)
    await wire.produce(topics.state, [(b"gone", b"1"), (b"a", b"1"), (b"b", b"1")], partition=2)
    await restore(cluster, source, open_store())
    await alter(cluster, topics.state, {"cleanup.policy": "delete"})  # Kafka refuses it of a compacted topic
    admin = cluster.admin()
    await admin.start()
    async with asyncio.timeout(20):
        while True:
            try:
                await admin.delete_records({source: RecordsToDelete(before_offset=1)})
                break
            except PolicyViolationError:  # what the broker says of itself comes a moment before what it does
                await asyncio.sleep(0.05)
    await admin.close()
    await alter(cluster, topics.state, {"cleanup.policy": "compact"})
    store = open_store()
    assert await restore(cluster, source, store) == 2
    assert dict(store) == {b"a": b"1", b"b": b"1"}


async def test_damage_met_while_catching_up_is_answered_by_a_rebuild(
    cluster: Cluster, topics: Topics, wire: Wire, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
):
    source = TopicPartition(topics.state, 2)
    await wire.produce(topics.state, [(b"a", b"1"), (b"b", b"1")], partition=2)
    store = open_store()
    await restore(cluster, source, store)
    await wire.produce(topics.state, [(b"c", b"1")], partition=2)
    take, failures = store.take, [StoreDamaged("a block")]

    def damaged_once(*arguments: object) -> None:
        if failures:
            raise failures.pop()
        take(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "take", damaged_once)
    assert await restore(cluster, source, store) == 3
    assert (dict(store), store.position) == ({b"a": b"1", b"b": b"1", b"c": b"1"}, 3)


async def test_only_at_the_end_has_a_store_been_in_touch(
    cluster: Cluster, topics: Topics, wire: Wire, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
):
    """Killed on the way there, it is as much out of touch as before: what is left to read may lack tombstones soon."""
    source = TopicPartition(topics.state, 2)
    await wire.produce(topics.state, [(b"a", b"1")], partition=2)
    store = open_store()
    await restore(cluster, source, store)
    before = time.time() - 100
    store.take({}, 1, contact=before)
    await wire.produce(topics.state, [(b"k%d" % at, b"1") for at in range(2500)], partition=2)
    take = store.take

    def killed_on_the_way(*arguments: object) -> None:
        if store.position > 1:
            raise KeyboardInterrupt
        take(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "take", killed_on_the_way)
    with pytest.raises(KeyboardInterrupt):
        await restore(cluster, source, store)
    assert 1 < store.position < 2501
    assert store.contact == before
    monkeypatch.undo()
    await restore(cluster, source, store)
    assert (store.position, len(store)) == (2501, 2501)
    assert store.contact > before + 50


async def test_a_topic_has_an_id_of_its_own(cluster: Cluster, topics: Topics):
    admin = cluster.admin()
    await admin.start()
    state, events = await topic_identity(admin, topics.state), await topic_identity(admin, topics.events)
    again = await topic_identity(admin, topics.state)
    await admin.close()
    assert state is not None
    assert events is not None
    assert state != events
    assert state == again
    assert state.split("/")[0] == events.split("/")[0]  # one cluster


class AnyStore(MemoryStore):
    def __init__(self, position: int, origin: str | None, contact: float, keep_seconds: float = 3600.0) -> None:
        super().__init__()
        self.position, self.origin, self.contact, self.keep_seconds = position, origin, contact, keep_seconds


NOW = 1_800_000_000.0
LOG = Changelog("cluster/topic/2@0", first=0, end=100, tombstone_seconds=10_000.0)


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        (AnyStore(0, "", 0.0), None),  # empty: nothing to distrust
        (AnyStore(100, "cluster/topic/2@0", NOW - 60), None),
        (AnyStore(101, "cluster/topic/2@0", NOW - 60), "ends at 100"),
        (AnyStore(50, "cluster/other/2@0", NOW - 60), "another changelog"),
        (AnyStore(50, "cluster/topic/2@9", NOW - 60), "another changelog"),
        (AnyStore(50, "", NOW - 60), "another changelog"),
        (AnyStore(50, "cluster/topic/2@0", NOW - 3601), "out of touch"),  # the setting
        (AnyStore(50, "cluster/topic/2@0", NOW - 3601, 9e9), None),
        (AnyStore(50, "cluster/topic/2@0", NOW - 5001, 9e9), "out of touch"),  # half of a tombstone's life
        (AnyStore(50, "cluster/topic/2@0", NOW + 30), None),
        (AnyStore(50, "cluster/topic/2@0", NOW + 90), "clock went back"),
        (AnyStore(50, None, 0.0), None),  # in memory: as old as its process
        (AnyStore(101, None, 0.0), "ends at 100"),
    ],
)
def test_what_a_store_has_is_gone_on_with_only_where_it_can_be_relied_on(store: Store, reason: str | None):
    why = why_not_go_on(store, LOG, NOW)
    assert why == reason if reason is None or why is None else reason in why


def test_without_topic_ids_nothing_is_relied_on():
    store = AnyStore(50, "", NOW)
    assert "no topic ids" in str(why_not_go_on(store, Changelog(None, 0, 100), NOW))


async def test_partitions_and_missing_topics(cluster: Cluster, topics: Topics):
    assert await partitions_of(cluster, topics.events) == [TopicPartition(topics.events, at) for at in range(4)]
    with pytest.raises(RuntimeError, match="topic nowhere does not exist: create it"):
        await read_to_end(cluster, "nowhere", lambda record: None)


@pytest.mark.parametrize("code", [TopicAuthorizationFailedError.errno, UnknownTopicOrPartitionError.errno])
async def test_an_answer_that_says_nothing_of_the_topic_is_not_taken_for_a_cluster_without_ids(code: int) -> None:
    """The store would be rebuilt for nothing."""
    described = {"error_code": code, "topic_id": _NO_ID}
    answer = SimpleNamespace(to_object=lambda: {"cluster_id": "c", "topics": [described]})
    admin = SimpleNamespace(_send_request=AsyncMock(return_value=answer))
    with pytest.raises(KafkaError, match="state"):
        await topic_identity(admin, "state")  # type: ignore[arg-type]
    described["error_code"] = 0
    assert await topic_identity(admin, "state") is None  # type: ignore[arg-type]
