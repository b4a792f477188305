"""The engine on a real broker, with a job of its own: count events per key, and say so."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from structlog.testing import capture_logs

from streams.cluster import Cluster
from streams.engine import Engine
from streams.engine_config import EngineConfig
from streams.job import DeadLetter, Effects, Record
from streams.partition import ForeignOffset, HandlerBroken
from streams.topics import Topics
from streams.transactions import Fenced, NotCommitted, TransactionConfig, TransactionPair
from tests.conftest import Wire

pytestmark = pytest.mark.broker


class CountPerKey:
    """State: how many records a key had. Output: the count so far and the offsets it covers."""

    def __init__(self, output: str, poison: bytes | None = None) -> None:
        self.output = output
        self.poison = poison
        self.batches: list[int] = []

    def assigned(self, partition: int, states: Mapping[bytes, bytes]) -> None:
        pass

    def revoked(self, partition: int) -> None:
        pass

    def apply(self, partition: int, records: Sequence[Record], states: Mapping[bytes, bytes]) -> Effects:
        self.batches.append(len(records))
        effects = Effects(outputs={self.output: []})
        for record in records:
            if record.value == self.poison:
                raise ZeroDivisionError("poison")
            if (record.value or b"").startswith(b"bad"):
                effects.dead.append(DeadLetter(record, "bad", "value is bad; expected a good one"))
                continue
            key = record.key or b""
            before = effects.states.get(key) or states.get(key, b"0")
            effects.states[key] = b"%d" % (int(before) + 1)
            filler = bytes(int(record.value[4:]) if (record.value or b"").startswith(b"grow") else 0)
            effects.outputs[self.output].append((key, b"%s@%d" % (effects.states[key], record.offset) + filler, ()))
        return effects


Runner = Callable[..., Awaitable[tuple[Engine, "asyncio.Task[None]"]]]


@pytest.fixture
async def start(cluster: Cluster, topics: Topics) -> AsyncIterator[Runner]:
    running: list[tuple[Engine, asyncio.Task[None]]] = []

    async def start_engine(handler: CountPerKey, **options: object) -> tuple[Engine, asyncio.Task[None]]:
        config = EngineConfig(
            cluster,
            f"{topics.prefix}app",
            topics.events,
            topics.state,
            topics.events_dlq,
            **options,  # type: ignore[arg-type]
        )
        engine = Engine(config, handler)
        task = asyncio.create_task(engine.run())
        running.append((engine, task))
        return engine, task

    yield start_engine
    for engine, task in running:
        engine.stop()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(task, 20)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.1)


async def assert_counted(wire: Wire, topics: Topics, sent: Counter[bytes]) -> None:
    """Every key's outputs are 1, 2, 3 … n, once each, in order; its state is n."""
    outputs: dict[bytes, list[int]] = {}
    for record in await wire.read(topics.recommendations):
        outputs.setdefault(record.key, []).append(int(record.value.split(b"@")[0]))
    assert outputs == {key: list(range(1, count + 1)) for key, count in sent.items()}
    states = {record.key: record.value for record in await wire.read(topics.state)}
    assert states == {key: b"%d" % count for key, count in sent.items()}


def events(count: int, keys: int = 20) -> list[tuple[bytes, bytes]]:
    return [(b"k%d" % (number % keys), b"x") for number in range(count)]


async def test_counts_once_over_a_restart(wire: Wire, topics: Topics, start: Runner) -> None:
    async def all_answered() -> bool:
        return len(await wire.read(topics.recommendations)) >= total

    total = 500
    await wire.produce(topics.events, events(500))
    engine, task = await start(CountPerKey(topics.recommendations))
    await until(all_answered)
    engine.stop()
    await task
    total = 900
    await wire.produce(topics.events, events(400))
    await start(CountPerKey(topics.recommendations))
    await until(all_answered)
    await assert_counted(wire, topics, Counter(key for key, _ in events(500) + events(400)))


async def test_a_second_worker_joins_and_leaves_mid_stream(wire: Wire, topics: Topics, start: Runner) -> None:
    async def all_answered() -> bool:
        return len(await wire.read(topics.recommendations)) >= 1500

    await start(CountPerKey(topics.recommendations), max_batch_records=16)
    await wire.produce(topics.events, events(500))
    second, task = await start(CountPerKey(topics.recommendations), max_batch_records=16)
    await wire.produce(topics.events, events(500))
    await until(lambda: _owns_some(second))
    await wire.produce(topics.events, events(500))
    second.stop()
    await task
    await until(all_answered)
    await assert_counted(wire, topics, Counter(key for key, _ in events(500) * 3))


async def _owns_some(engine: Engine) -> bool:
    return any(owned["status"] == "running" for owned in engine.status().values())


