"""One partition of a changelog as the cluster knows it: which it is, from where to where, how long tombstones last.

A topic deleted and made again under its name is another topic; only its id tells. Knows nothing about what
is in it.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from streams.cluster import Cluster, running

log = structlog.get_logger(__name__)

DEFAULT_TOMBSTONE_SECONDS = 24 * 3600.0
"""Kafka's delete.retention.ms, where the topic's own cannot be read."""

_NO_ID = uuid.UUID(int=0)


@dataclass(frozen=True, slots=True)
class Changelog:
    """What can be asked of the cluster.

    Attributes:
        origin: cluster, topic id, partition and first offset in one; None where the cluster has no topic ids. The
            first offset of a compacted log stays what it is unless somebody deletes records.
        end: the offset after the last committed record.
        tombstone_seconds: how long a tombstone can be read after it was written, at least.
    """

    origin: str | None
    first: int
    end: int
    tombstone_seconds: float = DEFAULT_TOMBSTONE_SECONDS


async def describe(cluster: Cluster, source: TopicPartition, consumer: AIOKafkaConsumer, whose: bool) -> Changelog:
    """Ask the cluster about one partition; `whose`: also what only matters to a store that outlives its process.

    Raises KafkaError, OSError.
    """
    first = (await consumer.beginning_offsets([source]))[source]
    end = (await consumer.end_offsets([source]))[source]
    if not whose:
        return Changelog(None, first, end)
    async with running(cluster.admin()) as admin:
        identity = await topic_identity(admin, source.topic)
        tombstone_seconds = await _tombstone_seconds(admin, source.topic)
    origin = None if identity is None else f"{identity}/{source.partition}@{first}"
    return Changelog(origin, first, end, tombstone_seconds)


async def topic_identity(admin: AIOKafkaAdminClient, topic: str) -> str | None:
    """Cluster id and topic id, None where the cluster has none (before Kafka 2.8).

    Raises KafkaError also where the cluster's answer says that it cannot tell just now.
    """
    try:
        # The client library stops at version 5 of this request; topic ids came with 10. It has no public way to
        # send a request of one's own.
        answer = (await admin._send_request(_MetadataRequest(topic))).to_object()
    except NotImplementedError:  # the library's word for a cluster that does not know the version
        return None
    (described,) = answer["topics"]
    if described["error_code"]:
        raise for_code(described["error_code"])(topic)
    return None if described["topic_id"] == _NO_ID else f"{answer['cluster_id']}/{described['topic_id']}"


async def _tombstone_seconds(admin: AIOKafkaAdminClient, topic: str) -> float:
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"delete.retention.ms": None})
    try:
        (answer,) = await admin.describe_configs([resource])
        ((code, message, _type, _name, entries),) = answer.resources
        if code:
            raise KafkaError(message or f"error {code}")
        return float(entries[0][1]) / 1000
    except KafkaError as error:
        log.warning("delete.retention.ms cannot be read, taken for Kafka's 24 h", topic=topic, error=str(error))
        return DEFAULT_TOMBSTONE_SECONDS


class _Uuid(AbstractType[uuid.UUID]):
    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


class _MetadataResponseV11(Response):
    API_KEY = 3
    API_VERSION = 11
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequestV11(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 11
    RESPONSE_TYPE = _MetadataResponseV11
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestV11]):
    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_MetadataRequestV11]) -> Any:
        return request_struct_class([(_NO_ID, self._topic, {})], False, False, {})
