"""Pages that stay live: a stream of server-sent events for each viewer, made once for all who look at the same.

Bounded: so many viewers, so many different pages at a time. Knows nothing of what is on a page.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

TICK_S = 2.0
MOST_VIEWERS = 256
MOST_PAGES = 64

Make = Callable[[], Awaitable[dict[str, Any]]]


class Crowded(Exception):
    """There are as many viewers as are allowed."""


class Live:
    """Makes each page once a tick, however many look at it."""

    def __init__(self, tick: float = TICK_S) -> None:
        self._tick = tick
        self._made: OrderedDict[str, tuple[float, asyncio.Task[str]]] = OrderedDict()
        self.viewers = 0

    def watch(self, key: str, make: Make) -> AsyncIterator[str]:
        """Events for one viewer of the page `key`. Raises `Crowded`."""
        if self.viewers >= MOST_VIEWERS:
            raise Crowded
        self.viewers += 1
        return self._events(key, make)

    async def _events(self, key: str, make: Make) -> AsyncIterator[str]:
        try:
            yield "retry: 3000\n\n"
            last = ""
            while True:
                text = await self._page(key, make)
                yield f"data: {text}\n\n" if text != last else ": nothing new\n\n"
                last = text
                await asyncio.sleep(self._tick)
        finally:
            self.viewers -= 1

    async def _page(self, key: str, make: Make) -> str:
        now = time.monotonic()
        known = self._made.get(key)
        if known is None or (now - known[0] >= 0.9 * self._tick and known[1].done()):
            known = self._made[key] = (now, asyncio.create_task(_told(make)))
            while len(self._made) > MOST_PAGES:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return await asyncio.shield(known[1])


async def _told(make: Make) -> str:
    return json.dumps(await make(), ensure_ascii=True, allow_nan=False)
