"""The dashboard as it is served, over HTTP: a hundred viewers, some that never read, and requests that are too long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import cycle
from urllib.parse import quote

import aiohttp
import psutil
import pytest
from uvicorn import Server

from bench.audience import Audience
from ops.commands.dashboard import serving
from ops.dashboard.app import PAGES, Dashboard
from ops.dashboard.live import Live
from ops.kafka import ports
from streams.contracts import Interaction, encode
from tests import small
from tests.ops.dashboard import hostile

VIEWERS, DEAF = 100, 5
UPDATES = 3
MOST_GROWTH_MB = 64
WATCHED = ("overview", "events", "propensity", "fairness", f"item?id={quote(hostile.ATTACKS['item'], safe='')}")


@pytest.fixture
async def served() -> AsyncIterator[tuple[Dashboard, str]]:
    dashboard = hostile.dashboard(endpoints=())
    hostile.fill(dashboard)
    dashboard.live = Live(tick=0.1)
    port = ports.free()
    server = Server(serving(dashboard.app(), "127.0.0.1", port))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield dashboard, f"http://127.0.0.1:{port}"
    server.should_exit = True
    await running


async def happening(dashboard: Dashboard) -> None:
    """Events, so that there is something new to say."""
    for number in cycle(range(1000)):
        event = Interaction(f"u{number}", f"i{number}", small.START, action="view")
        dashboard.seen.take("events", hostile.record(encode(event)))
        dashboard.seen.topic("events").skipped += 1
        await asyncio.sleep(0.02)


async def test_a_hundred_viewers_all_get_what_is_new_and_some_that_never_read_stop_nobody(
    served: tuple[Dashboard, str],
) -> None:
    dashboard, address = served
    process, port = psutil.Process(), int(address.rsplit(":", 1)[1])
    events = asyncio.create_task(happening(dashboard))
    deaf = [await asyncio.open_connection("127.0.0.1", port, limit=1) for _ in range(DEAF)]
    for _, writer in deaf:
        writer.write(b"GET /live/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    paths = [f"/live/{WATCHED[at % len(WATCHED)]}" for at in range(VIEWERS)]
    before = process.memory_info().rss
    async with (
        Audience(address, paths, cycle([f"/{page}" for page in PAGES]), every_s=0) as audience,
        asyncio.timeout(60),
    ):
        moving = [at for at, path in enumerate(paths) if path in ("/live/overview", "/live/events")]
        while min(audience.updates) < 1 or min(audience.updates[at] for at in moving) < UPDATES or audience.loads < 16:
            audience.check()
            await asyncio.sleep(0.05)
        assert dashboard.live.viewers == VIEWERS + DEAF
    grown = (process.memory_info().rss - before) / 2**20
    assert grown < MOST_GROWTH_MB, f"{grown:.0f} MiB"
    for _, writer in deaf:
        writer.close()
    async with asyncio.timeout(30):
        while dashboard.live.viewers:
            await asyncio.sleep(0.05)
    events.cancel()


@pytest.mark.parametrize("path", ["/user?id={}", "/item?id={}", "/live/user?id={}", "/{}", "/live/{}"])
async def test_a_hundred_kilobytes_in_an_address_are_refused_and_it_goes_on(
    served: tuple[Dashboard, str], path: str
) -> None:
    _, address = served
    async with aiohttp.ClientSession() as session:
        async with session.get(address + path.format("x" * 100_000)) as answer:
            assert answer.status in (400, 414)  # by the server, which may read it in parts, or by the guard
            assert len(await answer.read()) < 1000
        async with session.get(address + "/overview") as answer:
            assert answer.status == 200


async def test_a_path_that_is_markup_is_told_as_text(served: tuple[Dashboard, str]) -> None:
    _, address = served
    async with aiohttp.ClientSession() as session:
        for attack in (one.replace("/", "") for one in hostile.ATTACKS.values()):
            async with session.get(f"{address}/{quote(attack, safe='')}") as answer:
                text = await answer.text()
                assert answer.status == 404 and attack[:40] not in text and "none of the pages" in text