@pytest.mark.parametrize("partitions", [1])
async def test_a_poison_record_is_found_and_dead_lettered_alone(wire: Wire, topics: Topics, start: Runner) -> None:
    records = events(100)
    records[37] = (b"k17", b"boom")
    await wire.produce(topics.events, records)
    await start(CountPerKey(topics.recommendations, poison=b"boom"))

    async def all_answered() -> bool:
        return len(await wire.read(topics.recommendations)) >= 99

    await until(all_answered)
    (letter,) = await wire.read(topics.events_dlq)
    assert (letter.key, letter.value) == (b"k17", b"boom")
    headers = dict(letter.headers)
    assert headers["driftline-reason"] == b"handler_error"
    assert b"ZeroDivisionError" in headers["driftline-message"]
    assert headers["driftline-source-offset"] == b"37"
    sent = Counter(key for key, value in records if value != b"boom")
    await assert_counted(wire, topics, sent)


@pytest.mark.parametrize("partitions", [1])
async def test_what_the_handler_rejects_keeps_its_bytes(wire: Wire, topics: Topics, start: Runner) -> None:
    await wire.produce(topics.events, [(b"a", b"x"), (None, b"bad"), (b"a", b"x")])
    await start(CountPerKey(topics.recommendations))

    async def all_answered() -> bool:
        return len(await wire.read(topics.recommendations)) >= 2

    await until(all_answered)
    (letter,) = await wire.read(topics.events_dlq)
    assert (letter.key, letter.value) == (None, b"bad")


@pytest.mark.parametrize("partitions", [1])
async def test_a_broken_handler_stops_the_worker_and_spares_the_events(
    wire: Wire, topics: Topics, start: Runner
) -> None:
    await wire.produce(topics.events, [(b"a", b"boom")] * 50)
    _, task = await start(CountPerKey(topics.recommendations, poison=b"boom"), poison_limit=10)
    with pytest.raises(HandlerBroken, match=r"4 records in a row .* The 3 before it are in"):
        await asyncio.wait_for(task, 30)
    assert len(await wire.read(topics.events_dlq)) == 3


@pytest.mark.parametrize("partitions", [1])
async def test_a_handler_that_has_worked_is_given_up_later(wire: Wire, topics: Topics, start: Runner) -> None:
    await wire.produce(topics.events, [(b"a", b"x")] * 5 + [(b"a", b"boom")] * 50)
    _, task = await start(CountPerKey(topics.recommendations, poison=b"boom"), poison_limit=10)
    with pytest.raises(HandlerBroken, match="11 records in a row"):
        await asyncio.wait_for(task, 30)
    assert len(await wire.read(topics.events_dlq)) == 10


@pytest.mark.parametrize("partitions", [2])
async def test_a_parked_partition_does_not_stop_the_others_and_is_tried_again(
    wire: Wire, topics: Topics, start: Runner
) -> None:
    await wire.produce(topics.events, [(b"a", b"boom")] * 5, partition=0)
    handler = CountPerKey(topics.recommendations, poison=b"boom")
    engine, _ = await start(handler, park_seconds=0.5)

    async def parked() -> bool:
        return engine.status().get(0, {}).get("status") == "parked"

    await until(parked)
    assert "HandlerBroken" in engine.status()[0]["failure"]
    await wire.produce(topics.events, [(b"b", b"x")] * 5, partition=1)
    await until(lambda: holds(wire, topics.recommendations, 5))
    handler.poison = None
    await until(lambda: holds(wire, topics.recommendations, 7))
    assert engine.status()[0]["status"] == "running"
    await assert_counted(wire, topics, Counter({b"b": 5, b"a": 2}))


@pytest.mark.parametrize("partitions", [1])
@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_events_are_answered(
    wire: Wire, topics: Topics, start: Runner, cluster: Cluster, codec: str
) -> None:
    await produce_compressed(cluster, topics, b"x" * 1000, codec)
    await start(CountPerKey(topics.recommendations))
    await until(lambda: holds(wire, topics.recommendations, 1))


async def produce_compressed(cluster: Cluster, topics: Topics, value: bytes, codec: str = "gzip") -> None:
    producer = cluster.producer(compression_type=codec, max_request_size=8 * 2**20)
    await producer.start()
    try:
        await producer.send_and_wait(topics.events, value, key=b"a")
    finally:
        await producer.stop()


async def holds(wire: Wire, topic: str, count: int) -> bool:
    return len(await wire.read(topic)) >= count


@pytest.mark.parametrize("partitions", [1])
@pytest.mark.parametrize("size", [2 * 2**20, 9 * 2**20])
async def test_an_output_too_large_for_its_topic_costs_only_its_record(
    wire: Wire, topics: Topics, start: Runner, size: int
) -> None:
    records = events(40)
    records[17] = (b"k17", b"grow%d" % size)
    await wire.produce(topics.events, records)
    await start(CountPerKey(topics.recommendations))
    await until(lambda: holds(wire, topics.recommendations, 39))
    (letter,) = await wire.read(topics.events_dlq)
    headers = dict(letter.headers)
    assert (letter.value, headers["driftline-reason"]) == (records[17][1], b"too_large")
    assert headers["driftline-source-offset"] == b"17"
    await assert_counted(wire, topics, Counter(key for key, value in records if value == b"x"))


