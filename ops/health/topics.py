"""The topics of a deployment and who reads them: what is configured, how much they hold, how far each group has come.

Offsets are counted, not records: markers of transactions count too, and what compaction took away. Knows nothing of
what is concluded from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from streams.cluster import Cluster, running
from streams.topics import SPECS, Topics, TopicSpec, configurations, inspect

MOST_GROUPS = 50
"""Groups of others that are asked whether they read these topics."""

NOBODY = "nobody yet"
"""The state of a group that there has never been, or that was forgotten."""

Span = tuple[int, int]
"""First stored offset of a partition, and its end."""


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """One topic; `partitions` 0: it is missing.

    Attributes:
        spans: of each partition.
        problems: what has to be mended, a sentence each.
        differs: settings that are not as `driftline topics create` makes them, which need not be wrong: (real, made).
        copies, insync_needed: of each partition, at least; how many copies a write waits for.
        timestamps: whether records keep the time of their writer (CreateTime) or get the broker's (LogAppendTime).
        leaderless, short: how many partitions have no leader; have fewer copies in step than they should.
    """

    name: str
    purpose: str
    partitions: int = 0
    spans: Mapping[int, Span] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    differs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    copies: int = 0
    insync_needed: int = 1
    timestamps: str = ""
    leaderless: int = 0
    short: int = 0

    @property
    def offsets(self) -> int:
        """Offsets between the first record stored and the end."""
        return sum(end - begin for begin, end in self.spans.values())

    def lag(self, done: Mapping[int, int]) -> int:
        """Offsets that somebody has not read who goes on at these; where he has read nothing, from the start."""
        return sum(max(0, end - max(begin, done.get(number, begin))) for number, (begin, end) in self.spans.items())


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """One consumer group. `lag`: by full name of a topic, in offsets."""

    name: str
    of: str
    state: str
    members: int
    lag: Mapping[str, int]


async def read_topics(
    cluster: Cluster, topics: Topics, partitions: int, inspected: Mapping[str, bool] | None = None
) -> dict[str, TopicFacts]:
    """The topics, by plain name. Raises `TopicError` where a topic's configuration may not be read.

    `inspected`: full names of those to look at, and whether at their configuration too; None: all, at everything.
    """
    problems = await inspect(cluster, topics, partitions, inspected)
    names = {name: spec for spec in SPECS if (name := topics.name(spec.name)) in problems}
    settings = {name for spec in SPECS for name in spec.config()} | {"min.insync.replicas", "message.timestamp.type"}
    async with running(cluster.admin()) as admin:
        described = {one["topic"]: one["partitions"] for one in await admin.describe_topics() if one["topic"] in names}
        looked_at = [name for name in described if inspected is None or inspected[name]]
        configs = await configurations(admin, looked_at, settings)
    spans = await _spans(cluster, {name: [part["partition"] for part in parts] for name, parts in described.items()})
    return {
        spec.name: _facts(name, spec, described.get(name, []), spans, problems[name], configs.get(name, {}))
        for name, spec in names.items()
    }


def _facts(
    name: str,
    spec: TopicSpec,
    parts: list[dict[str, Any]],
    spans: Mapping[TopicPartition, Span],
    problems: list[str],
    config: Mapping[str, str],
) -> TopicFacts:
    return TopicFacts(
        name=name,
        purpose=spec.purpose,
        partitions=len(parts),
        spans={place.partition: span for place, span in spans.items() if place.topic == name},
        problems=problems,
        differs={key: (config[key], made) for key, made in spec.config().items() if config.get(key, made) != made},
        copies=min((len(part["replicas"]) for part in parts), default=0),
        insync_needed=int(config.get("min.insync.replicas", 1)),
        timestamps=config.get("message.timestamp.type", ""),
        leaderless=sum(part["leader"] < 0 for part in parts),
        short=sum(len(part["isr"]) < len(part["replicas"]) for part in parts),
    )


async def _spans(cluster: Cluster, numbers: Mapping[str, list[int]]) -> dict[TopicPartition, Span]:
    places = [TopicPartition(name, number) for name, found in numbers.items() for number in found]
    if not places:
        return {}
    async with running(cluster.consumer()) as consumer:
        begins = await consumer.beginning_offsets(places)
        ends = await consumer.end_offsets(places)
    return {place: (begins[place], ends[place]) for place in places}


async def read_groups(
    cluster: Cluster, app_id: str, topics: Mapping[str, TopicFacts], own: Mapping[str, tuple[str, str | None]]
) -> list[GroupFacts]:
    """The groups of driftline's own, then those of others that have read any of the topics.

    `own`: what each of ours is, and the plain name of the topic that it reads, if it notes down how far it has come.
    """
    by_name = {facts.name: facts for facts in topics.values()}
    found: list[GroupFacts] = []
    async with running(cluster.admin()) as admin:
        for group, (of, reads) in own.items():
            wanted = {topics[reads].name: topics[reads]} if reads else {}
            found.append(await _group(admin, group, of, wanted, always=True))  # type: ignore[arg-type]
        listed = sorted(name for name, kind in await admin.list_consumer_groups() if kind == "consumer")
        for group in [name for name in listed if name not in own][:MOST_GROUPS]:
            other = await _group(admin, group, "another's", by_name, always=False)
            found += [other] if other is not None else []
    return found


async def _group(admin: Any, group: str, of: str, topics: Mapping[str, TopicFacts], always: bool) -> GroupFacts | None:
    """None, unless `always`, where the group has read none of the topics."""
    try:
        committed = await admin.list_consumer_group_offsets(group) if topics else {}
        done: dict[str, dict[int, int]] = {name: {} for name in topics} if always else {}
        for place, entry in committed.items():
            if place.topic in topics and entry.offset >= 0:
                done.setdefault(place.topic, {})[place.partition] = entry.offset
        if not done and not always:
            return None
        # One at a time: the library misreads answers about several.
        (answer,) = await admin.describe_consumer_groups([group])
        code, _, state, _, _, members = answer.groups[0][:6]
    except GroupCoordinatorNotAvailableError:
        return GroupFacts(group, of, NOBODY, 0, {}) if always else None  # no group was ever used on this cluster
    except KafkaError as error:
        return GroupFacts(group, of, f"not known: {type(error).__name__}", 0, {}) if always else None
    lag = {name: topics[name].lag(offsets) for name, offsets in done.items()}
    state = "not permitted" if code else NOBODY if state == "Dead" else state.lower()
    return GroupFacts(group, of, state, len(members), lag)
