"""Those who watch a dashboard: viewers of live pages, and pages loaded again and again, over HTTP.

Counts what they got. Knows nothing of what is on a page.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from types import TracebackType

import aiohttp

_MARK = b"data: {"


class Audience:
    """Viewers of the `live` paths (`/live/overview`), and `pages` loaded in turn, one every `every_s`.

    An asynchronous context manager. A viewer that is refused, or cut off, ends it all: `check` raises then.
    """

    def __init__(self, address: str, live: Sequence[str], pages: Iterator[str], every_s: float = 1.0) -> None:
        self._address, self._paths, self._pages, self._every_s = address, live, pages, every_s
        self.updates = [0] * len(live)
        self.bytes = self.loads = 0
        self.load_seconds: list[float] = []

    async def __aenter__(self) -> Audience:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(self._address, connector=connector)
        self._tasks = [asyncio.create_task(self._view(at, path)) for at, path in enumerate(self._paths)]
        self._tasks.append(asyncio.create_task(self._load()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    def check(self) -> None:
        """Raise what ended a viewer."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def _view(self, at: int, path: str) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
        async with self._session.get(path, timeout=timeout) as answer:
            answer.raise_for_status()
            rest = b""
            async for part in answer.content.iter_any():
                self.bytes += len(part)
                text = rest + part
                self.updates[at] += text.count(_MARK)
                rest = text[1 - len(_MARK) :]
        raise ConnectionError(f"{path} ended")

    async def _load(self) -> None:
        for path in self._pages:
            started = time.monotonic()
            async with self._session.get(path) as answer:
                answer.raise_for_status()
                self.bytes += len(await answer.read())
            self.loads += 1
            self.load_seconds.append(time.monotonic() - started)
            await asyncio.sleep(self._every_s)
