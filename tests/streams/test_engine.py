"""The engine on a real broker, with a job of its own: count events per key, and say so."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import pytest

from streams.engine import Engine, EngineConfig, HandlerBroken
from streams.job import DeadLetter, Effects, Record
from streams.topics import Topics
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
            if record.value == b"bad":
                effects.dead.append(DeadLetter(record, "bad", "value is bad; expected a good one"))
                continue
            key = record.key or b""
            before = effects.states.get(key) or states.get(key, b"0")
            effects.states[key] = b"%d" % (int(before) + 1)
            effects.outputs[self.output].append((key, b"%s@%d" % (effects.states[key], record.offset), ()))
        return effects


Runner = Callable[..., Awaitable[tuple[Engine, "asyncio.Task[None]"]]]


@pytest.fixture
async def start(bootstrap: str, topics: Topics) -> AsyncIterator[Runner]:
    running: list[tuple[Engine, asyncio.Task[None]]] = []

    async def start_engine(handler: CountPerKey, **options: object) -> tuple[Engine, asyncio.Task[None]]:
        config = EngineConfig(
            bootstrap,
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
    with pytest.raises(HandlerBroken, match="in a row"):
        await asyncio.wait_for(task, 30)
    assert len(await wire.read(topics.events_dlq)) == 10


@pytest.mark.parametrize("partitions", [1])
async def test_an_earlier_owner_is_fenced(wire: Wire, topics: Topics, start: Runner, bootstrap: str) -> None:
    """Whoever opens the partition's transactions next takes it over; the earlier one commits nothing more."""
    from aiokafka import TopicPartition

    from streams.transactions import Fenced, TransactionConfig, TransactionPair

    config = TransactionConfig(bootstrap, f"{topics.prefix}fence")
    source = TopicPartition(topics.events, 0)
    first, second = TransactionPair(config, source), TransactionPair(config, source)
    await first.open()
    await first.commit({topics.recommendations: [(b"a", b"first", ())]}, "group", 1)
    await second.open()
    for _ in range(2):
        with pytest.raises(Fenced):
            await first.commit({topics.recommendations: [(b"a", b"zombie", ())]}, "group", 2)
    await second.commit({topics.recommendations: [(b"a", b"second", ())]}, "group", 2)
    await first.close()
    await second.close()
    assert [record.value for record in await wire.read(topics.recommendations)] == [b"first", b"second"]
