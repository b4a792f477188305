"""The transactional engine: consume, apply, commit, one transaction per micro-batch and partition.

It would serve any keyed stream job. Here is the group's side of it: membership, one fetch loop that hands
records to the partitions that this worker owns, and whether the cluster answers. What happens to a record
then is `partition.py`'s; what it means is the handler's. While one partition commits, another computes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from streams.blame import told
from streams.damage import damaged
from streams.engine_config import EngineConfig
from streams.job import Handler
from streams.partition import Means, Partition
from streams.store import MemoryStores, Stores
from streams.tracing import Tracer

log = structlog.get_logger(__name__)

PULSE_SECONDS = 2.0
"""How often the cluster is asked for a sign of life."""


class Engine(ConsumerRebalanceListener):
    """Runs a handler over the events topic as one member of the consumer group `app_id`.

    `joined`: the group has given it its share, which may be none.
    """

    def __init__(
        self,
        config: EngineConfig,
        handler: Handler,
        stores: Stores | None = None,
        *,
        compute: Executor | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._config = config
        self._compute = compute or ThreadPoolExecutor(1, thread_name_prefix="compute")
        self._means = Means(config, handler, stores or MemoryStores(), self._compute, tracer=tracer)
        self._partitions: dict[TopicPartition, Partition] = {}
        self._consumer = config.cluster.consumer(
            group_id=config.app_id,
            session_timeout_ms=config.session_timeout_ms,
            heartbeat_interval_ms=min(3_000, config.session_timeout_ms // 3),
            rebalance_timeout_ms=60_000,
            fetch_max_wait_ms=200,
        )
        self.measures = self._means.measures
        self.joined = False
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self._answered = time.monotonic()

    # -- lifecycle ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until `stop` is called; raises what stopped it otherwise."""
        self._consumer.subscribe([self._config.events], listener=self)
        try:
            await self._consumer.start()
        except KafkaError:  # no cluster, or one that does not allow it
            await self._consumer.stop()
            raise
        fetching = asyncio.create_task(self._fetch())
        pulse = asyncio.create_task(self._feel_pulse())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({fetching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({fetching}, timeout=1)  # where the broker is away it may wait for a rebalance for ever
            if fetching.done():
                fetching.result()
        finally:
            self._stopping.set()
            fetching.cancel()
            pulse.cancel()
            await asyncio.gather(fetching, pulse, stopping, return_exceptions=True)
            await self._release(list(self._partitions))
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                await asyncio.wait_for(self._consumer.stop(), self._config.stop_seconds)
            self._compute.shutdown(wait=True)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Finish the batches in hand, for at most about `stop_seconds`, and leave the group."""
        self._stopping.set()

    @property
    def silence_seconds(self) -> float:
        """How long ago the cluster last answered."""
        return time.monotonic() - self._answered

    @property
    def connected(self) -> bool:
        """Whether the cluster has answered lately: within the session timeout, or three pulses."""
        return self.silence_seconds < max(self._config.session_timeout_ms / 1000, 3 * PULSE_SECONDS)

    def status(self) -> dict[int, dict[str, Any]]:
        """Per owned partition: what it is doing, next offset to process, events behind the log's end, its failure.

        `lag` is None where it is not known: before the partition is taken over, or until the first answer after that.
        `waiting_seconds`: how long the oldest event not committed has been in the log; None where that is not known.
        """
        return {
            source.partition: {
                "status": owned.status,
                "next_offset": owned.next_offset,
                "lag": self._lag(source, owned),
                "waiting_seconds": self._waiting(source, owned),
                "users": owned.users,
                **({"failure": repr(owned.failure)} if owned.failure else {}),
            }
            for source, owned in self._partitions.items()
        }

    def _lag(self, source: TopicPartition, owned: Partition) -> int | None:
        end = self._consumer.highwater(source) if owned.intake.ready else None
        return None if end is None else max(0, end - owned.next_offset)

    def _waiting(self, source: TopicPartition, owned: Partition) -> float | None:
        if self._lag(source, owned) == 0:
            return 0.0
        oldest = owned.oldest_ms
        return None if oldest is None else round(max(0.0, time.time() - oldest / 1000), 3)

    async def _feel_pulse(self) -> None:
        """Ask the cluster for a sign of life now and then: with no event coming in, nothing else would notice."""
        away = False
        while True:
            try:
                async with asyncio.timeout(2 * PULSE_SECONDS):
                    await self._consumer.topics()
                self._answered = time.monotonic()
            except (KafkaError, OSError, TimeoutError) as error:
                if not away:
                    log.warning("the cluster does not answer; waiting for it", error=repr(error))
                away = True
            else:
                if away:
                    log.info("the cluster answers again")
                away = False
            await asyncio.sleep(PULSE_SECONDS)

    # -- group membership --------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.joined = False
        try:
            await self._release(list(revoked))
        except Exception as error:  # the client library swallows what a listener raises
            self._fail(error)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        try:
            self.joined = True
            for source in assigned:
                self._consumer.pause(source)
                owned = self._partitions[source] = Partition(source, self._means, self._consumer, self)
                owned.start()
        except Exception as error:
            self._fail(error)

    async def _release(self, sources: Sequence[TopicPartition]) -> None:
        """Let each partition's batch in hand finish, then give it up; all of them, whatever one of them raises."""
        released = [self._partitions.pop(source) for source in sources if source in self._partitions]
        ended = await asyncio.gather(*(owned.end(self._out_of_patience) for owned in released), return_exceptions=True)
        for outcome in ended:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _out_of_patience(self) -> None:
        await self._stopping.wait()
        await asyncio.sleep(self._config.stop_seconds)

    def parked(self) -> None:
        """One partition's poison does not stop the others; where all are parked, the fault is this worker's."""
        failures = [owned.failure for owned in self._partitions.values() if owned.status == "parked"]
        if failures and len(failures) == len(self._partitions) and failures[-1] is not None:
            self._fail(failures[-1])

    def broken(self, error: BaseException) -> None:
        """A partition has ended by itself."""
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        log.error("engine stops", error=told(error))
        self._failure = self._failure or error
        self._stopping.set()

    # -- fetching ----------------------------------------------------------------------------------

    async def _fetch(self) -> None:
        """The only caller of `getmany` and `seek`, so that no record fetched before a seek slips in after it."""
        failures, waits = 0, self._config.retry_seconds
        while not self._stopping.is_set():
            self._move_positions()
            try:
                batches = await self._consumer.getmany(timeout_ms=50, max_records=10_000)
            except KafkaError as error:
                # What the client had read of other partitions went with the error, their positions did not.
                for each in self._partitions.values():
                    each.intake.fetch_again()
                if not self._leave_alone(error):
                    wait = waits[min(failures, len(waits) - 1)]
                    log.warning("fetch failed, retrying", error=repr(error), retry_in_seconds=wait)
                    await asyncio.sleep(wait)
                    failures += 1
                continue
            failures = 0
            for source, records in batches.items():
                owned = self._partitions.get(source)
                if owned is not None:
                    owned.intake.offer(records)

    def _leave_alone(self, error: KafkaError) -> bool:
        """Where one partition has a damaged batch, leave that one alone for a while: the others are read on."""
        source = damaged(error, self._partitions)
        if source is None:
            return False
        wait = self._partitions[source].intake.leave_alone(error)
        log.error("a batch is damaged", partition=source.partition, error=str(error), retry_in_seconds=wait)
        return True

    def _move_positions(self) -> None:
        for source, owned in self._partitions.items():
            intake = owned.intake
            if intake.ready and intake.seek_to is not None:
                self._consumer.seek(source, intake.seek_to)
                intake.seek_to = None
            paused = source in self._consumer.paused()
            if paused and intake.hungry:
                self._consumer.resume(source)
            elif not paused and intake.full:
                self._consumer.pause(source)
