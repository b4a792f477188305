"""Topic `models`: which release is current, and the last snapshot of the online estimators.

Compacted, one partition, two keys; whoever wants to know reads it to its end. Knows the contracts; knows
nothing of what a release holds or how an estimator learns.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from aiokafka import ConsumerRecord
from aiokafka.errors import IllegalOperation, InvalidProducerEpoch, KafkaError, ProducerFenced

from models.release import WEIGHTS
from streams.cluster import Cluster
from streams.contracts import EstimatorSnapshot, ReleasePointer, encode
from streams.restore import read_to_end
from streams.transactions import Fenced, NotCommitted

T = TypeVar("T")

RELEASE_KEY = b"release"
ESTIMATOR_KEY = b"estimator"

AUDIT = "driftline-audit"
"""Header of an estimator snapshot: the state of the exposure model's audit, JSON."""


@dataclass(frozen=True, slots=True)
class Published:
    """What the topic says now; None: nothing yet, or taken back by a null value."""

    release: ReleasePointer | None = None
    estimator: EstimatorSnapshot | None = None
    audit: bytes | None = None


async def read_models(cluster: Cluster, topic: str) -> Published:
    """Return the current release pointer and estimator snapshot.

    Raises ValueError for a record that cannot be read: to go on without it would silently start over.
    """
    last: dict[bytes | None, ConsumerRecord] = {}
    await read_to_end(cluster, topic, lambda record: last.update({record.key: record}))
    estimator = last.get(ESTIMATOR_KEY)
    return Published(
        release=_decoded(last.get(RELEASE_KEY), ReleasePointer),
        estimator=_decoded(estimator, EstimatorSnapshot),
        audit=dict(estimator.headers).get(AUDIT) if estimator else None,
    )


def _decoded(record: ConsumerRecord | None, kind: type[T]) -> T | None:
    if record is None or record.value is None:
        return None
    try:
        return msgspec.json.decode(record.value, type=kind)
    except msgspec.DecodeError as error:
        raise ValueError(
            f"topic {record.topic}, offset {record.offset}, key {record.key!r} cannot be read: {error}; "
            "expected what this version writes. A null value under that key starts over"
        ) from error


async def publish_release(cluster: Cluster, topic: str, pointer: ReleasePointer) -> None:
    """Make a release the current one; returns when the cluster has it."""
    producer = cluster.producer(enable_idempotence=True)
    await producer.start()
    try:
        await producer.send_and_wait(topic, key=RELEASE_KEY, value=encode(pointer))
    finally:
        await producer.stop()


class SnapshotWriter:
    """Writes estimator snapshots in transactions. Opening it fences every earlier writer of the app."""

    def __init__(self, cluster: Cluster, app_id: str, topic: str, transaction_timeout_ms: int = 30_000) -> None:
        self._topic = topic
        self._producer = cluster.producer(
            transactional_id=f"{app_id}-learner",
            transaction_timeout_ms=transaction_timeout_ms,
            request_timeout_ms=15_000,
            max_request_size=8 * 1024 * 1024,
        )

    async def open(self) -> None:
        """Returns only when no earlier writer can publish any more, and none of its transactions is open."""
        try:
            await self._producer.start()
        except (KafkaError, OSError) as error:
            raise NotCommitted(f"could not open the learner's transactions: {error}") from error

    async def publish(self, snapshot: EstimatorSnapshot, audit: bytes) -> None:
        """Write the snapshot. Raises `Fenced` when another writer has taken over, `NotCommitted` otherwise.

        After either this writer must be closed: the snapshot may or may not have been written.
        """
        try:
            await self._producer.begin_transaction()
            await self._producer.send_and_wait(
                self._topic, key=ESTIMATOR_KEY, value=encode(snapshot), headers=[(AUDIT, audit)]
            )
            await self._producer.commit_transaction()
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(f"another learner is active now: {error}") from error
        except (KafkaError, IllegalOperation, OSError, TimeoutError) as error:
            raise NotCommitted(f"snapshot {snapshot.estimator} not published: {error!r}") from error

    async def close(self) -> None:
        """Close the connections; an open transaction is left for the next writer's fence to abort."""
        try:
            await self._producer.stop()
        except (KafkaError, OSError, TimeoutError):
            await self._producer.client.close()  # a fenced producer's stop raises before it closes its connections


def pointer_to(directory: Path, created: int) -> ReleasePointer:
    """The pointer to a release saved in `directory`, made at `created` (ms). Raises OSError when it is not there."""
    digest = hashlib.sha256((directory / WEIGHTS).read_bytes()).hexdigest()
    return ReleasePointer(release=directory.name, digest=digest, created=created)
