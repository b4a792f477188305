"""Topic `models`: which release is current, the last snapshot of the online estimators, how far training has come.

Compacted, one partition, three keys; whoever wants to know reads it to its end. Knows the contracts; knows
nothing of what a release holds or how an estimator learns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from aiokafka import ConsumerRecord
from aiokafka.errors import IllegalOperation, InvalidProducerEpoch, KafkaError, ProducerFenced

from models.release import WEIGHTS
from streams.cluster import Cluster, running
from streams.contracts import EstimatorSnapshot, ModelMessage, ReleasePointer, TrainerState, encode
from streams.restore import read_to_end
from streams.transactions import Fenced, NotCommitted

T = TypeVar("T")

RELEASE_KEY = b"release"
ESTIMATOR_KEY = b"estimator"
TRAINER_KEY = b"trainer"

AUDIT = "driftline-audit"
"""Header of an estimator snapshot: the state of the exposure model's audit, JSON."""


@dataclass(frozen=True, slots=True)
class Published:
    """What the topic says now; None: nothing yet, or taken back by a null value."""

    release: ReleasePointer | None = None
    estimator: EstimatorSnapshot | None = None
    audit: bytes | None = None
    trainer: TrainerState | None = None


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
        trainer=_decoded(last.get(TRAINER_KEY), TrainerState),
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
    async with running(cluster.producer(enable_idempotence=True)) as producer:
        await producer.send_and_wait(topic, key=RELEASE_KEY, value=encode(pointer))


class ModelsWriter:
    """Writes to the topic in transactions. Opening it fences every earlier writer of the same transactional id."""

    def __init__(
        self, cluster: Cluster, transactional_id: str, topic: str, transaction_timeout_ms: int = 30_000
    ) -> None:
        self._topic = topic
        self._producer = cluster.producer(
            transactional_id=transactional_id,
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

    async def write(self, *messages: tuple[bytes, ModelMessage], headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Write messages by key, all or none; the headers go with each.

        Raises `Fenced` when another writer has taken over, `NotCommitted` otherwise. After either this writer must be
        closed: the messages may or may not have been written.
        """
        try:
            await self._producer.begin_transaction()
            for key, message in messages:
                await self._producer.send_and_wait(self._topic, key=key, value=encode(message), headers=list(headers))
            await self._producer.commit_transaction()
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(f"another learner is active now: {error}") from error
        except (KafkaError, IllegalOperation, OSError, TimeoutError) as error:
            raise NotCommitted(f"{messages[0][0].decode()} not published: {error!r}") from error

    async def close(self) -> None:
        """Close the connections; an open transaction is left for the next writer's fence to abort."""
        try:
            await self._producer.stop()
        except (KafkaError, OSError, TimeoutError):
            await self._producer.client.close()  # a fenced producer's stop raises before it closes its connections


class SnapshotWriter(ModelsWriter):
    """The estimators' writer of an app."""

    def __init__(self, cluster: Cluster, app_id: str, topic: str, transaction_timeout_ms: int = 30_000) -> None:
        super().__init__(cluster, f"{app_id}-learner", topic, transaction_timeout_ms)

    async def publish(self, snapshot: EstimatorSnapshot, audit: bytes) -> None:
        """Write the snapshot; raises as `write` does."""
        await self.write((ESTIMATOR_KEY, snapshot), headers=[(AUDIT, audit)])


class TrainerWriter(ModelsWriter):
    """The trainer's writer of an app: releases, and how far training has come."""

    def __init__(self, cluster: Cluster, app_id: str, topic: str, transaction_timeout_ms: int = 30_000) -> None:
        super().__init__(cluster, f"{app_id}-trainer", topic, transaction_timeout_ms)

    async def publish(self, state: TrainerState, pointer: ReleasePointer | None = None) -> None:
        """Write where training is, and a release with it; raises as `write` does."""
        release = () if pointer is None else ((RELEASE_KEY, pointer),)
        await self.write((TRAINER_KEY, state), *release)


def pointer_to(directory: Path, created: int) -> ReleasePointer:
    """The pointer to a release saved in `directory`, made at `created` (ms). Raises OSError when it is not there."""
    digest = hashlib.sha256((directory / WEIGHTS).read_bytes()).hexdigest()
    return ReleasePointer(release=directory.name, digest=digest, created=created)