@pytest.mark.parametrize("partitions", [1])
async def test_a_dead_letter_too_large_for_its_topic_is_cut(
    wire: Wire, topics: Topics, start: Runner, cluster: Cluster
) -> None:
    await produce_compressed(cluster, topics, b"bad" + bytes(5 * 2**20))
    await start(CountPerKey(topics.recommendations))
    await until(lambda: holds(wire, topics.events_dlq, 1))
    (letter,) = await wire.read(topics.events_dlq)
    assert 3 * 2**20 < len(letter.value) < 4 * 2**20
    assert int(dict(letter.headers)["driftline-truncated"]) > 5 * 2**20


@pytest.mark.parametrize("partitions", [1])
async def test_a_commit_that_is_never_answered_ends_and_so_does_closing(
    topics: Topics, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*arguments: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("streams.transactions.CLOSE_SECONDS", 0.5)
    config = TransactionConfig(cluster, f"{topics.prefix}hang", transaction_timeout_ms=1000)
    pair = TransactionPair(config, TopicPartition(topics.events, 0))
    await pair.open()
    monkeypatch.setattr("aiokafka.producer.sender.EndTxnHandler.do", never)  # both commit and abort
    async with asyncio.timeout(15):
        with pytest.raises(NotCommitted):
            await pair.commit({topics.recommendations: [(b"a", b"x", ())]}, "group", 1)
    async with asyncio.timeout(5):
        await pair.close()


@pytest.mark.parametrize("partitions", [1])
async def test_stopping_does_not_wait_for_ever_for_a_commit(
    wire: Wire, topics: Topics, start: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    committing = asyncio.Event()

    async def never(*arguments: object) -> None:
        committing.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(TransactionPair, "commit", never)
    await wire.produce(topics.events, events(1))
    engine, task = await start(CountPerKey(topics.recommendations), stop_seconds=0.5)
    await asyncio.wait_for(committing.wait(), 30)
    engine.stop()
    await asyncio.wait_for(task, 10)


@pytest.mark.parametrize("partitions", [1])
async def test_events_gone_before_they_were_processed_are_said(
    wire: Wire, topics: Topics, start: Runner, cluster: Cluster
) -> None:
    await wire.produce(topics.events, events(10))
    await commit_offset(cluster, topics, 2)
    admin = cluster.admin()
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topics.events, 0): RecordsToDelete(before_offset=6)})
    finally:
        await admin.close()
    with capture_logs() as logs:
        await start(CountPerKey(topics.recommendations))
        await until(lambda: holds(wire, topics.recommendations, 4))
    (warning,) = [line for line in logs if line["event"].startswith("records are gone")]
    assert (warning["records"], warning["committed"], warning["beginning"]) == (4, 2, 6)


@pytest.mark.parametrize("partitions", [1])
async def test_an_offset_beyond_the_log_stops_the_worker(
    wire: Wire, topics: Topics, start: Runner, cluster: Cluster
) -> None:
    await wire.produce(topics.events, events(10))
    await commit_offset(cluster, topics, 11)
    _, task = await start(CountPerKey(topics.recommendations), retry_seconds=(0.1,))
    with pytest.raises(ForeignOffset, match=r"offset 11 .* ends at 10: .* another topic"):
        await asyncio.wait_for(task, 30)


async def commit_offset(cluster: Cluster, topics: Topics, offset: int) -> None:
    source = TopicPartition(topics.events, 0)
    consumer = cluster.consumer(group_id=f"{topics.prefix}app")
    await consumer.start()
    try:
        consumer.assign([source])
        await consumer.commit({source: offset})
    finally:
        await consumer.stop()


@pytest.mark.parametrize("partitions", [1])
async def test_an_earlier_owner_is_fenced(wire: Wire, topics: Topics, start: Runner, cluster: Cluster) -> None:
    """Whoever opens the partition's transactions next takes it over; the earlier one commits nothing more."""
    config = TransactionConfig(cluster, f"{topics.prefix}fence")
    source = TopicPartition(topics.events, 0)
    first, second = TransactionPair(config, source), TransactionPair(config, source)
    await first.open()
    await first.commit({topics.recommendations: [(b"a", b"first", ())]}, "group", 1)
    await second.open()
    for _ in range(2):
        with pytest.raises(Fenced):
            await first.commit({topics.recommendations: [(b"a", b"zombie", ())]}, "group", 2)
    with pytest.raises(NotCommitted):  # the library only asserts that such a producer can do nothing more
        await first.commit({topics.recommendations: [(b"a", b"zombie", ())]}, "group", 2)
    await second.commit({topics.recommendations: [(b"a", b"second", ())]}, "group", 2)
    await first.close()
    await second.close()
    assert [record.value for record in await wire.read(topics.recommendations)] == [b"first", b"second"]
