"""A model of Kafka, small enough to be read whole: logs, transactions, a consumer group, and who may still write.

It stands where `streams.cluster.Cluster` stands, so that the engine, its transactions and its restore run on
it unchanged. Nothing happens by itself: every request waits at a gate until the test lets it through (`ok`),
loses it before it has any effect (`fail`), or loses only its answer (`lost`). What is modelled is what exactly once
rests on: transactional ids and their epochs; records that are invisible until their transaction's markers are
written, which comes after the commit was acknowledged; a last stable offset that holds readers back; offsets
committed inside transactions, of which the larger log position counts; and members that are expelled from
the group without knowing it. A batch in the log may be damaged (`damaged`): a fetch that comes to it raises, after it
has moved the positions of the other partitions, whose records go with the error, as the client library's does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from aiokafka import TopicPartition
from aiokafka.errors import (
    CorruptRecordException,
    IllegalOperation,
    KafkaConnectionError,
    KafkaError,
    ProducerFenced,
    RequestTimedOutError,
)

from tests.streams.model_admin import ModelAdmin

Outcome = Literal["ok", "fail", "lost"]


@dataclass
class Txn:
    """One transaction: `prepared` once its commit is acknowledged, `committed` once its markers are written."""

    status: Literal["open", "prepared", "committed", "aborted"] = "open"
    offsets: dict[TopicPartition, tuple[int, int]] = field(default_factory=dict)  # offset, position in the offsets log


@dataclass
class Entry:
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    txn: Txn | None = None
    timestamp: int = 0
    compacted: bool = False


@dataclass
class Gate:
    worker: str
    name: str
    opened: asyncio.Future[Outcome]


class ModelKafka:
    """The cluster's side."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.logs: dict[TopicPartition, list[Entry]] = {}
        self.epochs: dict[str, int] = {}
        self.latest: dict[str, Txn] = {}  # by transactional id
        self.group_offsets: dict[TopicPartition, tuple[int, int]] = {}
        self.offset_records = 0
        self.damaged: dict[TopicPartition, int] = {}  # offset of the record that cannot be read
        self.gates: list[Gate] = []
        self.group = Group(self)

    def log(self, source: TopicPartition) -> list[Entry]:
        return self.logs.setdefault(source, [])

    def append(
        self, source: TopicPartition, key: bytes | None, value: bytes | None, txn: Txn | None, headers: Any = ()
    ) -> int:
        log = self.log(source)
        log.append(Entry(len(log), key, value, tuple(headers), txn))
        return len(log) - 1

    def stable_end(self, source: TopicPartition) -> int:
        """The last stable offset: where the first transaction that is not over begins."""
        log = self.log(source)
        return next((e.offset for e in log if e.txn and e.txn.status in ("open", "prepared")), len(log))

    def visible(self, source: TopicPartition) -> list[Entry]:
        """What a reader of committed records sees."""
        committed = self.log(source)[: self.stable_end(source)]
        whole = [entry for entry in committed if entry.txn is None or entry.txn.status == "committed"]
        return [entry for entry in whole if not entry.compacted]

    def compact(self, source: TopicPartition) -> None:
        """Drop what a later record of its key has replaced. Tombstones stay: they are kept for a day."""
        last = {entry.key: entry for entry in self.visible(source)}
        for entry in self.visible(source):
            entry.compacted = entry is not last[entry.key]

    def write_markers(self, transactional_id: str) -> None:
        """Make a transaction whose commit was acknowledged visible."""
        txn = self.latest.get(transactional_id)
        if txn is None or txn.status != "prepared":
            return
        txn.status = "committed"
        for source, (offset, position) in txn.offsets.items():
            if position > self.group_offsets.get(source, (0, -1))[1]:
                self.group_offsets[source] = (offset, position)

    def time_out(self, transactional_id: str) -> None:
        """The coordinator aborts a transaction that took too long, and fences its producer."""
        txn = self.latest.get(transactional_id)
        if txn is not None and txn.status == "open":
            txn.status = "aborted"
            self.epochs[transactional_id] += 1

    async def pass_gate(self, worker: str, name: str) -> Outcome:
        gate = Gate(worker, name, asyncio.get_running_loop().create_future())
        self.gates.append(gate)
        try:
            return await gate.opened
        finally:
            if gate in self.gates:
                self.gates.remove(gate)


