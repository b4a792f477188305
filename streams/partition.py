"""One owned partition: take it over, process it batch by batch, start again from the log after any failure.

A batch is whatever has arrived: the handler applies it in the compute thread, one transaction commits
outputs, state, dead letters and offsets, and only then are the new states the ones in the store. A batch
that the handler fails on is halved until the culprit stands alone. Knows nothing of group membership,
of fetching, or of what a record means.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.blame import Plain, told, way
from streams.deadletters import dead_letter_headers, fit
from streams.engine_config import EngineConfig
from streams.intake import Intake
from streams.job import DeadLetter, Effects, Handler, NotNow, OutputRecord, Record
from streams.measures import Committed
from streams.restore import restore
from streams.store import Store, StoreDamaged, Stores
from streams.tracing import Tracer
from streams.transactions import Fenced, NotCommitted, TooLarge, TransactionConfig, TransactionPair, uncancelled

log = structlog.get_logger(__name__)

_UNPROVED_POISON_LIMIT = 3


class HandlerBroken(Plain):
    """The handler failed on so many records in a row that the fault is likely its own, not the records'.

    The records before the last are dead letters by then: in each partition at most `poison_limit`, and at most 3
    where the handler has not succeeded on a single batch since the partition was assigned. The last one and all
    after it stay uncommitted.
    """


class ForeignOffset(Plain):
    """The group's committed offset lies beyond the end of the log: it belongs to another topic of that name."""


class Offsets(Protocol):
    """What a partition asks about its log; the group's consumer answers."""

    async def committed(self, source: TopicPartition) -> int | None: ...
    async def beginning_offsets(self, sources: list[TopicPartition]) -> dict[TopicPartition, int]: ...
    async def end_offsets(self, sources: list[TopicPartition]) -> dict[TopicPartition, int]: ...


class Told(Protocol):
    """Who hears how a partition is; the engine does."""

    def parked(self) -> None:
        """It is parked: its `failure` says why."""

    def broken(self, error: BaseException) -> None:
        """It has ended by itself, which it never should: nobody processes it any more."""


