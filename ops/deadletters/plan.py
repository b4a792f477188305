"""Which letters a replay would send again, and why it leaves others out. Reads only.

Knows nothing of how they are sent (replay.py), nor whether they will fail again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import TopicPartition

from ops.deadletters.letters import Filter, Letter, letter_of, noted
from ops.deadletters.mailbox import Mailbox, Progress, quietly
from streams.cluster import Cluster
from streams.names import Topics
from streams.restore import partitions_of

SENT_BEFORE = "sent again before"


@dataclass(frozen=True, slots=True)
class Replay:
    """What is to be sent again.

    Attributes:
        app_id: whose letters; the transactional id is made of it, so that two commands fence each other.
        letters: the topic of dead letters.
        target: the topic that the originals came from, and go to.
        wanted: which letters.
        undone_by: whether a record of the target, newer than an original and of its key, makes it a thing of the past,
            so that its letter is left out; `undone` says so in words.
    """

    app_id: str
    letters: str
    target: str
    wanted: Filter
    undone_by: Callable[[Any], bool]
    undone: str


def of_events(app_id: str, topics: Topics, wanted: Filter) -> Replay:
    """Events; not those of users who were erased since: what they did before is not to come back."""
    return Replay(app_id, topics.events_dlq, topics.events, wanted, _is_erasure, "their user was erased since")


def of_items(app_id: str, topics: Topics, wanted: Filter) -> Replay:
    """Items; not those with a newer version: of an item the last record counts, and an old one would undo it."""
    undone = f"{topics.items} has a newer record of the item"
    return Replay(app_id, topics.items_dlq, topics.items, wanted, lambda record: True, undone)


class _Kind(msgspec.Struct):
    kind: str = ""


def _is_erasure(record: Any) -> bool:
    if b"erase" not in (record.value or b""):
        return False
    try:
        return msgspec.json.decode(record.value, type=_Kind).kind == "erase"
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


@dataclass(slots=True)
class Plan:
    """What would be sent, by partition of the topic of dead letters; `left_out` says why others would not."""

    ends: dict[TopicPartition, int]
    offsets: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    reasons: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    bytes: int = 0

    @property
    def count(self) -> int:
        return sum(self.reasons.values())


async def plan(
    replay: Replay,
    box: Mailbox,
    ends: dict[TopicPartition, int] | None = None,
    notes_until: dict[TopicPartition, int] | None = None,
    progress: Progress = quietly,
) -> Plan:
    """Say what would be sent: letters before `ends`, notes before `notes_until`; by default both up to now."""
    starts = await box.starts(replay.wanted)
    now = await box.ends(list(starts))
    made = Plan(ends or now)
    targets = {place.partition for place in await partitions_of(box.cluster, replay.target)}
    chosen: dict[tuple[int, int], _Chosen] = {}
    async for record in box.records(starts, notes_until or now, progress):
        letter = letter_of(record)
        if letter is None:
            for offset in noted(record):
                if chosen.pop((record.partition, offset), None) is not None:
                    made.left_out[SENT_BEFORE] += 1
        elif record.offset < made.ends[TopicPartition(record.topic, record.partition)] and replay.wanted.takes(letter):
            if problem := _unfit(letter, replay.target, targets):
                made.left_out[problem] += 1
            else:
                chosen[letter.partition, letter.offset] = _Chosen(letter)
    for place in await _undone(replay, box.cluster, chosen):
        made.left_out[replay.undone] += 1
        del chosen[place]
    for (partition, offset), one in chosen.items():
        made.offsets[partition].add(offset)
        made.reasons[one.reason] += 1
        made.bytes += one.size
    return made


class _Chosen:
    """What is remembered of a letter while others are read; the key only where it will be asked for."""

    __slots__ = ("key", "reason", "size", "source_offset", "source_partition")

    def __init__(self, letter: Letter) -> None:
        self.key = letter.key
        self.reason = letter.reason
        self.size = letter.size
        self.source_partition = letter.origin.partition
        self.source_offset = letter.origin.offset


def _unfit(letter: Letter, target: str, targets: set[int]) -> str:
    """Why a letter cannot be sent again; empty when it can."""
    if letter.source is None:
        return "it does not say where it came from"
    if letter.source.topic != target:
        return f"it came from another topic than {target}"
    if letter.truncated is not None:
        return "it was too large to keep whole"
    if letter.source.partition not in targets:
        return f"its partition of {target} is no more"
    return ""


async def _undone(replay: Replay, cluster: Cluster, chosen: Mapping[tuple[int, int], _Chosen]) -> list[tuple[int, int]]:
    """The letters whose originals are things of the past, by what lies behind those in their partition."""
    wanted = {(one.source_partition, one.key) for one in chosen.values() if one.key is not None}
    first: dict[TopicPartition, int] = {}
    for one in chosen.values():
        place = TopicPartition(replay.target, one.source_partition)
        first[place] = min(one.source_offset, first.get(place, one.source_offset))
    newest: dict[tuple[int, bytes | None], int] = {}
    async with Mailbox(cluster, replay.target) as box:
        async for record in box.records(first, await box.ends(list(first))):
            if (record.partition, record.key) in wanted and replay.undone_by(record):
                newest[record.partition, record.key] = record.offset
    return [
        place for place, one in chosen.items() if newest.get((one.source_partition, one.key), -1) > one.source_offset
    ]
