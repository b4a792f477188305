"""A TCP proxy that can be told to misbehave: cut connections, delay or throttle what passes, and heal.

One stands between a worker and its listener of the broker. Knows nothing of what passes through it.
"""

from __future__ import annotations

import asyncio
import contextlib

from ops.kafka.ports import HOST

_PIECE = 16 * 1024
_THROTTLED_PIECE = 1024


class Proxy:
    """Forwards connections to `port` of this machine to `target`, another port of it. Where nobody listens on the
    target, clients' connections are closed, as the target itself would do."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self._delay_s = 0.0
        self._bytes_per_s: float | None = None

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        await self._hang_up()
        if self._server is not None:
            await self._server.wait_closed()

    # What it can be told

    async def cut(self) -> None:
        """Break all connections and refuse new ones."""
        self._is_cut = True
        await self._hang_up()

    def delay(self, seconds: float) -> None:
        """Hold every piece back for so long, in both directions."""
        self._delay_s = seconds

    def throttle(self, bytes_per_s: float) -> None:
        """Let no more than so many bytes pass in a second, for each connection and direction."""
        self._bytes_per_s = bytes_per_s

    def heal(self) -> None:
        """Pass everything on at once again, new connections too."""
        self._is_cut, self._delay_s, self._bytes_per_s = False, 0.0, None

    # How it does it

    async def _hang_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(serving)
        await asyncio.wait({serving})
        self._tasks.discard(serving)
        _abort(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            return
        try:
            its_reader, its_writer = await asyncio.open_connection(HOST, self.target)
        except OSError:
            return  # the broker is down
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, its_writer))
                both.create_task(self._pass_on(its_reader, writer))
        except* _Closed:
            pass
        finally:
            _abort(its_writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one direction; raises `_Closed` at its end, so that the other one ends too."""
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE if self._bytes_per_s is None else _THROTTLED_PIECE):
                await self._hold_back(len(data))
                writer.write(data)
                await writer.drain()
        raise _Closed

    async def _hold_back(self, size: int) -> None:
        seconds = self._delay_s
        if self._bytes_per_s is not None:
            seconds += size / self._bytes_per_s
        if seconds:
            await asyncio.sleep(seconds)


class _Closed(Exception):
    """One side has hung up."""


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close at once, whatever is still unsent: there is nobody to read it, or the connection is cut."""
    writer.transport.abort()
