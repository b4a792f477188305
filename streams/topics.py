"""Every topic: its name, partitions, retention and size limit; creating them and checking those that exist.

Knows nothing about what the records say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from streams.cluster import Cluster, running
from streams.names import Topics as Topics

DEFAULT_PARTITIONS = 4

_DAY_MS = 24 * 3600 * 1000
_MIB = 2**20
_USABLE_WITHIN_S = 30
_CHECKED = ("cleanup.policy", "max.message.bytes")
_TOPIC_EXISTS = 36  # Kafka's error code TOPIC_ALREADY_EXISTS


class TopicError(Exception):
    """A topic could not be created; the message names it and the cluster's reason."""


@dataclass(frozen=True)
class TopicSpec:
    """How one topic is made.

    Attributes:
        name: without the prefix.
        purpose: one line.
        cleanup: `delete`, `compact` or `compact,delete`.
        partitions: None where it follows `events`, whose partition numbers are carried over: an event of
            partition 3 is answered in partition 3, so these topics must have the same count.
        retention_ms: how long records are kept where `cleanup` deletes.
        max_message_bytes: the largest batch of records the topic accepts; None for the cluster's default (1 MiB).
    """

    name: str
    purpose: str
    cleanup: str
    partitions: int | None = None
    retention_ms: int | None = None
    max_message_bytes: int | None = None

    def count(self, shared: int) -> int:
        """Number of partitions when `events` has `shared`."""
        return self.partitions or shared

    def config(self) -> dict[str, str]:
        """The topic's settings in Kafka's own words."""
        config = {"cleanup.policy": self.cleanup}
        if self.retention_ms is not None:
            config["retention.ms"] = str(self.retention_ms)
        if self.max_message_bytes is not None:
            config["max.message.bytes"] = str(self.max_message_bytes)
        if "compact" not in self.cleanup:
            # Only whole segments are deleted, by their newest record: what is kept for a week is gone after eight days,
            # not after two weeks.
            config["segment.ms"] = str(_DAY_MS)
        else:
            # Reading the topic in full stays short under load (small segments are compacted early), and a tombstone
            # takes effect within a day, or with the partition's next record.
            config |= {"segment.bytes": str(64 * _MIB), "max.compaction.lag.ms": str(_DAY_MS)}
        return config


# Kafka checks max.message.bytes against a whole batch, and a transaction writes one batch per topic: 256 users'
# states of 3 KB or decisions of 8 KB pass 1 MiB easily. A dead letter holds an original of up to 1 MiB (or what
# that was before compression, cut to what fits: streams/deadletters.py) plus headers that say what was wrong with
# it. Writers need `max_request_size` as large.
SPECS: tuple[TopicSpec, ...] = (
    TopicSpec("events", "what users did, saw, asked for; key user", "delete", retention_ms=7 * _DAY_MS),
    # The embedder's parallelism; a vector is written to the partition of its item.
    TopicSpec("items", "the catalogue: texts and fields; key item, empty value: gone", "compact", partitions=4),
    TopicSpec("item_vectors", "item texts as vectors, read whole by every worker; key item", "compact", partitions=4),
    TopicSpec("recommendations", "the current slate; key user", "compact,delete", retention_ms=7 * _DAY_MS),
    TopicSpec(
        "decisions",
        "why that slate: candidates, scores, every adjustment; key user",
        "delete",
        retention_ms=7 * _DAY_MS,
        max_message_bytes=8 * _MIB,
    ),
    TopicSpec(
        "outcomes",
        "slates joined with what happened to them; key user",
        "delete",
        retention_ms=30 * _DAY_MS,
        max_message_bytes=8 * _MIB,
    ),
    TopicSpec("state", "user states, the engine's own; key user", "compact", max_message_bytes=8 * _MIB),
    TopicSpec(
        "models",
        "which release is current, the online estimators, how far training has come; key release, estimator, trainer",
        "compact",
        partitions=1,
        max_message_bytes=8 * _MIB,
    ),
    TopicSpec(
        "events.dlq",
        "events that could not be used, with the reason",
        "delete",
        retention_ms=30 * _DAY_MS,
        max_message_bytes=4 * _MIB,
    ),
    TopicSpec(
        "items.dlq",
        "items that could not be used, with the reason",
        "delete",
        partitions=4,
        retention_ms=30 * _DAY_MS,
        max_message_bytes=4 * _MIB,
    ),
)


async def create(
    cluster: Cluster,
    topics: Topics,
    partitions: int = DEFAULT_PARTITIONS,
    replication: int | None = None,
) -> list[str]:
    """Create the topics that are missing and return their names; existing ones are left as they are.

    Args:
        cluster: where to create them.
        partitions: of `events` and the topics that follow it.
        replication: copies of each partition; by default as many as there are brokers, at most 3.

    Raises:
        TopicError: the cluster refused one.
    """
    async with _admin(cluster) as admin:
        existing = set(await admin.list_topics())
        brokers = len((await admin.describe_cluster())["brokers"])
        copies = replication or min(3, brokers)
        missing = [spec for spec in SPECS if topics.name(spec.name) not in existing]
        if not missing:
            return []
        response = await admin.create_topics(
            [_new_topic(topics.name(spec.name), spec, partitions, copies) for spec in missing]
        )
        created = [name for name, code, message in response.topic_errors if _created(name, code, message)]
        await _until_usable(admin, {topics.name(spec.name) for spec in missing})
    return created


