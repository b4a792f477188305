"""An independent reader that accounts for every event: answered once, dead-lettered once, or lost.

It shares no code with engine or pipeline: plain JSON from a plain consumer without a group, committed records only.
Each offset of `events` must be named once in all: by one slate's `covers`, by one tombstone's `driftline-covers`, or by
one dead letter's source. Offsets that are transaction markers are no events: what counts is what was read.

Which events a slate answers is read from `decisions`, whose records are written with the slates and stay for their
time; `recommendations` is compacted, and a replaced slate gone from it is no loss. Of those still there, none may be
there twice.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.propensity_check import Checked, Drawn, PropensityCheck, Published
from ops.reader import Reader
from streams.cluster import Cluster
from streams.names import Topics

Place = tuple[int, int]
"""Partition and offset of an event."""

_MARKERS_S = 1.0  # an offset is committed a moment before the transaction's other records are visible


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the events read.

    Attributes:
        events: records of `events`.
        slates: recommendations other than tombstones.
        coalesced: events answered by the slate of a later one.
        erased: events answered by a tombstone.
        dead_letters: events in the dead-letter topic.
        unanswered: events with no answer that nobody has claimed to have processed.
        lost: events with no answer whose offset was committed.
        duplicates: events answered more than once.
        foreign: answers to what is not in `events`.
    """

    events: int
    slates: int
    coalesced: int
    erased: int
    dead_letters: int
    unanswered: int
    lost: list[Place]
    duplicates: list[Place]
    foreign: list[Place]

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicates or self.foreign)


class _Offsets:
    """Of one partition of `events`, from its first stored offset: which offsets are there, how often answered."""

    def __init__(self, first: int) -> None:
        self.first = first
        self._there = bytearray()
        self._answers = bytearray()
        self._ahead: list[int] = []  # answers to what was not read yet, or is nowhere

    def event(self, offset: int) -> None:
        at = offset - self.first
        if at >= len(self._there):
            more = bytes(max(1024, at + 1 - len(self._there)))
            self._there += more
            self._answers += more
        self._there[at] = 1

    def answer(self, offset: int) -> None:
        at = offset - self.first
        if at >= len(self._there):
            self._ahead.append(offset)
        elif at >= 0:  # else the event's retention is over
            self._answers[at] = min(self._answers[at] + 1, 2)

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[int]]:
        """Of each offset from `first`: there (0, 1) and answers (0, 1, or 2 for more); then the answers beyond."""
        ahead, self._ahead = self._ahead, []
        for offset in ahead:
            self.answer(offset)
        return np.array(self._there, np.uint8), np.array(self._answers, np.uint8), list(self._ahead)

    def places(self, partition: int, these: NDArray[np.bool_]) -> list[Place]:
        return [(partition, self.first + at) for at in np.flatnonzero(these).tolist()]


class Ledger:
    """The account itself: fed with events and answers in any order. `first`: each partition's first stored offset."""

    def __init__(self, first: Mapping[int, int]) -> None:
        self._partitions = {partition: _Offsets(offset) for partition, offset in first.items()}
        self._published = {partition: _Offsets(offset) for partition, offset in first.items()}
        self._nowhere: list[Place] = []
        self._slates = self._coalesced = self._erased = 0
        self.dead_letters = 0

    def event(self, partition: int, offset: int) -> None:
        self._partitions[partition].event(offset)

    def slate(self, partition: int, covers: Sequence[int], cause: int) -> None:
        """A slate of `partition`, caused by the event at offset `cause`, answers the offsets `covers`."""
        self._slates += 1
        self._coalesced += sum(offset != cause for offset in covers)
        self._answer(partition, covers)

    def published(self, partition: int, cause: int) -> None:
        """The slate caused by that event is on `recommendations`; it answers no more than its decision says."""
        if (known := self._published.get(partition)) is not None:
            known.event(cause)
            known.answer(cause)

    def tombstone(self, partition: int, covers: Sequence[int]) -> None:
        self._erased += len(covers)
        self._answer(partition, covers)

    def dead_letter(self, partition: int, offset: int) -> None:
        self.dead_letters += 1
        self._answer(partition, [offset])

    def _answer(self, partition: int, offsets: Iterable[int]) -> None:
        known = self._partitions.get(partition)
        for offset in offsets:
            if known is None or offset < 0:
                self._nowhere.append((partition, offset))
            else:
                known.answer(offset)

    def account(self, committed: Mapping[int, int] | None = None) -> Account:
        """What is known now. `committed`: next offset to process, by partition; None: everything was to be answered."""
        events = unanswered = 0
        lost: list[Place] = []
        duplicates: list[Place] = []
        foreign = list(self._nowhere)
        for partition, known in self._partitions.items():
            there, answers, beyond = known.arrays()
            open_ones = (there == 1) & (answers == 0)
            claimed = np.ones(len(there), bool)
            if committed is not None:
                claimed = np.arange(len(there)) < committed.get(partition, 0) - known.first
            events += int(there.sum())
            unanswered += int((open_ones & ~claimed).sum())
            lost += known.places(partition, open_ones & claimed)
            duplicates += known.places(partition, answers > 1)
            foreign += known.places(partition, (there == 0) & (answers > 0))
            foreign += [(partition, offset) for offset in beyond]
        for partition, known in self._published.items():
            duplicates += known.places(partition, known.arrays()[1] > 1)
        counts = (self._slates, self._coalesced, self._erased, self.dead_letters)
        return Account(events, *counts, unanswered, lost, sorted(set(duplicates)), foreign)