class Group:
    """The workers' consumer group: eager rebalancing, round robin."""

    def __init__(self, kafka: ModelKafka) -> None:
        self._kafka = kafka
        self.members: list[ModelConsumer] = []
        self._joining: dict[ModelConsumer, asyncio.Task[None]] = {}

    def join(self, member: ModelConsumer) -> None:
        if member not in self.members:
            self.members.append(member)
        self.rebalance()

    def expel(self, member: ModelConsumer) -> None:
        """Its session is over; it does not know yet."""
        if member in self.members:
            self.members.remove(member)
            self._joining.pop(member, None)
            self.rebalance()

    def rebalance(self) -> None:
        """Every member is asked to give its partitions up; see `finish`."""
        for member in self.members:
            if member not in self._joining:
                self._joining[member] = asyncio.get_running_loop().create_task(member.revoke())

    async def finish(self) -> None:
        """Share the partitions out anew, once every member has given up what it had."""
        if not self._joining or not all(task.done() for task in self._joining.values()):
            return
        self._joining.clear()
        for at, member in enumerate(self.members):
            share = [number for number in range(self._kafka.partitions) if number % len(self.members) == at]
            await member.assign_share(share)


class ModelCluster:
    """What one worker takes for its `Cluster`."""

    def __init__(self, kafka: ModelKafka, worker: str) -> None:
        self.kafka = kafka
        self.worker = worker
        self.dead = False

    def consumer(self, *topics: str, group_id: str | None = None, **options: Any) -> ModelConsumer:
        return ModelConsumer(self)

    def producer(self, *, transactional_id: str, **options: Any) -> ModelProducer:
        return ModelProducer(self, transactional_id)

    def admin(self) -> ModelAdmin:
        return ModelAdmin()

    async def request(self, name: str, effect: Callable[[], Any]) -> Any:
        """One request to the cluster, whose fate the test decides. A dead process makes none."""
        if self.dead:
            raise asyncio.CancelledError
        outcome = await self.kafka.pass_gate(self.worker, name)
        if outcome == "fail":
            raise KafkaConnectionError(f"{name} did not get through")
        result = effect()
        if outcome == "lost":
            raise RequestTimedOutError(f"{name} got no answer")
        return result


