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

from streams.deadletters import dead_letter_headers, fit
from streams.job import DeadLetter, Effects, Handler, OutputRecord, Record
from streams.restore import restore
from streams.transactions import Fenced, NotCommitted, TooLarge, TransactionConfig, TransactionPair

log = structlog.get_logger(__name__)

_UNPROVED_POISON_LIMIT = 3


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """`poison_limit`: see `HandlerBroken`; `stop_seconds`: how long `Engine.stop` waits for what is in hand."""

    bootstrap_servers: str
    app_id: str
    events: str
    state: str
    dead_letters: str
    max_batch_records: int = 128
    session_timeout_ms: int = 10_000
    transaction_timeout_ms: int = 30_000
    retry_seconds: tuple[float, ...] = (0.1, 0.5, 2.0, 5.0)
    poison_limit: int = 16
    stop_seconds: float = 10.0


class HandlerBroken(Exception):
    """The handler failed on so many records in a row that the fault is likely its own, not the records'.

    The records before the last are dead letters by then: in each partition at most `poison_limit`, and at most 3
    where the handler has not succeeded on a single batch since the partition was assigned. The last one and all
    after it stay uncommitted.
    """


class ForeignOffset(Exception):
    """The group's committed offset lies beyond the end of the log: it belongs to another topic of that name."""


