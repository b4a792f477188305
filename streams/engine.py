"""The transactional engine: consume, apply, commit, one transaction per micro-batch and partition.

It would serve any keyed stream job: partitions, offsets, state restore, fencing, rebalances, retries and
the bisection of a poison batch are here; what a batch of records means is the handler's. It knows
nothing about events, users, models or slates.

The way of a batch: one fetch loop hands records to their partition's queue; the partition's own task
takes whatever has arrived, has the handler apply it in the compute thread, commits outputs, state,
dead letters and offsets in one transaction, and only then makes the new state the one in memory.
While one partition commits, another computes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from streams.deadletters import dead_letter_headers
from streams.job import DeadLetter, Effects, Handler, OutputRecord, Record
from streams.restore import restore
from streams.transactions import Fenced, NotCommitted, TransactionConfig, TransactionPair

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EngineConfig:
    bootstrap_servers: str
    app_id: str
    events: str
    state: str
    dead_letters: str
    max_batch_records: int = 128
    session_timeout_ms: int = 10_000
    transaction_timeout_ms: int = 30_000
    retry_seconds: tuple[float, ...] = (0.1, 0.5, 2.0, 5.0)
    poison_limit: int = 100


class HandlerBroken(Exception):
    """The handler failed on many records in a row: the fault is not in the records, so none is dead-lettered."""


class _Partition:
    """One owned partition: its queue of fetched records, its states, and its task."""

    def __init__(self, source: TopicPartition) -> None:
        self.source = source
        self.queue: list[Record] = []
        self.arrived = asyncio.Event()
        self.seek_to: int | None = None
        self.ready = False
        self.states: MutableMapping[bytes, bytes] = {}
        self.working = asyncio.Lock()
        self.task: asyncio.Task[None] | None = None
        self.status = "restoring"
        self.next_offset = 0
        self.poisoned_in_a_row = 0


class Engine(ConsumerRebalanceListener):
    """Runs a handler over the events topic as one member of the consumer group `app_id`.

    `joined`: the group has given it its share, which may be none.
    """

    def __init__(self, config: EngineConfig, handler: Handler) -> None:
        self._config = config
        self._handler = handler
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="compute")
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=config.bootstrap_servers,
            group_id=config.app_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=config.session_timeout_ms,
            heartbeat_interval_ms=min(3_000, config.session_timeout_ms // 3),
            rebalance_timeout_ms=60_000,
            fetch_max_wait_ms=200,
        )
        self.joined = False
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None

    # -- lifecycle ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until `stop` is called; raises what stopped it otherwise."""
        self._consumer.subscribe([self._config.events], listener=self)
        await self._consumer.start()
        try:
            await self._fetch()
        finally:
            await self._release(list(self._partitions))
            with contextlib.suppress(KafkaError, OSError):
                await self._consumer.stop()
            self._compute.shutdown(wait=True)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Finish the batches in hand and leave the group."""
        self._stopping.set()

    def status(self) -> dict[int, dict[str, Any]]:
        """Per owned partition: what it is doing, next offset to process, events behind the log's end."""
        return {
            source.partition: {
                "status": owned.status,
                "next_offset": owned.next_offset,
                "lag": max(0, (self._consumer.highwater(source) or 0) - owned.next_offset),
                "users": len(owned.states),
            }
            for source, owned in self._partitions.items()
        }

    # -- group membership --------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        try:
            await self._release(list(revoked))
        except Exception as error:  # the client library swallows what a listener raises
            self._fail(error)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        try:
            self.joined = True
            for source in assigned:
                self._consumer.pause(source)
                owned = self._partitions[source] = _Partition(source)
                owned.task = asyncio.create_task(self._own(owned), name=f"partition-{source.partition}")
        except Exception as error:
            self._fail(error)

    async def _release(self, sources: Sequence[TopicPartition]) -> None:
        """Let each partition's batch in hand finish, then end its task."""
        released = [self._partitions.pop(source) for source in sources if source in self._partitions]
        for owned in released:
            async with owned.working:
                if owned.task is not None:
                    owned.task.cancel()
        await asyncio.gather(*(owned.task for owned in released if owned.task), return_exceptions=True)
        for owned in released:
            await self._in_compute(self._handler.revoked, owned.source.partition)

    def _fail(self, error: BaseException) -> None:
        log.error("engine stops", error=repr(error))
        self._failure = self._failure or error
        self._stopping.set()

    # -- fetching ----------------------------------------------------------------------------------

    async def _fetch(self) -> None:
        """The only caller of `getmany` and `seek`, so that no record fetched before a seek slips in after it."""
        while not self._stopping.is_set():
            self._move_positions()
            try:
                batches = await self._consumer.getmany(timeout_ms=50, max_records=10_000)
            except KafkaError as error:
                log.warning("fetch failed, retrying", error=repr(error))
                await asyncio.sleep(self._config.retry_seconds[0])
                continue
            for source, records in batches.items():
                owned = self._partitions.get(source)
                if owned is None or not owned.ready or owned.seek_to is not None:
                    continue  # fetched for an earlier owner or before a seek: will be fetched again
                owned.queue += records
                owned.arrived.set()

    def _move_positions(self) -> None:
        for source, owned in self._partitions.items():
            if not owned.ready:
                continue
            if owned.seek_to is not None:
                self._consumer.seek(source, owned.seek_to)
                owned.seek_to = None
            paused = source in self._consumer.paused()
            if paused and len(owned.queue) < self._config.max_batch_records:
                self._consumer.resume(source)
            elif not paused and len(owned.queue) > 8 * self._config.max_batch_records:
                self._consumer.pause(source)  # the log is the buffer, not this process's memory

    # -- one partition -----------------------------------------------------------------------------

    async def _own(self, owned: _Partition) -> None:
        """Take the partition over and process it; start again from the log after every failed commit."""
        failures = 0
        while True:
            pair = TransactionPair(
                TransactionConfig(
                    self._config.bootstrap_servers, self._config.app_id, self._config.transaction_timeout_ms
                ),
                owned.source,
            )
            try:
                await pair.open()
                await self._take_over(owned)
                async for records in self._batches(owned):
                    async with owned.working:
                        await self._process(owned, pair, records)
                    failures = 0
            except Fenced as error:
                # Normally a rebalance ends this task soon. If none does, the fence was our own timed-out
                # transaction, and the partition is still ours to take over.
                wait = 2 * self._config.session_timeout_ms / 1000
                owned.status = "fenced"
                log.warning("fenced", partition=owned.source.partition, error=str(error), retry_in_seconds=wait)
                await self._pause_before_retry(owned, wait)
            except (NotCommitted, KafkaError, OSError) as error:
                wait = self._config.retry_seconds[min(failures, len(self._config.retry_seconds) - 1)]
                failures += 1
                owned.status = "retrying"
                log.warning(
                    "batch not committed", partition=owned.source.partition, error=str(error), retry_in_seconds=wait
                )
                await self._pause_before_retry(owned, wait)
            except Exception as error:
                log.exception("partition failed", partition=owned.source.partition)
                self._fail(error)
                return
            finally:
                async with owned.working:  # not to be cancelled half-way
                    await pair.close()

    async def _pause_before_retry(self, owned: _Partition, seconds: float) -> None:
        owned.ready = False
        owned.queue.clear()
        await asyncio.sleep(seconds)

    async def _take_over(self, owned: _Partition) -> None:
        """Restore states, find the committed offset, and ask the fetch loop to go there."""
        owned.status = "restoring"
        started = time.monotonic()
        owned.states = {}
        state = TopicPartition(self._config.state, owned.source.partition)
        await restore(self._config.bootstrap_servers, state, owned.states)
        committed = await self._consumer.committed(owned.source)
        if committed is None:
            committed = (await self._consumer.beginning_offsets([owned.source]))[owned.source]
        await self._in_compute(self._handler.assigned, owned.source.partition, owned.states)
        owned.queue.clear()
        owned.next_offset = owned.seek_to = committed
        owned.ready = True
        owned.status = "running"
        log.info(
            "partition taken over",
            partition=owned.source.partition,
            offset=committed,
            states=len(owned.states),
            seconds=round(time.monotonic() - started, 3),
        )

    async def _batches(self, owned: _Partition) -> Any:
        """Yield whatever has arrived, at most `max_batch_records` at a time."""
        limit = self._config.max_batch_records
        while True:
            await owned.arrived.wait()
            records, owned.queue = owned.queue[:limit], owned.queue[limit:]
            if not owned.queue:
                owned.arrived.clear()
            if records:
                yield records

    async def _process(self, owned: _Partition, pair: TransactionPair, records: Sequence[Record]) -> None:
        """Apply and commit `records`; when the handler fails, halve them until the culprit stands alone."""
        if records[0].offset < owned.next_offset:
            raise NotCommitted(f"offset {records[0].offset} fetched again, expected {owned.next_offset} or later")
        partition = owned.source.partition
        try:
            effects = await self._in_compute(self._handler.apply, partition, records, owned.states)
        except Exception as error:
            if len(records) > 1:
                log.warning("handler failed, bisecting", partition=partition, records=len(records), error=repr(error))
                middle = len(records) // 2
                await self._process(owned, pair, records[:middle])
                await self._process(owned, pair, records[middle:])
                return
            owned.poisoned_in_a_row += 1
            if owned.poisoned_in_a_row > self._config.poison_limit:
                raise HandlerBroken(
                    f"{owned.poisoned_in_a_row} records in a row failed; the last: {error!r}"
                ) from error
            log.exception("poison record", partition=partition, offset=records[0].offset)
            effects = Effects(dead=[DeadLetter(records[0], "handler_error", f"{type(error).__name__}: {error}")])
        else:
            owned.poisoned_in_a_row = 0
        await self._commit(owned, pair, records, effects)

    async def _commit(
        self, owned: _Partition, pair: TransactionPair, records: Sequence[Record], effects: Effects
    ) -> None:
        """Commit, and only then let the new states be the ones in memory."""
        outputs: dict[str, list[OutputRecord]] = dict(effects.outputs)
        outputs[self._config.state] = [(key, value, ()) for key, value in effects.states.items()]
        outputs[self._config.dead_letters] = [self._dead_letter(owned.source, letter) for letter in effects.dead]
        next_offset = records[-1].offset + 1
        await pair.commit(outputs, self._config.app_id, next_offset)
        for key, value in effects.states.items():
            if value is None:
                owned.states.pop(key, None)
            else:
                owned.states[key] = value
        owned.next_offset = next_offset

    def _dead_letter(self, source: TopicPartition, letter: DeadLetter) -> OutputRecord:
        record = letter.record
        headers = dead_letter_headers(
            record.headers,
            letter.reason,
            letter.message,
            source.topic,
            source.partition,
            record.offset,
            record.timestamp,
        )
        return record.key, record.value, headers

    async def _in_compute(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._compute, function, *arguments)
