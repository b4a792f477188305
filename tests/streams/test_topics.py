"""Topics against a real broker: made as specified, and whatever differs is said in words."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError

from streams.cluster import Cluster
from streams.topics import SPECS, TopicError, Topics, create, verify

if TYPE_CHECKING:
    from tests.conftest import Wire

pytestmark = pytest.mark.broker


@pytest.fixture
def fresh() -> Topics:
    """Names of which no topic exists yet."""
    return Topics(f"test-{uuid.uuid4().hex[:8]}.")


async def test_created_topics_verify(cluster: Cluster, fresh: Topics) -> None:
    assert set(await create(cluster, fresh)) == set(fresh.all)
    assert await verify(cluster, fresh) == []


async def test_create_makes_only_what_is_missing(cluster: Cluster, fresh: Topics) -> None:
    await make(cluster, NewTopic(fresh.events, 4, 1, topic_configs={"cleanup.policy": "delete"}))
    assert fresh.events not in await create(cluster, fresh)
    assert await create(cluster, fresh) == []
    assert await verify(cluster, fresh) == []


async def test_missing_topics_are_named(cluster: Cluster, fresh: Topics) -> None:
    problems = await verify(cluster, fresh)
    assert len(problems) == len(SPECS)
    assert problems[0] == f"{fresh.events} is missing: create it with `driftline topics create`"


async def test_wrong_partition_counts_are_named(cluster: Cluster, topics: Topics) -> None:
    problems = await verify(cluster, topics, partitions=8)
    wrong = {problem.split()[0] for problem in problems}
    assert wrong == {
        topics.name(name) for name in ("events", "recommendations", "decisions", "outcomes", "state", "events.dlq")
    }
    assert f"{topics.events} has 4 partitions instead of 8: set DRIFTLINE_PARTITIONS=4" in problems[0]


async def test_wrong_cleanup_policy_is_named(cluster: Cluster, topics: Topics) -> None:
    await alter(cluster, topics.state, {"cleanup.policy": "delete", "max.message.bytes": str(8 * 2**20)})
    [problem] = await verify(cluster, topics)
    assert problem.startswith(f"{topics.state} has cleanup.policy delete instead of compact")


async def test_order_of_cleanup_policies_does_not_matter(cluster: Cluster, topics: Topics) -> None:
    await alter(cluster, topics.recommendations, {"cleanup.policy": "delete,compact"})
    assert await verify(cluster, topics) == []


async def test_small_message_size_is_named(cluster: Cluster, topics: Topics) -> None:
    await alter(cluster, topics.events_dlq, {"max.message.bytes": "1048588"})
    [problem] = await verify(cluster, topics)
    assert problem.startswith(f"{topics.events_dlq} has max.message.bytes 1048588, at least 4194304")


@pytest.mark.parametrize("partitions", [2])
async def test_dead_letters_hold_a_full_event_and_its_headers(cluster: Cluster, topics: Topics) -> None:
    producer = cluster.producer(max_request_size=5 * 2**20)
    await producer.start()
    try:
        value, headers = bytes(2**20), [("why", bytes(2**16))]
        await producer.send_and_wait(topics.events_dlq, value, headers=headers)
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send_and_wait(topics.events, value, headers=headers)
    finally:
        await producer.stop()


async def test_a_refused_topic_is_an_error_that_says_why(cluster: Cluster, fresh: Topics) -> None:
    with pytest.raises(TopicError, match=r"events was not created.*replication factor"):
        await create(cluster, fresh, replication=3)


async def test_only_committed_records_are_read(cluster: Cluster, topics: Topics, wire: Wire) -> None:
    producer = cluster.producer(transactional_id=topics.prefix)
    await producer.start()
    try:
        for value, commit in ((b"kept", True), (b"dropped", False)):
            await producer.begin_transaction()
            await producer.send_and_wait(topics.state, value, key=b"u", partition=1)
            await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await producer.stop()
    await wire.produce(topics.state, [(b"u", b"plain")], partition=2)
    records = [(record.partition, record.value) for record in await wire.read(topics.state)]
    assert records == [(1, b"kept"), (2, b"plain")]


def test_what_is_written_many_records_a_batch_or_large_has_room() -> None:
    limits = {spec.name: spec.max_message_bytes for spec in SPECS}
    assert [limits[name] for name in ("decisions", "outcomes", "state", "models")] == [8 * 2**20] * 4


def test_names_carry_the_prefix() -> None:
    names = Topics("shop.")
    assert names.events == "shop.events" and names.events_dlq == "shop.events.dlq"
    properties = {getattr(names, spec.name.replace(".", "_")) for spec in SPECS}
    assert properties == set(names.all)


async def make(cluster: Cluster, topic: NewTopic) -> None:
    admin = cluster.admin()
    await admin.start()
    try:
        response = await admin.create_topics([topic])
    finally:
        await admin.close()
    assert response.topic_errors[0][1] == 0, response


async def alter(cluster: Cluster, topic: str, config: dict[str, str]) -> None:
    admin = cluster.admin()
    await admin.start()
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, config)
        await admin.alter_configs([resource])
        async with asyncio.timeout(30):
            while not await altered(admin, resource):
                await asyncio.sleep(0.02)
    finally:
        await admin.close()


async def altered(admin: AIOKafkaAdminClient, resource: ConfigResource) -> bool:
    """Whether the broker knows what the controller has accepted."""
    [response] = await admin.describe_configs([resource])
    entries = response.resources[0][4]
    return {entry[0]: entry[1] for entry in entries} == resource.configs
