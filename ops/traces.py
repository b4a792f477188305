"""Reading every topic for what still holds a user's id: also what replaced or aborted transactions left in the log.

Collects, per user, what lies where; `ops/proof.py` says what of it may be there and until when. Knows the topics and
where a message names its user; judges nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import TopicPartition

from ops.mentions import Mentions, Way, kind_of
from ops.reader import Reader
from streams.cluster import Cluster
from streams.deadletters import PREFIX, SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC
from streams.names import PLAIN_NAMES, Topics

COVERS = "driftline-covers"
BY_USER = ("events", "recommendations", "decisions", "outcomes", "state", "events.dlq")
"""Topics whose records are keyed by user; everywhere else a key that equals the id is something else's."""

CURRENT = ("state", "recommendations")
"""Topics where the newest record of a key is what holds now."""

_MAY_HOLD_ANYTHING = ("events", "events.dlq", "items.dlq")

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Trace:
    """One record that holds a user's id.

    Attributes:
        topic: its plain name.
        partition, offset: where it lies.
        timestamp: its own, in ms.
        newest: the newest timestamp (ms) of its partition up to it.
        way: how it holds the id.
        empty: it has no value: a tombstone.
        kind: of an event.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    newest: int
    way: Way
    empty: bool
    kind: str | None = None

    @property
    def place(self) -> Place:
        return self.partition, self.offset


@dataclass(slots=True)
class Traces:
    """Everything found of one user, in order of offset within a partition.

    Attributes:
        found: all records that hold his id.
        committed: (topic, partition, offset) of those of `CURRENT` that a reader of committed records sees.
        current: value of the newest of these, by topic and partition; None: a tombstone.
        answered: events that a tombstone on `recommendations` answers.
        refused: events that became dead letters.
    """

    found: list[Trace] = field(default_factory=list)
    committed: set[tuple[str, int, int]] = field(default_factory=set)
    current: dict[tuple[str, int], bytes | None] = field(default_factory=dict)
    answered: set[Place] = field(default_factory=set)
    refused: set[Place] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found: traces by user, and each partition's newest timestamp in ms, by (plain topic, partition)."""

    users: dict[str, Traces]
    newest: dict[tuple[str, int], int]


class Search:
    """Takes records in, of a partition in order of offset, and keeps what holds one of `users`."""

    def __init__(self, users: Iterable[str]) -> None:
        self._mentions = Mentions(users)
        self.survey = Survey({user: Traces() for user in self._mentions.users}, {})

    def take(self, topic: str, record: Any) -> None:
        """A record of the topic with this plain name, of a committed transaction or not."""
        source = topic, record.partition
        newest = self.survey.newest[source] = max(record.timestamp, self.survey.newest.get(source, 0))
        for user, way in self._holders(topic, record).items():
            kind = kind_of(record.value) if topic == "events" else None
            trace = Trace(
                topic, record.partition, record.offset, record.timestamp, newest, way, record.value is None, kind
            )
            self.survey.users[user].found.append(trace)
            if topic == "events.dlq":
                self.survey.users[user].refused |= _refused(record)

    def take_committed(self, topic: str, record: Any) -> None:
        """A committed record of a topic of `CURRENT`."""
        user = self._mentions.keyed(record.key)
        if user is None:
            return
        traces = self.survey.users[user]
        traces.committed.add((topic, record.partition, record.offset))
        traces.current[topic, record.partition] = record.value
        if topic == "recommendations" and record.value is None:
            covers = dict(record.headers).get(COVERS, b"[]")
            traces.answered |= {(record.partition, offset) for offset in msgspec.json.decode(covers, type=list[int])}

    def _holders(self, topic: str, record: Any) -> dict[str, Way]:
        holders: dict[str, Way] = {}
        if topic == "state":
            pass  # a state does not name its user: only its key does
        elif topic in _MAY_HOLD_ANYTHING:
            said = [value for name, value in record.headers if not name.startswith(PREFIX) or name.endswith("message")]
            holders |= self._mentions.somewhere([value for value in said if value])
            holders |= self._mentions.named(record.value, expected=True)
        else:
            holders |= self._mentions.named(record.value, expected=topic in BY_USER)
        keyed = self._mentions.keyed(record.key) if topic in BY_USER else None
        return holders if keyed is None else holders | {keyed: "key"}


def _refused(record: Any) -> set[Place]:
    """The event of which this is the dead letter. Its topic may be of another prefix: its name's end tells."""
    headers = dict(record.headers)
    if not headers.get(SOURCE_TOPIC, b"").endswith(b"events"):
        return set()
    return {(int(headers[SOURCE_PARTITION]), int(headers[SOURCE_OFFSET]))}


async def survey(
    cluster: Cluster, topics: Topics, users: Sequence[str], progress: Callable[[int], None] = lambda left: None
) -> Survey:
    """Read all topics as they are now, uncommitted records too; `progress` is told how many records are left.

    Raises CliError when a topic is missing.
    """
    search = Search(users)
    plain = {topics.name(name): name for name in PLAIN_NAMES}
    async with Reader(cluster, topics.all, isolation_level="read_uncommitted") as reader:
        ends = {name: await reader.end(name) for name in topics.all}
        await _read(reader, ends, lambda record: search.take(plain[record.topic], record), progress)
    await _read_current(cluster, topics, search, progress)
    return search.survey


async def _read_current(cluster: Cluster, topics: Topics, search: Search, progress: Callable[[int], None]) -> None:
    """Read the topics of `CURRENT` again as their readers see them, from the first place where somebody was found."""
    begins: dict[tuple[str, int], int] = {}
    for traces in search.survey.users.values():
        for trace in traces.found:
            if trace.topic in CURRENT:
                source = topics.name(trace.topic), trace.partition
                begins[source] = min(trace.offset, begins.get(source, trace.offset))
    if not begins:
        return
    plain = {topics.name(name): name for name in CURRENT}
    async with Reader(cluster, list(plain)) as reader:
        ends = {name: await reader.end(name) for name in plain}
        for (name, partition), end in [((n, p), e) for n, found in ends.items() for p, e in found.items()]:
            reader.seek(TopicPartition(name, partition), min(end, begins.get((name, partition), end)))
        await _read(reader, ends, lambda record: search.take_committed(plain[record.topic], record), progress)


async def _read(
    reader: Reader,
    ends: Mapping[str, Mapping[int, int]],
    take: Callable[[Any], None],
    progress: Callable[[int], None],
) -> None:
    while left := await reader.behind(ends):
        progress(left)
        for record in await reader.poll():
            if record.offset < ends[record.topic][record.partition]:
                take(record)