class ModelConsumer:
    """The part of the client library's consumer that the engine and the restore use."""

    def __init__(self, cluster: ModelCluster) -> None:
        self._cluster = cluster
        self._kafka = cluster.kafka
        self._topic = ""
        self._listener: Any = None
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()

    # -- group membership

    def subscribe(self, topics: list[str], listener: Any) -> None:
        (self._topic,) = topics
        self._listener = listener

    async def start(self) -> None:
        if self._listener is not None:
            self._kafka.group.join(self)

    async def stop(self) -> None:
        if self._listener is not None and not self._cluster.dead:
            self._kafka.group.expel(self)

    async def revoke(self) -> None:
        await self._listener.on_partitions_revoked(set(self._positions))
        self._positions.clear()
        self._paused.clear()

    async def assign_share(self, share: Iterable[int]) -> None:
        for number in share:
            source = TopicPartition(self._topic, number)
            self._positions[source] = (await self.committed(source, gated=False)) or 0
        await self._listener.on_partitions_assigned(set(self._positions))

    # -- reading

    def assign(self, sources: Iterable[TopicPartition]) -> None:
        self._positions = dict.fromkeys(sources, 0)

    def seek(self, source: TopicPartition, offset: int) -> None:
        self._positions[source] = offset

    def pause(self, source: TopicPartition) -> None:
        self._paused.add(source)

    def resume(self, source: TopicPartition) -> None:
        self._paused.discard(source)

    def paused(self) -> set[TopicPartition]:
        return set(self._paused)

    def highwater(self, source: TopicPartition) -> int:
        return len(self._kafka.log(source))

    async def position(self, source: TopicPartition) -> int:
        return self._positions[source]

    async def topics(self) -> set[str]:
        return {self._topic}

    async def getmany(self, timeout_ms: int = 0, max_records: int = 1) -> dict[TopicPartition, list[Entry]]:
        return await self._cluster.request("fetch", lambda: self._read(max_records))  # type: ignore[no-any-return]

    def _read(self, max_records: int) -> dict[TopicPartition, list[Entry]]:
        found, damaged = {}, None
        for source, position in self._positions.items():
            if source in self._paused:
                continue
            records = [entry for entry in self._kafka.visible(source) if entry.offset >= position][:max_records]
            if self._kafka.damaged.get(source) in [entry.offset for entry in records]:
                damaged = source
            elif records:
                found[source] = records
                self._positions[source] = records[-1].offset + 1
            else:
                self._positions[source] = max(position, self._kafka.stable_end(source))  # past what was aborted
        if damaged is not None:
            raise CorruptRecordException(f"Invalid CRC - {damaged}")
        return found

    async def committed(self, source: TopicPartition, gated: bool = True) -> int | None:
        def read() -> int | None:
            return self._kafka.group_offsets.get(source, (None, 0))[0]

        return await self._cluster.request("committed", read) if gated else read()

    async def beginning_offsets(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(sources, 0)

    async def end_offsets(self, sources: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        listed = list(sources)
        return await self._cluster.request(  # type: ignore[no-any-return]
            "end_offsets", lambda: {source: self._kafka.stable_end(source) for source in listed}
        )


class ModelBatch:
    def __init__(self) -> None:
        self.records: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = []

    def append(
        self, *, key: bytes | None, value: bytes | None, timestamp: None, headers: list[tuple[str, bytes]]
    ) -> Any:
        self.records.append((key, value, headers))
        return object()

    def record_count(self) -> int:
        return len(self.records)


@dataclass
class Metadata:
    offset: int


class ModelProducer:
    """The part of the client library's transactional producer that `TransactionPair` uses."""

    def __init__(self, cluster: ModelCluster, transactional_id: str) -> None:
        self._cluster = cluster
        self._kafka = cluster.kafka
        self._id = transactional_id
        self._epoch = -1
        self._txn: Txn | None = None
        self._sends: list[asyncio.Task[Any]] = []

    async def start(self) -> None:
        await self._cluster.request("init producer", self._init)

    def _init(self) -> None:
        """Fence whoever had the id, and settle what he left: abort what was open, finish what was acknowledged."""
        self._kafka.write_markers(self._id)
        left = self._kafka.latest.get(self._id)
        if left is not None and left.status == "open":
            left.status = "aborted"
        self._epoch = self._kafka.epochs[self._id] = self._kafka.epochs.get(self._id, -1) + 1

    async def stop(self) -> None:
        for send in self._sends:
            send.cancel()
        await asyncio.gather(*self._sends, return_exceptions=True)

    async def begin_transaction(self) -> None:
        self._txn = None

    def create_batch(self) -> ModelBatch:
        return ModelBatch()

    async def send_batch(self, batch: ModelBatch, topic: str, partition: int) -> asyncio.Task[Any]:
        source = TopicPartition(topic, partition)
        send = asyncio.create_task(self._cluster.request("produce", lambda: self._produce(batch, source)))
        send.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._sends.append(send)
        return send

    def _produce(self, batch: ModelBatch, source: TopicPartition) -> Metadata:
        txn = self._current()
        ends = [self._kafka.append(source, *record[:2], txn, record[2]) for record in batch.records]
        return Metadata(ends[0])

    async def send_offsets_to_transaction(self, offsets: dict[TopicPartition, int], group: str) -> None:
        await self._cluster.request("offsets", lambda: self._send_offsets(offsets))

    def _send_offsets(self, offsets: dict[TopicPartition, int]) -> None:
        txn = self._current()
        for source, offset in offsets.items():
            self._kafka.offset_records += 1
            txn.offsets[source] = (offset, self._kafka.offset_records)

    async def commit_transaction(self) -> None:
        await self._cluster.request("commit", lambda: self._end("prepared"))

    async def abort_transaction(self) -> None:
        await self._cluster.request("abort", lambda: self._end("aborted"))

    def _end(self, status: Literal["prepared", "aborted"]) -> None:
        self._check_epoch()
        if self._txn is None or self._txn.status != "open":
            raise IllegalOperation(f"there is no transaction to be {status}")
        self._txn.status = status

    def _current(self) -> Txn:
        """The transaction that this producer is in; it begins with its first record."""
        self._check_epoch()
        if self._txn is None:
            self._kafka.write_markers(self._id)  # the coordinator has it wait until its last one is over
            self._txn = self._kafka.latest[self._id] = Txn()
        if self._txn.status != "open":
            raise KafkaError("the transaction is over")
        return self._txn

    def _check_epoch(self) -> None:
        if self._epoch != self._kafka.epochs[self._id]:
            raise ProducerFenced
