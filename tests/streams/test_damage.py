"""A batch that went bad on the broker's disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.kafka import EmbeddedKafka
from streams.topics import Topics
from tests.conftest import Wire
from tests.streams.test_engine import CountPerKey, Runner, holds, until
from tests.streams.test_engine import start as start

pytestmark = pytest.mark.broker


def flip_last_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, 2)
        (byte,) = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([byte ^ 255]))


@pytest.mark.parametrize("partitions", [2])
async def test_a_damaged_batch_stops_its_partition_only_until_it_is_mended(
    wire: Wire, topics: Topics, start: Runner, broker: EmbeddedKafka
) -> None:
    """What says whose batch it is are the words of the client library's error: here are the real ones."""
    for partition in (0, 1):
        await wire.produce(topics.events, [(b"a", b"x")], partition=partition)
    segment = broker.folder / "data" / f"{topics.events}-0" / f"{0:020}.log"
    flip_last_byte(segment)
    engine, _ = await start(CountPerKey(topics.recommendations), retry_seconds=(0.5,))

    async def unreadable() -> bool:
        return [owned["status"] for _, owned in sorted(engine.status().items())] == ["unreadable", "running"]

    await until(unreadable)
    await until(lambda: holds(wire, topics.recommendations, 1))
    await wire.produce(topics.events, [(b"a", b"x")], partition=1)
    await until(lambda: holds(wire, topics.recommendations, 2))
    assert engine.status()[0]["next_offset"] == 0
    flip_last_byte(segment)
    await until(lambda: holds(wire, topics.recommendations, 3))
    assert engine.status()[0]["status"] == "running"
