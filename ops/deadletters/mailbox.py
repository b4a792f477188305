"""Reading a topic of dead letters: where it begins and ends, what lies between, in what order.

Committed records only, in no group. Knows nothing of what is done with letters.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any

from aiokafka import TopicPartition

from ops.deadletters.letters import Filter
from ops.errors import CliError
from streams.cluster import MAX_FETCH_BYTES, Cluster
from streams.restore import TopicMissing, partitions_of

Places = Mapping[TopicPartition, int]
Progress = Callable[[int, int], None]
"""Told offsets read and offsets in all."""

SETTLE_SECONDS = 120.0
"""How long to wait for open transactions: longer than any of ours may last."""


def quietly(done: int, total: int) -> None:
    """Progress that nobody looks at."""


class Mailbox:
    """A topic of dead letters, or any other. An asynchronous context manager.

    Raises CliError on entry when the topic does not exist.
    """

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self.cluster = cluster
        self.topic = topic
        self.places: list[TopicPartition] = []
        self._consumer = cluster.consumer(max_partition_fetch_bytes=MAX_FETCH_BYTES, fetch_max_wait_ms=100)

    async def __aenter__(self) -> Mailbox:
        try:
            self.places = await partitions_of(self.cluster, self.topic)
            await self._consumer.start()
        except BaseException as error:
            await self._consumer.stop()
            if isinstance(error, TopicMissing):
                raise CliError(str(error)) from error
            raise
        self._consumer.assign(self.places)
        await asyncio.sleep(0)  # a consumer that is stopped before its tasks have begun raises CancelledError
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    def chosen(self, partition: int | None) -> list[TopicPartition]:
        """All places, or that of one partition. Raises CliError when there is no such partition."""
        found = [place for place in self.places if partition is None or place.partition == partition]
        if not found:
            raise CliError(
                f"{self.topic} has no partition {partition}; expected 0 to {len(self.places) - 1}",
                "`driftline dlq list` shows where letters lie.",
            )
        return found

    async def starts(self, wanted: Filter) -> dict[TopicPartition, int]:
        """Where to begin so that nothing that the filter takes, nor any note on it, is missed."""
        places = self.chosen(wanted.partition)
        begins: dict[TopicPartition, int] = await self._consumer.beginning_offsets(places)
        if wanted.offset is not None:
            return {place: max(begin, wanted.offset) for place, begin in begins.items()}
        if wanted.since is not None:
            return await self.at(wanted.since, places)
        return begins

    async def at(self, moment: int, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset of each place whose record is not older than `moment`; the end where all are older."""
        ends = await self.ends(places)
        found = await self._consumer.offsets_for_times(dict.fromkeys(places, max(0, moment)))
        return {place: ends[place] if one is None else min(one.offset, ends[place]) for place, one in found.items()}

    async def begins(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        begins: dict[TopicPartition, int] = await self._consumer.beginning_offsets(places)
        return begins

    async def ends(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The next offset of each place up to which every transaction is decided."""
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(places)
        return ends

    async def settled(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The ends of the log as it is now, once every transaction before them is decided.

        A committed record that lies behind somebody else's open transaction is not among those read, and `ends` lies
        before it. Raises CliError when a transaction stays open.
        """
        async with self.cluster.consumer(isolation_level="read_uncommitted") as everything:
            ends: dict[TopicPartition, int] = await everything.end_offsets(places)
        deadline = time.monotonic() + SETTLE_SECONDS
        while late := {place for place, end in (await self.ends(places)).items() if end < ends[place]}:
            if time.monotonic() > deadline:
                where = ", ".join(f"{place.topic} {place.partition}" for place in sorted(late))
                raise CliError(
                    f"a transaction on {where} is open for more than {SETTLE_SECONDS:.0f} s",
                    "Look for a producer that hangs; kafka-transactions.sh find-hanging names it.",
                )
            await asyncio.sleep(0.1)
        return ends

    async def records(self, starts: Places, ends: Places, progress: Progress = quietly) -> AsyncIterator[Any]:
        """Yield what lies from `starts` up to and without `ends`, partitions mixed, each in its order."""
        todo = {place: end for place, end in ends.items() if starts.get(place, end) < end}
        total, read = sum(todo[place] - starts[place] for place in todo), 0
        for place in todo:
            self._consumer.seek(place, starts[place])
        while left := [place for place, end in todo.items() if await self._consumer.position(place) < end]:
            for place, found in (await self._consumer.getmany(*left, timeout_ms=200)).items():
                for record in found:
                    if record.offset < todo[place]:
                        yield record
            read = sum([min(await self._consumer.position(place), todo[place]) - starts[place] for place in todo])
            progress(read, total)
        for place, end in todo.items():  # what was fetched beyond an end comes again when it is asked for
            self._consumer.seek(place, end)