async def _until_usable(admin: AIOKafkaAdminClient, names: set[str]) -> None:
    """The controller answers before the brokers know the new topics and each partition has a leader."""
    try:
        async with asyncio.timeout(_USABLE_WITHIN_S):
            while not names <= await _usable(admin):  # noqa: ASYNC110 (it happens on another machine)
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise TopicError(
            f"the new topics are not usable {_USABLE_WITHIN_S} s after their creation: look at the brokers' logs"
        ) from None


async def _usable(admin: AIOKafkaAdminClient) -> set[str]:
    return {
        topic["topic"]
        for topic in await admin.describe_topics()
        if all(partition["leader"] >= 0 for partition in topic["partitions"])
    }


def _created(name: str, code: int, message: str | None) -> bool:
    if code not in (0, _TOPIC_EXISTS):
        raise TopicError(f"topic {name} was not created: {message or for_code(code).__name__}")
    return code == 0  # otherwise somebody created it at the same moment


def _new_topic(name: str, spec: TopicSpec, partitions: int, copies: int) -> NewTopic:
    # An acknowledged record survives the loss of one broker, and writing goes on without that broker.
    config = spec.config() | {"min.insync.replicas": str(max(1, copies - 1))}
    return NewTopic(name, spec.count(partitions), copies, topic_configs=config)


async def verify(
    cluster: Cluster,
    topics: Topics,
    partitions: int = DEFAULT_PARTITIONS,
    inspected: Mapping[str, bool] | None = None,
) -> list[str]:
    """What is wrong with the topics, a sentence each with what to do; empty when all is well.

    `inspected`: full names of those to look at, and whether at their configuration too; None: all, at everything.
    """
    found = await inspect(cluster, topics, partitions, inspected)
    return [problem for problems in found.values() for problem in problems]


async def inspect(
    cluster: Cluster,
    topics: Topics,
    partitions: int = DEFAULT_PARTITIONS,
    inspected: Mapping[str, bool] | None = None,
) -> dict[str, list[str]]:
    """As `verify`, by the full name of each topic looked at."""
    wanted = dict.fromkeys(topics.all, True) if inspected is None else inspected
    async with _admin(cluster) as admin:
        # All are asked for: where topics are made automatically, asking for one by its name would make it.
        found = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
        looked_at = [name for name, config in wanted.items() if config and name in found]
        configs = await configurations(admin, looked_at, _CHECKED)
    problems: dict[str, list[str]] = {}
    for spec in SPECS:
        name = topics.name(spec.name)
        if name in found and name in wanted:
            problems[name] = _problems(name, spec, partitions, found[name], configs.get(name))
        elif name in wanted:
            hidden = f", or {cluster.login} may not see it" if cluster.logs_in else ""
            problems[name] = [f"{name} is missing{hidden}: create it with `driftline topics create`"]
    return problems


def _problems(name: str, spec: TopicSpec, partitions: int, count: int, config: Mapping[str, str] | None) -> list[str]:
    problems = []
    if count != spec.count(partitions):
        mend = "delete it, or use another DRIFTLINE_TOPIC_PREFIX, and create it again"
        if spec.partitions is None:
            mend = f"set DRIFTLINE_PARTITIONS={count} if all of events' followers have {count}, or {mend}"
        problems.append(f"{name} has {count} partitions instead of {spec.count(partitions)}: {mend}")
    return problems if config is None else problems + _config_problems(name, spec, config)


def _config_problems(name: str, spec: TopicSpec, config: Mapping[str, str]) -> list[str]:
    problems = []
    policy = config["cleanup.policy"]
    if set(policy.split(",")) != set(spec.cleanup.split(",")):
        problems.append(
            f"{name} has cleanup.policy {policy} instead of {spec.cleanup}: "
            f"alter the topic's configuration to cleanup.policy={spec.cleanup}"
        )
    limit = int(config["max.message.bytes"])
    if spec.max_message_bytes is not None and limit < spec.max_message_bytes:
        problems.append(
            f"{name} has max.message.bytes {limit}, at least {spec.max_message_bytes} are needed: "
            f"alter the topic's configuration to max.message.bytes={spec.max_message_bytes}"
        )
    return problems


async def configurations(
    admin: AIOKafkaAdminClient, names: Sequence[str], settings: Iterable[str]
) -> dict[str, dict[str, str]]:
    """The values of these settings of each topic. Raises `TopicError` where the cluster does not tell."""
    wanted = dict.fromkeys(settings)
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, wanted) for name in names]
    if not resources:
        return {}
    configs: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(resources):
        for code, message, _type, name, entries in response.resources:
            if code:
                raise TopicError(f"topic {name} cannot be inspected: {message or for_code(code).__name__}")
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs


@contextlib.asynccontextmanager
async def _admin(cluster: Cluster) -> AsyncIterator[Any]:
    async with running(cluster.admin()) as admin:
        yield admin
