"""Things beside each other."""

from __future__ import annotations

import asyncio

import pytest

from ops.demo.tasks import beside, every


async def forever() -> None:
    await asyncio.Event().wait()


async def test_the_main_thing_ends_the_others() -> None:
    beats: list[int] = []

    async def main() -> str:
        await asyncio.sleep(0.05)
        return "done"

    assert await beside(main(), every(0.01, lambda: beats.append(1)), forever()) == "done"
    count = len(beats)
    await asyncio.sleep(0.05)
    assert 0 < count == len(beats)


async def test_a_failure_beside_it_ends_the_main_thing() -> None:
    ended = asyncio.Event()

    async def main() -> None:
        try:
            await forever()
        finally:
            ended.set()

    async def fail() -> None:
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        await beside(main(), fail())
    assert ended.is_set()


async def test_its_own_failure_is_raised() -> None:
    async def fail() -> None:
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        await beside(fail(), forever())
