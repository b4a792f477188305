"""The engine with its states on disk: restarts, and a file that breaks in the middle of work."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from streams.cluster import Cluster
from streams.engine import Engine
from streams.engine_config import EngineConfig
from streams.stores import DiskConfig, DiskStores
from streams.topics import Topics
from tests.conftest import Wire
from tests.streams.test_engine import CountPerKey, assert_counted, events, until

Restart = Callable[[], Engine]

pytestmark = [pytest.mark.broker, pytest.mark.parametrize("partitions", [1])]


@pytest.fixture
def restart(cluster: Cluster, topics: Topics, tmp_path: Path) -> Restart:
    """A new engine over the same folder, as a restarted worker would make it."""

    def new_engine() -> Engine:
        config = EngineConfig(cluster, f"{topics.prefix}app", topics.events, topics.state, topics.events_dlq)
        stores = DiskStores(DiskConfig(tmp_path, topics.state, memory_mib=16))
        return Engine(config, CountPerKey(topics.recommendations), stores)

    return new_engine


@contextlib.asynccontextmanager
async def serving(engine: Engine, wire: Wire, topics: Topics, answers: int) -> AsyncIterator[None]:
    """An engine that has taken over and given as many answers, and is stopped afterwards."""

    async def running() -> bool:
        return any(owned["status"] == "running" for owned in engine.status().values())

    task = asyncio.create_task(engine.run())
    await until(running)
    await answered(wire, topics, answers)
    yield
    engine.stop()
    await task


async def answered(wire: Wire, topics: Topics, count: int) -> None:
    async def enough() -> bool:
        return len(await wire.read(topics.recommendations)) >= count

    await until(enough)


def break_tables(folder: Path) -> None:
    """Overwrite half of each in place: the store has them open."""
    for path in folder.rglob("*.sst"):
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size // 2))


async def test_a_restart_reads_what_the_store_lacks_and_counts_once(restart: Restart, wire: Wire, topics: Topics):
    await wire.produce(topics.events, events(500))
    async with serving(restart(), wire, topics, 500):
        pass
    await wire.produce(topics.events, events(400))
    with capture_logs() as logs:
        async with serving(restart(), wire, topics, 900):
            pass
    (restored,) = [one for one in logs if one["event"] == "restored"]
    assert (restored["records"], restored["position"] > 0) == (0, True)
    await assert_counted(wire, topics, Counter(key for key, _ in events(500) + events(400)))


async def test_a_file_that_breaks_in_the_middle_of_work_costs_no_event(
    restart: Restart, wire: Wire, topics: Topics, tmp_path: Path
):
    """The handler's read fails; that is no fault of the event, which must not become a dead letter.

    Enough keys for many blocks: the first was read, and is kept, when the store was opened.
    """
    await wire.produce(topics.events, events(600, 600))
    async with serving(restart(), wire, topics, 600):
        pass
    with capture_logs() as logs:
        async with serving(restart(), wire, topics, 600):
            break_tables(tmp_path)
            await wire.produce(topics.events, events(600, 600))
            await answered(wire, topics, 1200)
    assert any("orruption" in str(one.get("error")) for one in logs)
    assert sum(one["event"] == "partition taken over" for one in logs) == 2  # found at work, not at the takeover
    await assert_counted(wire, topics, Counter(key for key, _ in events(600, 600) + events(600, 600)))
    assert await wire.read(topics.events_dlq) == []
