"""Sending originals again, each at most once: the originals and a note of which they were are one transaction.

The note lies in the topic of dead letters itself, in the letters' partition and behind them (docs/adr/0005): Kafka
deletes a log from its beginning, so a note outlives every letter that it names, whatever retention or a purge takes.
Whoever replays first fences whoever did before, then waits until every transaction on the topic is decided, and only
then reads the notes; who must fence anew does all of it anew. A command killed in the middle leaves a transaction that
the next one's fence aborts.

Knows nothing of why a letter failed, nor whether it will fail again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
    RecordTooLargeError,
)

from ops.deadletters.letters import Letter, letter_of, note
from ops.deadletters.mailbox import Mailbox, Progress, quietly
from ops.deadletters.plan import SENT_BEFORE, Plan, Replay, plan
from ops.errors import CliError
from streams.cluster import Cluster
from streams.job import OutputRecord
from streams.transactions import MAX_PRODUCED_BATCH_BYTES, MAX_RECORD_BYTES, close_producer

BATCH_LETTERS = 500
BATCH_BYTES = 1_000_000
TRANSACTION_MS = 15_000
"""Readers of the source topic wait so long at most where a replay is killed in the middle."""

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError, RecordTooLargeError)


@dataclass(frozen=True, slots=True)
class Done:
    """How many were sent; places (partition, offset) of letters that the target refused for their size.

    `overtaken`: how many another replay had sent since they were confirmed.
    """

    sent: int
    refused: list[tuple[int, int]]
    overtaken: int = 0


async def execute(replay: Replay, box: Mailbox, confirmed: Plan, progress: Progress = quietly) -> Done:
    """Send what was confirmed and nobody has sent since.

    `progress` is told letters sent and letters in all.

    Raises:
        CliError: another replay took over, or the cluster failed; what was sent is noted, so that running the command
            again sends the rest.
    """
    sender = _Sender(replay, box.cluster)
    try:
        overtaken = await _execute(sender, replay, box, confirmed, progress)
    except (ProducerFenced, InvalidProducerEpoch) as error:
        raise CliError(
            f"another replay of {replay.letters} took over after {sender.sent} letters were sent",
            "It sends what is left, as far as its filter takes it; nothing is sent twice.",
        ) from error
    except (KafkaError, OSError, TimeoutError) as error:
        raise CliError(
            f"the replay failed after {sender.sent} letters were sent: {error!r}",
            "Run it again: what was sent is not sent again.",
        ) from error
    finally:
        await sender.close()
    return Done(sender.sent, sender.refused, overtaken)


async def _execute(sender: _Sender, replay: Replay, box: Mailbox, confirmed: Plan, progress: Progress) -> int:
    """Fence, read what is noted, send; again from the beginning where the target refuses a transaction for its size.

    Between two fences another replay may have sent letters. A refused transaction is tried in halves, down to the one
    letter that is to blame. Returns how many letters others had sent.
    """
    at_most = BATCH_LETTERS
    while at_most:
        await sender.open()
        todo = await plan(replay, box, confirmed.ends, await box.settled(list(confirmed.ends)))
        others = todo.left_out[SENT_BEFORE] - confirmed.left_out[SENT_BEFORE] - sender.sent
        for partition, offset in sender.refused:
            todo.offsets[partition].discard(offset)
        at_most = await _send(sender, box, todo, at_most, progress)
    return others


async def _send(sender: _Sender, box: Mailbox, todo: Plan, at_most: int, progress: Progress) -> int:
    """Send what is to do, `at_most` letters a transaction; returns how many the next try's may have, 0: all is sent."""
    total = sender.sent + sum(map(len, todo.offsets.values()))
    async for batch in _batches(box, todo, at_most):
        if not await sender.send(batch):
            return len(batch) // 2 or BATCH_LETTERS
        progress(sender.sent, total)
    return 0


async def _batches(box: Mailbox, todo: Plan, at_most: int) -> AsyncIterator[list[Letter]]:
    """Yield the letters of the plan, a transaction's worth at a time."""
    chosen = {place: todo.offsets[place.partition] for place in todo.ends if todo.offsets.get(place.partition)}
    starts = {place: min(offsets) for place, offsets in chosen.items()}
    ends = {place: max(offsets) + 1 for place, offsets in chosen.items()}
    batch: list[Letter] = []
    size = 0
    async for record in box.records(starts, ends):
        letter = letter_of(record)
        if letter is None or letter.offset not in todo.offsets[letter.partition]:
            continue
        if batch and (len(batch) >= at_most or size + letter.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(letter)
        size += letter.size
    if batch:
        yield batch


class _Sender:
    """One transaction a batch: the originals, and notes of their letters."""

    def __init__(self, replay: Replay, cluster: Cluster) -> None:
        self._replay = replay
        self._cluster = cluster
        self._producer: AIOKafkaProducer | None = None
        self.sent = 0
        self.refused: list[tuple[int, int]] = []

    async def open(self) -> None:
        """Fence every earlier replay; returns when none of its transactions is open."""
        self._producer = self._cluster.producer(
            transactional_id=f"{self._replay.app_id}-dlq-replay-{self._replay.letters}",
            transaction_timeout_ms=TRANSACTION_MS,
            max_batch_size=MAX_PRODUCED_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            compression_type="gzip",  # what was taken in compressed may be too large without
        )
        await self._producer.start()

    async def close(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await close_producer(producer)

    async def send(self, letters: Sequence[Letter]) -> bool:
        """Send a batch; False where the target refuses it for its size, and `open` must come before anything else."""
        try:
            await self._commit(letters)
        except _TOO_LARGE:
            await self.close()  # a refused record leaves a gap in the producer's sequence numbers
            if len(letters) == 1:
                self.refused.append((letters[0].partition, letters[0].offset))
            return False
        self.sent += len(letters)
        return True

    async def _commit(self, letters: Sequence[Letter]) -> None:
        producer = self._producer
        if producer is None:
            raise RuntimeError("send before open")
        originals: dict[int, list[OutputRecord]] = defaultdict(list)
        offsets: dict[int, list[int]] = defaultdict(list)
        for letter in letters:
            originals[letter.origin.partition].append((letter.key, letter.value, letter.headers))
            offsets[letter.partition].append(letter.offset)
        async with asyncio.timeout(2 * TRANSACTION_MS / 1000), producer.transaction():
            written = []
            for partition, records in originals.items():
                written += await _write(producer, self._replay.target, partition, records)
            for partition, sent in offsets.items():
                written += await _write(producer, self._replay.letters, partition, [note(sorted(sent))])
            await asyncio.gather(*written)


async def _write(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[OutputRecord]
) -> list[asyncio.Future[object]]:
    """Hand records over in batches: singly the client library takes none that has neither key nor value."""
    pending = []
    batch = producer.create_batch()
    for key, value, headers in records:
        if batch.append(key=key, value=value, timestamp=None, headers=list(headers)) is None:
            pending.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None, headers=list(headers))
    pending.append(await producer.send_batch(batch, topic, partition=partition))
    return pending