class UnreadableRecord(Exception):
    """The client library cannot decode a record, and does not say which."""


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
        self.proved = False  # the handler has succeeded on a batch
        self.limit: int | None = None  # records a batch while looking for one whose effects are too large
        self.too_large: tuple[int, str] | None = None  # offset and error of the one found


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
        fetching = asyncio.create_task(self._fetch())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({fetching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({fetching}, timeout=1)  # where the broker is away it may wait for a rebalance for ever
            if fetching.done():
                fetching.result()
        finally:
            self._stopping.set()
            fetching.cancel()
            await asyncio.gather(fetching, stopping, return_exceptions=True)
            await self._release(list(self._partitions))
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                await asyncio.wait_for(self._consumer.stop(), self._config.stop_seconds)
            self._compute.shutdown(wait=True)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Finish the batches in hand, for at most about `stop_seconds`, and leave the group."""
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
        await asyncio.gather(*(self._end(owned) for owned in released))
        for owned in released:
            await self._in_compute(self._handler.revoked, owned.source.partition)

    async def _end(self, owned: _Partition) -> None:
        if owned.task is None:
            return
        finished = asyncio.create_task(owned.working.acquire())
        patience = asyncio.create_task(self._out_of_patience())
        await asyncio.wait({finished, patience}, return_when=asyncio.FIRST_COMPLETED)
        patience.cancel()
        if not finished.done():
            log.warning("stopped in mid-batch; it is done again from the log", partition=owned.source.partition)
        owned.task.cancel()
        if finished.done():
            owned.working.release()
        else:
            finished.cancel()
        await asyncio.gather(owned.task, finished, patience, return_exceptions=True)

    async def _out_of_patience(self) -> None:
        await self._stopping.wait()
        await asyncio.sleep(self._config.stop_seconds)

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
            except UnicodeDecodeError as error:
                raise UnreadableRecord(await self._unreadable(error)) from error
            for source, records in batches.items():
                owned = self._partitions.get(source)
                if owned is None or not owned.ready or owned.seek_to is not None:
                    continue  # fetched for an earlier owner or before a seek: will be fetched again
                owned.queue += records
                owned.arrived.set()

    async def _unreadable(self, error: UnicodeDecodeError) -> str:
        """Say what can be known: the library decodes a whole batch of the log, and steps over none of its records."""
        after = {
            str(source.partition): await self._consumer.position(source)
            for source, owned in self._partitions.items()
            if owned.ready
        }
        return (
            f"a record of {self._config.events} has a header name that is not UTF-8, {error.object!r}, which the Kafka "
            f"client cannot read. It lies at or after one of these offsets (by partition): {after}. Find it with a "
            f"consumer that prints headers, stop all workers, move group {self._config.app_id} past it "
            "(kafka-consumer-groups --reset-offsets --to-offset), start them again, and mend the producer"
        )

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
            except TooLarge as error:
                log.warning("too large to commit", partition=owned.source.partition, error=str(error))
                owned.status = "retrying"
                await self._pause_before_retry(owned, 0)
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
        committed = await self._within_log(owned.source, committed)
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

    async def _within_log(self, source: TopicPartition, committed: int | None) -> int:
        """Where to begin: `committed`, or the log's beginning where there is none or what it points at is gone."""
        first: int = (await self._consumer.beginning_offsets([source]))[source]
        if committed is None:
            return first
        if committed < first:
            log.warning(
                "records are gone before they were processed: the topic's retention is shorter than this group's delay",
                partition=source.partition,
                records=first - committed,
                committed=committed,
                beginning=first,
            )
            return first
        for wait in (*self._config.retry_seconds, None):  # a new leader may not know its log's end yet
            end = (await self._consumer.end_offsets([source]))[source]
            if committed <= end:
                break
            if wait is None:
                raise ForeignOffset(
                    f"group {self._config.app_id} has committed offset {committed} of {source.topic}-{source.partition}"
                    f", which ends at {end}: offsets and states belong to another topic of that name, deleted since. "
                    "Use another DRIFTLINE_TOPIC_PREFIX, or stop all workers and delete the group and all of the "
                    "prefix's topics, and create them again"
                )
            await asyncio.sleep(wait)
        return committed

    async def _batches(self, owned: _Partition) -> Any:
        """Yield whatever has arrived, at most `max_batch_records` at a time, or fewer where one was too large."""
        while True:
            await owned.arrived.wait()
            limit = owned.limit or self._config.max_batch_records
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
        if owned.too_large is not None and owned.too_large[0] == records[0].offset and len(records) == 1:
            log.error("effects of a record are too large", partition=partition, offset=records[0].offset)
            await self._commit(
                owned, pair, records, Effects(dead=[DeadLetter(records[0], "too_large", owned.too_large[1])])
            )
            return
        try:
            effects = await self._in_compute(self._handler.apply, partition, records, owned.states)
        except Exception as error:
            if len(records) > 1:
                log.warning("handler failed, bisecting", partition=partition, records=len(records), error=repr(error))
                middle = len(records) // 2
                await self._process(owned, pair, records[:middle])
                await self._process(owned, pair, records[middle:])
                return
            limit = (
                self._config.poison_limit if owned.proved else min(_UNPROVED_POISON_LIMIT, self._config.poison_limit)
            )
            if owned.poisoned_in_a_row >= limit:
                raise HandlerBroken(
                    f"{limit + 1} records in a row failed in {owned.source.topic}-{partition}, at offset "
                    f"{records[0].offset}: {error!r}. The {limit} before it are in {self._config.dead_letters}, to be "
                    "replayed once the handler is mended"
                ) from error
            log.exception("poison record", partition=partition, offset=records[0].offset)
            poisoned = True
            effects = Effects(dead=[DeadLetter(records[0], "handler_error", f"{type(error).__name__}: {error}")])
        else:
            poisoned = False
            owned.proved = True
        await self._commit(owned, pair, records, effects)
        owned.poisoned_in_a_row = owned.poisoned_in_a_row + 1 if poisoned else 0

    async def _commit(
        self, owned: _Partition, pair: TransactionPair, records: Sequence[Record], effects: Effects
    ) -> None:
        """Commit, and only then let the new states be the ones in memory.

        Where a record is too large for its topic, the partition is taken over again with batches half as
        large, until the record that causes it stands alone and its dead letter is written instead.
        """
        outputs: dict[str, list[OutputRecord]] = dict(effects.outputs)
        outputs[self._config.state] = [(key, value, ()) for key, value in effects.states.items()]
        outputs[self._config.dead_letters] = [self._dead_letter(owned.source, letter) for letter in effects.dead]
        next_offset = records[-1].offset + 1
        try:
            await pair.commit(outputs, self._config.app_id, next_offset)
        except TooLarge as error:
            if len(records) > 1:
                owned.limit = len(records) // 2
            elif owned.too_large is not None and owned.too_large[0] == records[0].offset:
                raise RuntimeError(f"{self._config.dead_letters} does not take a dead letter: {error}") from error
            else:
                owned.too_large = records[0].offset, str(error)
                owned.limit = 1
            raise
        if owned.limit is not None:  # whatever was too large may still lie ahead
            owned.limit = min(2 * owned.limit, self._config.max_batch_records)
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
        return fit(record.key, record.value, headers)

    async def _in_compute(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._compute, function, *arguments)
