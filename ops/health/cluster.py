"""What a Kafka cluster is: its brokers, its release as far as it tells, who leads it, and what its clock says.

Knows nothing of topics, or of what is concluded from it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

from aiokafka.errors import IncompatibleBrokerVersion

from ops.health.protocol import FEATURES, SUPPORTED_FEATURES, ApiVersionsRequest, DescribeQuorumRequest
from streams.cluster import Cluster, running

_FETCH = 1
_FETCH_OF_KAFKA_4 = 4
"""Kafka 4.0 takes no older version of Fetch (KIP-896)."""

# The highest metadata.version that each release has (org.apache.kafka.server.common.MetadataVersion); there is no
# request that tells a broker's release itself.
_RELEASES = (
    (7, "3.3"),
    (8, "3.4"),
    (11, "3.5"),
    (14, "3.6"),
    (19, "3.7"),
    (20, "3.8"),
    (21, "3.9"),
    (25, "4.0"),
    (27, "4.1"),
    (29, "4.2"),
    (30, "4.3"),
)


@dataclass(frozen=True, slots=True)
class Release:
    """Kafka's release, as far as a broker tells it: `words` for people; `least` for comparisons, as (major, minor)."""

    words: str
    least: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of the leader of the metadata quorum: so much ahead of this machine's, give or take `within`."""

    ahead_s: float
    within_s: float


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """A cluster. `controller`: the leader of the metadata quorum; None where the cluster does not tell who that is."""

    id: str
    brokers: Mapping[int, str]
    controller: int | None
    release: Release
    clock: Clock | None


async def read_cluster(cluster: Cluster) -> ClusterFacts:
    """Ask a cluster what it is. Raises KafkaError or OSError where it does not answer."""
    async with running(cluster.admin()) as admin:
        found = await admin.describe_cluster()
    brokers = {one["node_id"]: f"{one['host']}:{one['port']}" for one in found["brokers"]}
    controller, clock = await read_quorum(cluster)
    return ClusterFacts(str(found["cluster_id"]), brokers, controller, await read_release(cluster), clock)


async def read_release(cluster: Cluster) -> Release:
    """The release of the broker that answers first."""
    answer = await cluster.ask(ApiVersionsRequest())
    keys = {key: (least, most) for key, least, most, _ in answer.api_keys}
    features = FEATURES.decode(BytesIO(answer.tags.get(SUPPORTED_FEATURES, b"\x01"))) or []
    return release(keys, {name: most for name, _, most, _ in features})


def release(api_keys: Mapping[int, tuple[int, int]], features: Mapping[str, int]) -> Release:
    """The release of a broker that takes these versions of requests, and has these features up to these levels."""
    level = features.get("metadata.version", 0)
    names = [name for most, name in _RELEASES if level <= most]
    if level and names:
        return Release(names[0], _numbers(names[0]))
    if level:
        newest = _RELEASES[-1][1]
        return Release(f"newer than {newest}", _numbers(newest))
    if api_keys.get(_FETCH, (0, 0))[0] >= _FETCH_OF_KAFKA_4:
        return Release("4.0 or later", (4, 0))
    return Release("older than 4.0", (0, 0))


async def read_quorum(cluster: Cluster) -> tuple[int | None, Clock | None]:
    """Who leads the metadata quorum, and its clock; None where the cluster does not tell.

    The leader says of itself that it has last fetched just now, by its own clock. It was somewhere between the
    question and the answer, so the reading is good to half of the time between them.
    """
    before = time.time()
    try:
        answer = await cluster.ask(DescribeQuorumRequest())
    except (IncompatibleBrokerVersion, NotImplementedError):
        return None, None
    after = time.time()
    if answer.error_code or not answer.topics or answer.topics[0][1][0][1]:
        return None, None  # not permitted, say
    _, _, leader, _, _, voters, _, _ = answer.topics[0][1][0]
    told = [fetched for replica, _, fetched, _, _ in voters if replica == leader and fetched > 0]
    clock = Clock(told[0] / 1000 - (before + after) / 2, (after - before) / 2) if told else None
    return leader, clock


def _numbers(name: str) -> tuple[int, int]:
    major, minor = name.split(".")
    return int(major), int(minor)
