"""Reading what a replay needs from the topics, one partition of the events at a time.

Committed records only, in no group. Decisions stay as they came and are decoded when they are looked at: they are by
far the largest, about 4 kB each. Knows the topics; knows nothing of what is computed from them.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import msgspec

from evaluation.replay import PartitionLog
from evaluation.replay_world import ItemChange
from ops.reader import Reader
from streams.broadcast import item_change
from streams.cluster import Cluster
from streams.contracts import Decision, EstimatorSnapshot, ModelMessage
from streams.names import Topics
from streams.pipeline import COVERS
from streams.restore import read_to_end
from streams.validation import BadMessage

Progress = Callable[[str, int], None]
"""Told what is read and how many records of it so far."""

_NEVER = 2**63 - 1

_decode = msgspec.json.Decoder(Decision).decode
_decode_model = msgspec.json.Decoder(ModelMessage).decode


class Decisions(Sequence[Decision]):
    """Decisions as they are on the topic, decoded one by one when asked for."""

    def __init__(self) -> None:
        self._raw: list[bytes] = []

    def add(self, value: bytes) -> None:
        self._raw.append(value)

    def __len__(self) -> int:
        return len(self._raw)

    @overload
    def __getitem__(self, at: int) -> Decision: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Decision]: ...
    def __getitem__(self, at: int | slice) -> Decision | Sequence[Decision]:
        return [_decode(value) for value in self._raw[at]] if isinstance(at, slice) else _decode(self._raw[at])


@dataclass(frozen=True, slots=True)
class Common:
    """What all partitions are replayed with.

    `begins`: first offset that the log of events still has, by partition. `dead`: offset → reason, by partition.
    `letters_begin`: first offset that the letters still have; they lie in the partition of their originals.
    """

    begins: dict[int, int]
    letters_begin: dict[int, int]
    dead: dict[int, dict[int, str]]
    changes: list[ItemChange]
    snapshots: dict[str, EstimatorSnapshot]


class LogReader:
    """Reads the topics of one deployment."""

    def __init__(self, cluster: Cluster, topics: Topics, progress: Progress = lambda what, count: None) -> None:
        self._cluster = cluster
        self._topics = topics
        self._progress = progress

    async def common(self) -> Common:
        """Read items, models and dead letters. Raises CliError when there are no topics."""
        async with Reader(self._cluster, [self._topics.events]) as reader:
            begins = await reader.first(self._topics.events)
            letters_begin = await reader.first(self._topics.events_dlq)
        changes: list[ItemChange] = []
        snapshots: dict[str, EstimatorSnapshot] = {}
        dead: defaultdict[int, dict[int, str]] = defaultdict(dict)

        def vector(record: Any) -> None:
            with contextlib.suppress(BadMessage, UnicodeDecodeError):  # a worker leaves it out, too
                changes.append(ItemChange(record.partition, record.offset, *item_change(record)))

        def model(record: Any) -> None:
            try:
                message = _decode_model(record.value or b"")
            except msgspec.MsgspecError:
                return
            if isinstance(message, EstimatorSnapshot):
                snapshots[message.estimator] = message

        def letter(record: Any) -> None:
            told = dict(record.headers)
            if told.get("driftline-source-topic") == self._topics.events.encode():
                place = int(told["driftline-source-partition"]), int(told["driftline-source-offset"])
                dead[place[0]][place[1]] = told["driftline-reason"].decode()

        await self._read("items", self._topics.item_vectors, vector)
        await self._read("models", self._topics.models, model)
        await self._read("dead letters", self._topics.events_dlq, letter)
        return Common(begins, letters_begin, dict(dead), changes, snapshots)

    async def partition(self, number: int, common: Common) -> PartitionLog:
        """Read one partition of events, decisions and tombstones."""
        decisions = Decisions()
        tombstones: list[tuple[bytes, list[int]]] = []
        events: list[Any] = []

        def tombstone(record: Any) -> None:
            covers = dict(record.headers).get(COVERS)
            if record.value is None and covers is not None:
                tombstones.append((record.key or b"", json.loads(covers)))

        # Events last: whatever answers one, its event must be among those read.
        await self._read("decisions", self._topics.decisions, lambda record: decisions.add(record.value or b""), number)
        await self._read("erasures", self._topics.recommendations, tombstone, number)
        await self._read("events", self._topics.events, events.append, number)
        dead = common.dead.get(number, {})
        letters_from = min(dead, default=_NEVER) if common.letters_begin.get(number) else 0
        return PartitionLog(number, events, decisions, tombstones, dead, common.begins.get(number, 0), letters_from)

    async def _read(self, what: str, topic: str, take: Callable[[Any], None], partition: int | None = None) -> None:
        seen = 0

        def counted(record: Any) -> None:
            nonlocal seen
            seen += 1
            if seen % 1000 == 1:
                self._progress(what if partition is None else f"partition {partition}: {what}", seen)
            take(record)

        await read_to_end(self._cluster, topic, counted, partition)
