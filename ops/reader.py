"""Reading topics as an outsider: from their start, in no group, committed records only unless told otherwise.

Knows nothing of what the records mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError

from ops.errors import CliError
from streams.cluster import MAX_FETCH_BYTES, Cluster

_AT_ONCE = 500


class Reader:
    """Reads topics, and tells how far anything has come. An asynchronous context manager.

    Raises CliError on entry when a topic does not exist.
    """

    def __init__(self, cluster: Cluster, names: Sequence[str], isolation_level: str = "read_committed") -> None:
        self._names = names
        self._places: dict[str, list[TopicPartition]] = {}
        self._admin = cluster.admin()
        self._consumer = cluster.consumer(max_partition_fetch_bytes=MAX_FETCH_BYTES, isolation_level=isolation_level)

    async def __aenter__(self) -> Reader:
        try:
            await self._admin.start()
            await self._consumer.start()
            self._consumer.assign([place for name in self._names for place in await self._partitions(name)])
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def poll(self, timeout_s: float = 0.2) -> list[Any]:
        """Return some records; of one partition in order of offset."""
        batches = await self._consumer.getmany(timeout_ms=round(timeout_s * 1000), max_records=_AT_ONCE)
        return [record for batch in batches.values() for record in batch]

    def seek(self, place: TopicPartition, offset: int) -> None:
        """Go on reading there."""
        self._consumer.seek(place, offset)

    async def first(self, name: str) -> dict[int, int]:
        """The first stored offset of each partition of a topic."""
        begins = await self._consumer.beginning_offsets(await self._partitions(name))
        return {place.partition: offset for place, offset in begins.items()}

    async def end(self, name: str) -> dict[int, int]:
        """The next offset of each partition of a topic, up to which everything is committed."""
        ends = await self._consumer.end_offsets(await self._partitions(name))
        return {place.partition: offset for place, offset in ends.items()}

    async def behind(self, ends: Mapping[str, Mapping[int, int]]) -> int:
        """How many offsets (transaction markers among them) are left to read before `ends`."""
        left = 0
        for name, partitions in ends.items():
            for partition, end in partitions.items():
                left += max(0, end - await self._consumer.position(TopicPartition(name, partition)))
        return left

    async def committed(self, group: str, name: str) -> dict[int, int]:
        """The next offset that a group will process, by partition; those of which it has done nothing are missing."""
        found = await self._admin.list_consumer_group_offsets(group)
        mine = {place.partition: entry.offset for place, entry in found.items() if place.topic == name}
        return {partition: offset for partition, offset in mine.items() if offset >= 0}

    async def _partitions(self, name: str) -> list[TopicPartition]:
        """A consumer without a subscription knows of no topic, so the cluster is asked, once."""
        if name not in self._places:
            (found,) = await self._admin.describe_topics([name])
            if found["error_code"] == TopicAuthorizationFailedError.errno:
                raise TopicAuthorizationFailedError(name)
            numbers = sorted(one["partition"] for one in found["partitions"])
            if not numbers:
                raise CliError(f"topic {name} does not exist", "Create it with `driftline topics create`.")
            self._places[name] = [TopicPartition(name, number) for number in numbers]
        return self._places[name]
