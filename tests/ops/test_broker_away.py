"""A broker that is slow, one that is gone: the worker says so, waits, and goes on, nothing lost or doubled."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from ops.audit import audit
from ops.chaos.proxy import Proxy
from ops.kafka import EmbeddedKafka, Listener, ports
from streams.cluster import Cluster
from streams.contracts import Recommendation
from streams.topics import Topics, create
from tests.conftest import Wire, settings_of_worker
from tests.streams.test_worker import events, publish_world

pytestmark = pytest.mark.broker

TOPICS = Topics("away.")


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """What stands between the worker and the broker."""
    proxy = Proxy(ports.free(), ports.free())
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
def own_broker(proxy: Proxy, tmp_path: Path, jar_cache: Path) -> Iterator[EmbeddedKafka]:
    """A broker of this test's own, to be killed."""
    listener = Listener("WORKER", proxy.target, advertised_port=proxy.port)
    kafka = EmbeddedKafka(tmp_path / "kafka", jar_cache, tied=True, listeners=[listener])
    yield kafka
    kafka.purge(force_stop=True)


@pytest.fixture
def page(proxy: Proxy, tmp_path: Path) -> Iterator[str]:
    """Where the worker says whether it is ready. It is started with the first look at it."""
    port = ports.free()
    environment = os.environ | settings_of_worker(f"{ports.HOST}:{proxy.port}", TOPICS, 2, tmp_path)
    command = [sys.executable, "-m", "ops.cli", "worker", "--web-port", str(port)]
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    yield f"http://127.0.0.1:{port}"
    assert worker.poll() is None, "the worker has ended"
    worker.kill()
    worker.wait()
    print((tmp_path / "worker.log").read_text()[-4000:])  # shown when the test fails


async def test_a_slow_broker_and_an_absent_one(
    own_broker: EmbeddedKafka, proxy: Proxy, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    cluster = Cluster(await asyncio.to_thread(own_broker.start))
    wire = Wire(cluster)
    await create(cluster, TOPICS, 2)
    await publish_world(wire, TOPICS, tmp_path)
    page = request.getfixturevalue("page")
    await wire.produce(TOPICS.events, events(40))
    await until_answered(wire, 40)
    await until_status(page, 200)

    proxy.throttle(30_000)  # about four events a second
    await wire.produce(TOPICS.events, events(60, 40))
    await until_answered(wire, 45)
    assert len(await answered(wire)) < 100
    proxy.heal()
    await until_answered(wire, 100)

    await asyncio.to_thread(own_broker.kill)
    await until_status(page, 503)
    assert await status(f"{page}/health") == 200  # it lives, and there is no use in starting it again
    await asyncio.to_thread(own_broker.start)
    await until_status(page, 200)
    await wire.produce(TOPICS.events, events(40, 100))
    await until_answered(wire, 140)
    account, _ = await audit(cluster, TOPICS, f"{TOPICS.prefix}app", 0)
    assert account.clean and (account.events, account.unanswered) == (140, 0), account


async def answered(wire: Wire) -> list[tuple[int, int]]:
    """Every event that a slate names."""
    return [
        (record.partition, offset)
        for record in await wire.read(TOPICS.recommendations)
        for offset in msgspec.json.decode(record.value, type=Recommendation).covers
    ]


async def until_answered(wire: Wire, count: int) -> None:
    async with asyncio.timeout(120):
        while len(await answered(wire)) < count:
            await asyncio.sleep(0.2)


async def until_status(page: str, expected: int) -> None:
    async with asyncio.timeout(120):
        while await status(f"{page}/ready") != expected:
            await asyncio.sleep(0.2)


async def status(url: str) -> int:
    def ask() -> int:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0  # not up yet

    return await asyncio.to_thread(ask)
