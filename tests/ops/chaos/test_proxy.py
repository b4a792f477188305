"""The proxy: passes on, cuts, delays, throttles, heals, and survives a target that is not there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from ops.chaos.proxy import Proxy
from ops.kafka import ports

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo:
    """A server that sends back what it gets."""

    def __init__(self) -> None:
        self.port = ports.free()
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, ports.HOST, self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    await echo.start()
    yield echo
    await echo.stop()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    proxy = Proxy(ports.free(), echo.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


async def connect(proxy: Proxy) -> Streams:
    return await asyncio.open_connection(ports.HOST, proxy.port)


async def said_back(streams: Streams, data: bytes) -> bytes:
    """What comes back within ten seconds; nothing when the connection is closed."""
    reader, writer = streams
    async with asyncio.timeout(10):
        try:
            writer.write(data)
            await writer.drain()
            return await reader.readexactly(len(data))
        except (OSError, asyncio.IncompleteReadError):
            return b""


async def test_it_passes_on_what_it_is_given(proxy: Proxy) -> None:
    first, second = await connect(proxy), await connect(proxy)
    assert await said_back(first, b"one" * 50_000) == b"one" * 50_000
    assert await said_back(second, b"two") == b"two"
    first[1].close()
    second[1].close()


async def test_a_cut_ends_connections_and_refuses_new_ones_until_it_heals(proxy: Proxy) -> None:
    streams = await connect(proxy)
    assert await said_back(streams, b"before") == b"before"
    await proxy.cut()
    assert await said_back(streams, b"gone") == b""
    refused = await connect(proxy)
    assert await said_back(refused, b"refused") == b""
    proxy.heal()
    again = await connect(proxy)
    assert await said_back(again, b"after") == b"after"
    for _, writer in (streams, refused, again):
        writer.close()


async def test_delay_and_throttle_hold_back_and_lose_nothing(proxy: Proxy) -> None:
    streams = await connect(proxy)
    assert await said_back(streams, b"warm") == b"warm"
    proxy.delay(0.2)
    begun = time.monotonic()
    assert await said_back(streams, b"late") == b"late"
    assert time.monotonic() - begun >= 0.4  # there and back: at least, however slow the machine
    proxy.heal()
    proxy.throttle(20_000)
    begun = time.monotonic()
    assert await said_back(streams, b"x" * 10_000) == b"x" * 10_000
    assert time.monotonic() - begun >= 0.4
    proxy.heal()
    assert await said_back(streams, b"soon") == b"soon"
    streams[1].close()


async def test_a_target_that_goes_away_ends_connections_and_is_found_again(proxy: Proxy, echo: Echo) -> None:
    streams = await connect(proxy)
    assert await said_back(streams, b"there") == b"there"
    await echo.stop()
    assert await said_back(streams, b"away") == b""
    nobody = await connect(proxy)
    assert await said_back(nobody, b"nobody") == b""
    await echo.start()
    again = await connect(proxy)
    assert await said_back(again, b"back") == b"back"
    for _, writer in (streams, nobody, again):
        writer.close()


async def test_it_stops_with_connections_open(echo: Echo) -> None:
    proxy = Proxy(ports.free(), echo.port)
    await proxy.start()
    streams = await connect(proxy)
    assert await said_back(streams, b"there") == b"there"
    await proxy.stop()
    assert await said_back(streams, b"gone") == b""
    streams[1].close()
    assert ports.is_free(proxy.port)
