"""Running things beside each other, the first failure ending all. Knows nothing of what they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def beside(main: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, None]) -> T:
    """Return what `main` returns; the others run meanwhile, and what one of them raises is raised instead."""
    task = asyncio.create_task(main)
    watching = [asyncio.create_task(other) for other in others]
    try:
        await asyncio.wait({task, *watching}, return_when=asyncio.FIRST_COMPLETED)
        for other in watching:
            if other.done():
                other.result()
        return await task
    finally:
        for one in (task, *watching):
            one.cancel()
        await asyncio.gather(task, *watching, return_exceptions=True)


async def every(seconds: float, action: Callable[[], None]) -> None:
    """Call `action` again and again; never returns."""
    while True:
        action()
        await asyncio.sleep(seconds)
