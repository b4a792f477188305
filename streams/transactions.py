"""Two transactional producers in turn: one micro-batch's outputs, state and input offsets, all or nothing.

EndTxn answers before the transaction's markers are written, so the next transaction of the same
producer is told to wait and sleeps a fixed 20 ms; a second producer, used in turn, hides that. It is
sound because the second begins only after the first's commit was acknowledged, and because whoever
takes a partition over fences both ids before it reads anything (see docs/adr/0001).

Knows Kafka's transactions; knows nothing about what the records mean.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerEpoch,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
    RecordTooLargeError,
)

from streams.cluster import Cluster
from streams.job import OutputRecord

log = structlog.get_logger(__name__)

MAX_PRODUCED_BATCH_BYTES = 512 * 1024
MAX_RECORD_BYTES = 8 * 1024 * 1024
CLOSE_SECONDS = 5.0


class NotCommitted(Exception):
    """The transaction did not commit, or nobody can tell: drop what it held, bring the store up to date with the
    changelog, ask for the committed offset, and go on from there."""


class Fenced(NotCommitted):
    """Another worker owns the partition now: give it up."""


class TooLarge(NotCommitted):
    """A record is larger than its topic takes: the same outputs will never commit."""


@dataclass(frozen=True, slots=True)
class TransactionConfig:
    cluster: Cluster
    app_id: str
    transaction_timeout_ms: int = 30_000
    request_timeout_ms: int = 15_000


Sent = tuple["asyncio.Future[Any]", int]
"""The answer to a batch of records, and how many they are."""


class TransactionPair:
    """The two producers of one input partition. Opening it fences every earlier owner of the partition."""

    def __init__(self, config: TransactionConfig, source: TopicPartition) -> None:
        self._config = config
        self._source = source
        self._producers: list[AIOKafkaProducer] = []
        self._turn = 0

    async def open(self) -> None:
        """Start both producers. Returns only when both ids are fenced and no transaction of theirs is open."""
        for turn in (0, 1):
            producer = self._config.cluster.producer(
                client_id=f"{self._config.app_id}-{self._source.partition}-{turn}",
                transactional_id=f"{self._config.app_id}-{self._source.topic}-{self._source.partition}-{turn}",
                transaction_timeout_ms=self._config.transaction_timeout_ms,
                request_timeout_ms=self._config.request_timeout_ms,
                # A broker that is still checking the transaction turns a produce request away with "not enough
                # replicas"; the default wait of 100 ms would then be most of an event's latency.
                retry_backoff_ms=10,
                max_batch_size=MAX_PRODUCED_BATCH_BYTES,
                max_request_size=MAX_RECORD_BYTES,
            )
            self._producers.append(producer)
            try:
                await producer.start()
            except (KafkaError, OSError) as error:
                raise NotCommitted(f"could not open transactions for {self._source}: {error}") from error

    async def close(self) -> None:
        """Stop both producers, within seconds; an open transaction is left for the next owner's fence to abort."""
        await asyncio.gather(*(close_producer(producer) for producer in self._producers))
        self._producers.clear()

    async def commit(
        self, outputs: Mapping[str, Iterable[OutputRecord]], group: str, next_offset: int
    ) -> dict[str, int]:
        """Write `outputs` (topic → records, to the source's partition number) and the input offset as one.

        Returns, by topic, the offset after the last record written; a topic is missing where nothing was
        written or the broker did not say.

        Raises `Fenced` when another owner has taken over, `TooLarge` when a topic refuses the size of a record,
        `NotCommitted` for every other failure, among them that it took 5 s longer than the transaction may
        last. After any of them this pair must be closed and the state restored: the commit may or may not have
        reached the broker, and a refused record leaves a gap in its producer's sequence numbers.
        """
        producer = self._producers[self._turn]
        self._turn = 1 - self._turn
        try:
            async with asyncio.timeout(self._config.transaction_timeout_ms / 1000 + 5):  # the library has no limit
                await producer.begin_transaction()
                pending: dict[str, list[Sent]] = {}
                for topic, records in outputs.items():
                    pending[topic] = await self._send(producer, topic, records)
                # One after the other: while the coordinator notes the offsets down, the broker would turn the records
                # away ("not enough replicas"), since it cannot verify their transaction just then.
                await asyncio.gather(*(answer for sent in pending.values() for answer, _ in sent))
                await producer.send_offsets_to_transaction({self._source: next_offset}, group)
                await producer.commit_transaction()
                return _ends(pending)
        except (MessageSizeTooLargeError, RecordListTooLargeError, RecordTooLargeError) as error:
            await _abort(producer)
            raise TooLarge(f"an output of {self._source} is too large for its topic: {error!r}") from error
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise Fenced(f"{self._source} belongs to another worker now: {error}") from error
        # The library asserts what its state allows: after a fatal error not even a transaction's beginning.
        except (KafkaError, IllegalOperation, OSError, TimeoutError, AssertionError) as error:
            await _abort(producer)
            raise NotCommitted(f"transaction on {self._source} failed: {error!r}") from error

    async def _send(self, producer: AIOKafkaProducer, topic: str, records: Iterable[OutputRecord]) -> list[Sent]:
        pending: list[Sent] = []
        batch = producer.create_batch()

        async def send() -> None:
            answer = await producer.send_batch(batch, topic, partition=self._source.partition)
            pending.append((answer, batch.record_count()))

        for key, value, headers in records:
            if len(key or b"") + len(value or b"") > MAX_RECORD_BYTES:
                # Not left to the broker: beyond some size it hangs up instead of answering.
                raise RecordTooLargeError(f"a record for {topic} is larger than {MAX_RECORD_BYTES} bytes")
            if batch.append(key=key, value=value, timestamp=None, headers=list(headers)) is None:
                await send()
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None, headers=list(headers))
        if batch.record_count():
            await send()
        return pending


def _ends(pending: Mapping[str, list[Sent]]) -> dict[str, int]:
    """By topic, the offset after the last record, as far as the broker has said it (-1: a retry of what it had)."""
    ends = {
        topic: max(answer.result().offset + count for answer, count in sent) for topic, sent in pending.items() if sent
    }
    known = {topic: all(answer.result().offset >= 0 for answer, _ in sent) for topic, sent in pending.items()}
    return {topic: end for topic, end in ends.items() if known[topic]}


async def uncancelled(work: Coroutine[Any, Any, None]) -> None:
    """Await `work` to its end, also when cancelled meanwhile, and be cancelled then: it must end by itself."""
    task = asyncio.create_task(work)
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()


async def _abort(producer: AIOKafkaProducer) -> None:
    """Abort when it still can be; the next owner's fence aborts it otherwise."""
    with contextlib.suppress(KafkaError, IllegalOperation, OSError, TimeoutError, AssertionError):
        await asyncio.wait_for(producer.abort_transaction(), timeout=5)


async def close_producer(producer: AIOKafkaProducer) -> None:
    """Stop a producer; where its broker is away, which would hold up the flush for ever, only hang up."""
    try:
        await asyncio.wait_for(producer.stop(), CLOSE_SECONDS)
    except (KafkaError, OSError, TimeoutError):
        # A fenced producer's stop raises before it closes its connections; one that timed out still has a sender,
        # which must be cancelled twice: first it waits for its requests, then it drops them.
        closing = asyncio.create_task(producer._sender.close())
        await asyncio.wait({closing}, timeout=1)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await producer.client.close()