@dataclass(frozen=True, slots=True)
class Means:
    """What every partition of an engine works with."""

    config: EngineConfig
    handler: Handler
    stores: Stores
    compute: Executor
    measures: Committed = field(default_factory=Committed)
    tracer: Tracer | None = None

    async def in_compute(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run `function` in the compute thread, where all of the handler's and the stores' work is done."""
        return await asyncio.get_running_loop().run_in_executor(self.compute, function, *arguments)


class Partition:
    """One owned partition. The fetch loop fills its `intake`; `_run` does the rest.

    Attributes:
        intake: what was fetched and waits.
        next_offset: the next offset to process.
    """

    def __init__(self, source: TopicPartition, means: Means, offsets: Offsets, told: Told) -> None:
        self.source = source
        self.intake = Intake(means.config.max_batch_records, means.config.retry_seconds)
        self.next_offset = 0
        self._status = "restoring"
        self._failure: Exception | None = None
        self._means = means
        self._config = means.config
        self._offsets = offsets
        self._told = told
        self._store: Store | None = None
        self._working = asyncio.Lock()
        self._ending = False  # it is to be given up as soon as what is in hand has committed
        self._task: asyncio.Task[None] | None = None
        self._poisoned_in_a_row = 0
        self._proved = False  # the handler has succeeded on a batch
        self._limit: int | None = None  # records a batch while looking for one whose effects are too large
        self._in_hand_ms: int | None = None  # timestamp of the first record taken out of the intake
        self._begun = 0.0  # when the batch in hand was, seconds since the epoch
        self._too_large: tuple[int, str] | None = None  # offset and error of the one found

    # -- what the engine calls ---------------------------------------------------------------------

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"partition-{self.source.partition}")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._told.broken(error)

    @property
    def status(self) -> str:
        """`restoring`, `running`, `unreadable`, `retrying`, `fenced` or `parked`."""
        return "unreadable" if self.intake.unreadable and self._status == "running" else self._status

    @property
    def failure(self) -> Exception | None:
        return self._failure or self.intake.unreadable

    @property
    def users(self) -> int:
        return 0 if self._store is None else len(self._store)

    @property
    def oldest_ms(self) -> int | None:
        """Timestamp of the oldest record that was fetched and is not committed; None: there is none."""
        return self.intake.oldest_ms if self._in_hand_ms is None else self._in_hand_ms

    async def end(self, out_of_patience: Callable[[], Any]) -> None:
        """Let the batch in hand finish, for as long as there is patience, and give the partition up."""
        if self._task is None:
            return
        self._ending = True
        finished = asyncio.create_task(self._working.acquire())
        patience = asyncio.create_task(out_of_patience())
        await asyncio.wait({finished, patience}, return_when=asyncio.FIRST_COMPLETED)
        patience.cancel()
        if not finished.done():
            log.warning("stopped in mid-batch; it is done again from the log", partition=self.source.partition)
        self._task.cancel()
        if finished.done():
            self._working.release()
        else:
            finished.cancel()
        await asyncio.gather(self._task, finished, patience, return_exceptions=True)
        await self._means.in_compute(self._give_up)

    def _give_up(self) -> None:
        self._means.handler.revoked(self.source.partition)
        if self._store is not None:
            self._store.close()
            self._store = None

    # -- from takeover to takeover -----------------------------------------------------------------

    async def _run(self) -> None:
        """Take the partition over and process it; start again from the log after every failure."""
        failures = 0
        while True:
            transactions = self._transactions()
            try:
                await transactions.open()
                await self._take_over()
                while True:
                    records = await self.intake.take(self._limit or self._config.max_batch_records)
                    self._in_hand_ms = records[0].timestamp
                    async with self._working:
                        await self._process(transactions, records)
                    failures, self._in_hand_ms = 0, None
            except Exception as error:
                await self._pause(self._seconds_until_retry(error, failures))
                failures += 1
            finally:
                await uncancelled(self._close(transactions))

    async def _close(self, transactions: TransactionPair) -> None:
        async with self._working:  # a part of what is in hand when the partition is given up
            await transactions.close()

    def _transactions(self) -> TransactionPair:
        config = self._config
        return TransactionPair(
            TransactionConfig(config.cluster, config.app_id, config.transaction_timeout_ms), self.source
        )

    def _seconds_until_retry(self, error: Exception, failures: int) -> float:
        """Say what went wrong, and how long to wait before the partition is taken over again."""
        partition, wait = self.source.partition, 0.0
        if isinstance(error, TooLarge):
            self._status = "retrying"
            log.warning("too large to commit", partition=partition, error=str(error))
        elif isinstance(error, Fenced):
            # Normally a rebalance ends this task soon. If none does, the fence was our own timed-out
            # transaction, and the partition is still ours to take over.
            self._status, wait = "fenced", 2 * self._config.session_timeout_ms / 1000
            log.warning("fenced", partition=partition, error=str(error), retry_in_seconds=wait)
        elif isinstance(error, NotCommitted | StoreDamaged | KafkaError | OSError):
            wait = self._config.retry_seconds[min(failures, len(self._config.retry_seconds) - 1)]
            self._status = "retrying"
            log.warning("taking the partition over again", partition=partition, error=str(error), retry_in_seconds=wait)
        else:
            self._status, self._failure, wait = "parked", error, self._config.park_seconds
            log.error("parked", partition=partition, error=told(error), retry_in_seconds=wait, way=way(error))
            self._told.parked()
        self._means.measures.retakes[self._status] += 1
        return wait

    async def _pause(self, seconds: float) -> None:
        self.intake.shut()
        self._in_hand_ms = None
        await asyncio.sleep(seconds)

    async def _take_over(self) -> None:
        """Bring the states up to date, find the committed offset, and ask the fetch loop to go there."""
        self._status = "restoring"
        partition, started = self.source.partition, time.monotonic()
        if self._store is None:
            await self._means.in_compute(self._open)
        store = self._open_store
        try:
            await restore(self._config.cluster, TopicPartition(self._config.state, partition), store)
            committed = await self._within_log(await self._offsets.committed(self.source))
            await self._means.in_compute(self._means.handler.assigned, partition, store)
        except StoreDamaged:
            await self._means.in_compute(store.clear)
            raise
        self.next_offset = committed
        self.intake.open(committed)
        # A broken handler is given another try, but not the benefit of the doubt: a batch must go well first.
        self._status = "parked" if isinstance(self._failure, HandlerBroken) else "running"
        log.info(
            "partition taken over",
            partition=partition,
            offset=committed,
            states=len(store),
            seconds=round(time.monotonic() - started, 3),
        )

    def _open(self) -> None:
        """In the compute thread, so that `_give_up`, which comes after it there, finds what it opened."""
        self._store = self._means.stores.open(self.source.partition)

    async def _within_log(self, committed: int | None) -> int:
        """Where to begin: `committed`, or the log's beginning where there is none or what it points at is gone."""
        source = self.source
        first: int = (await self._offsets.beginning_offsets([source]))[source]
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
            end = (await self._offsets.end_offsets([source]))[source]
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

    # -- batch by batch ----------------------------------------------------------------------------

    async def _process(self, transactions: TransactionPair, records: Sequence[Record]) -> None:
        """Apply and commit `records`; when the handler fails, halve them until the culprit stands alone."""
        if records[0].offset < self.next_offset:
            raise NotCommitted(f"offset {records[0].offset} fetched again, expected {self.next_offset} or later")
        partition = self.source.partition
        if self._too_large is not None and self._too_large[0] == records[0].offset and len(records) == 1:
            log.error("effects of a record are too large", partition=partition, offset=records[0].offset)
            too_large = DeadLetter(records[0], "too_large", self._too_large[1])
            await self._commit(transactions, records, Effects(dead=[too_large]))
            return
        try:
            effects = await self._means.in_compute(self._apply, records)
        except StoreDamaged:
            await self._means.in_compute(self._open_store.clear)
            raise
        except NotNow as error:
            raise NotCommitted(str(error)) from error
        except Exception as error:
            if len(records) > 1:
                log.warning("handler failed, bisecting", partition=partition, records=len(records), error=told(error))
                middle = len(records) // 2
                await self._process(transactions, records[:middle])
                if self._ending:  # each half may take a transaction for every poison in it, and others wait
                    raise NotCommitted(f"given up at offset {records[middle].offset}, in mid-batch") from error
                await self._process(transactions, records[middle:])
                return
            effects = self._poison(records[0], error)
            await self._commit(transactions, records, effects)
            self._poisoned_in_a_row += 1
        else:
            self._proved = True
            await self._commit(transactions, records, effects)
            self._poisoned_in_a_row = 0

    def _apply(self, records: Sequence[Record]) -> Effects:
        self._begun = self._means.measures.clock()
        return self._means.handler.apply(self.source.partition, records, self._open_store)

    def _poison(self, record: Record, error: Exception) -> Effects:
        """The effects of a record that the handler fails on; raises `HandlerBroken` after too many in a row."""
        limit = self._config.poison_limit if self._proved else min(_UNPROVED_POISON_LIMIT, self._config.poison_limit)
        if self._poisoned_in_a_row >= limit:
            raise HandlerBroken(
                f"{limit + 1} records in a row failed in {self.source.topic}-{self.source.partition}, at offset "
                f"{record.offset}: {told(error)}. The {limit} before it are in {self._config.dead_letters}, to be "
                "replayed once the handler is mended"
            ) from error
        log.error("poison record", partition=self.source.partition, offset=record.offset, way=way(error))
        return Effects(dead=[DeadLetter(record, "handler_error", f"{type(error).__name__}: {error}")])

    async def _commit(self, transactions: TransactionPair, records: Sequence[Record], effects: Effects) -> None:
        """Commit, and only then let the store take the new states over.

        Where a record is too large for its topic, the partition is taken over again with batches half as
        large, until the record that causes it stands alone and its dead letter is written instead.
        """
        outputs: dict[str, list[OutputRecord]] = dict(effects.outputs)
        outputs[self._config.state] = [(key, value, ()) for key, value in effects.states.items()]
        outputs[self._config.dead_letters] = [self._dead_letter(letter) for letter in effects.dead]
        next_offset = records[-1].offset + 1
        committing = self._means.measures.clock()
        try:
            ends = await transactions.commit(outputs, self._config.app_id, next_offset)
        except TooLarge as error:
            self._narrow_down(records, error)
            raise
        if self._limit is not None:  # whatever was too large may still lie ahead
            self._limit = min(2 * self._limit, self._config.max_batch_records)
        store = self._open_store
        if effects.states:
            await self._means.in_compute(store.take, effects.states, ends.get(self._config.state, store.position))
        self.next_offset = next_offset
        self._status, self._failure = "running", None
        self._measure(records, committing, effects)

    def _measure(self, records: Sequence[Record], committing: float, effects: Effects) -> None:
        measures = self._means.measures
        measures.add(self.source.partition, [record.timestamp for record in records], self._begun, committing)
        if effects.dead:
            measures.died(letter.reason for letter in effects.dead)
        if effects.traced and self._means.tracer is not None:
            self._means.tracer(effects.traced, self._begun, committing, measures.clock())

    def _narrow_down(self, records: Sequence[Record], error: TooLarge) -> None:
        if len(records) > 1:
            self._limit = len(records) // 2
        elif self._too_large is not None and self._too_large[0] == records[0].offset:
            raise RuntimeError(f"{self._config.dead_letters} does not take a dead letter: {error}") from error
        else:
            self._too_large = records[0].offset, str(error)
            self._limit = 1

    @property
    def _open_store(self) -> Store:
        if self._store is None:
            raise RuntimeError(f"{self.source} was given up")
        return self._store

    def _dead_letter(self, letter: DeadLetter) -> OutputRecord:
        record, source = letter.record, self.source
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