class Audit:
    """Reads records into a ledger and a propensity check."""

    def __init__(self, topics: Topics, first: Mapping[int, int]) -> None:
        self._topics = topics
        self.ledger = Ledger(first)
        self.propensities = PropensityCheck()

    def take(self, record: Any, message: Any) -> None:
        """Take in a record of `events`, `recommendations`, `decisions` or `events.dlq`, and its `parsed` value."""
        if record.topic == self._topics.events:
            self.ledger.event(record.partition, record.offset)
        elif record.topic == self._topics.events_dlq:
            self._dead_letter(dict(record.headers))
        elif record.topic == self._topics.decisions:
            self._decision(message)
        elif message is None:
            self.ledger.tombstone(record.partition, json.loads(dict(record.headers).get("driftline-covers", b"[]")))
        else:
            self._slate(message)

    def _slate(self, message: Any) -> None:
        self.ledger.published(message["cause"]["partition"], message["cause"]["offset"])
        if message["propensity"] is not None:
            numbers = (np.array(message[name], np.float64) for name in ("propensity", "inclusion"))
            self.propensities.published(message["slate"], Published(*numbers))

    def _decision(self, message: Any) -> None:
        cause = message["cause"]
        self.ledger.slate(cause["partition"], message["covers"], cause["offset"])
        chosen = np.array(message["chosen"], np.int64)
        drawn = Drawn(
            message["slate"],
            floats(message["logits_f32"]),
            chosen,
            message["temperature"],
            message["epsilon"],
            tuple(message.get("pinned", ())),
            message.get("swaps", 0.0),
        )
        parts, added = (
            {name: floats(column) for name, column in message.get(field, {}).items()}
            for field in ("terms", "adjustments")
        )
        base, correction = floats(message["base_f32"]), floats(message["correction_f32"])
        self.propensities.decision(drawn, base, correction, parts, added)

    def _dead_letter(self, headers: Mapping[str, bytes]) -> None:
        # Without a source it is no letter: `dlq replay` notes there which it has sent again.
        if headers.get("driftline-source-topic", b"").decode() == self._topics.events:
            self.ledger.dead_letter(int(headers["driftline-source-partition"]), int(headers["driftline-source-offset"]))


def parsed(topics: Topics, record: Any) -> Any:
    """The record's value as plain JSON; None for a tombstone, and for topics whose values may be anything."""
    if record.value is None or record.topic in (topics.events, topics.events_dlq):
        return None
    return json.loads(record.value)


def floats(column: str) -> NDArray[np.float32]:
    """A column named `…_f32`: base64 of little-endian float32."""
    return np.frombuffer(base64.b64decode(column), "<f4")


async def audit(
    cluster: Cluster, topics: Topics, group: str, check_seconds: float, progress: Any = lambda left: None
) -> tuple[Account, Checked]:
    """Read the topics as they are now and account for every event.

    Args:
        cluster: whose topics.
        topics: their names.
        group: the workers' consumer group: what it has not committed is unanswered, not lost.
        check_seconds: how long to compute probabilities of decisions.
        progress: told how many records are left to read.
    """
    names = [topics.events, topics.recommendations, topics.decisions, topics.events_dlq]
    async with Reader(cluster, names) as reader:
        committed = await reader.committed(group, topics.events)
        await asyncio.sleep(_MARKERS_S)
        # Answers before events: an event that is answered meanwhile must be among those read.
        ends = {name: await reader.end(name) for name in reversed(names)}
        audit = Audit(topics, await reader.first(topics.events))
        while left := await reader.behind(ends):
            progress(left)
            for record in await reader.poll():
                if record.offset < ends[record.topic][record.partition]:
                    audit.take(record, parsed(topics, record))
    await asyncio.to_thread(audit.propensities.run, check_seconds)
    return audit.ledger.account(committed), audit.propensities.result
