"""What is read of a deployment at once: cluster, topics, groups, what is published, recent dead letters, pages.

Reads only: in no group, committed records, nothing that grows with the topics. Knows nothing of what is concluded.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from ops.deadletters.letters import letter_of
from ops.deadletters.mailbox import Mailbox
from ops.health.cluster import ClusterFacts, read_cluster
from ops.health.processes import Processes
from ops.health.topics import GroupFacts, TopicFacts, read_groups, read_topics
from streams.cluster import Cluster
from streams.names import Topics
from streams.releases import Published, read_models

RECENT_S = 3600.0
WORKERS, LEARNERS, EMBEDDERS = "workers", "learners", "embedders"
_LETTERS_READ = 250
"""Newest offsets of each partition of dead letters that are looked into."""


@dataclass(frozen=True, slots=True)
class Letters:
    """Dead letters of the last hour, by reason; `more`: there are others, which were not read."""

    reasons: Mapping[str, int] = field(default_factory=dict)
    more: bool = False

    @property
    def count(self) -> int:
        return sum(self.reasons.values())


@dataclass(frozen=True, slots=True)
class Deployment:
    """What was found at `time` (s). `published` None: the topic of models is missing or, with `unreadable`, damaged."""

    time: float
    cluster: ClusterFacts
    topics: Mapping[str, TopicFacts]
    groups: list[GroupFacts]
    published: Published | None
    unreadable: str
    letters: Letters
    recent_events: int
    processes: Processes

    def group(self, of: str) -> GroupFacts:
        """The group of ours of that kind."""
        return next(group for group in self.groups if group.of == of)

    @property
    def unlearned(self) -> dict[str, int]:
        """Offsets that estimators and training have not learned yet; what was never begun is missing."""
        found = {}
        if self.published is not None and (snapshot := self.published.estimator) is not None:
            found["estimators"] = self.topics["outcomes"].lag(_numbered(snapshot.offsets))
        if self.published is not None and (trainer := self.published.trainer) is not None:
            found["training"] = self.topics["events"].lag(_numbered(trainer.at.events))
        return found

    def age(self, created_ms: int) -> float:
        """Seconds since then, when this was found."""
        return max(0.0, self.time - created_ms / 1000)


async def read_deployment(
    cluster: Cluster, topics: Topics, app_id: str, partitions: int, endpoints: tuple[str, ...]
) -> Deployment:
    """Read it. Raises KafkaError or OSError where the cluster does not answer, TopicError as `read_topics` does."""
    processes, now = Processes(endpoints), time.time()
    about = await read_cluster(cluster)  # alone: where the cluster does not answer, this says so
    found, _ = await asyncio.gather(read_topics(cluster, topics, partitions), processes.ask_once())
    own: dict[str, tuple[str, str | None]] = {
        app_id: (WORKERS, "events"),
        f"{app_id}-learner": (LEARNERS, None),
        f"{app_id}-embed": (EMBEDDERS, "items"),
    }
    groups, (published, unreadable), letters, recent = await asyncio.gather(
        read_groups(cluster, app_id, found, own),
        _published(cluster, found["models"]),
        _letters(cluster, [found["events.dlq"], found["items.dlq"]], now),
        _recent(cluster, found["events"], now),
    )
    return Deployment(now, about, found, groups, published, unreadable, letters, recent, processes)


async def _published(cluster: Cluster, models: TopicFacts) -> tuple[Published | None, str]:
    if not models.partitions:
        return None, ""
    try:
        return await read_models(cluster, models.name), ""
    except ValueError as error:
        return None, str(error)


async def _letters(cluster: Cluster, boxes: list[TopicFacts], now: float) -> Letters:
    """Those of the last hour; of very many, the newest."""
    reasons: Counter[str] = Counter()
    more = False
    for facts in (one for one in boxes if one.partitions):
        async with Mailbox(cluster, facts.name) as box:
            ends = await box.ends(box.places)
            since = await box.at(round((now - RECENT_S) * 1000), box.places)
            starts = {place: max(since[place], end - _LETTERS_READ) for place, end in ends.items()}
            more = more or starts != since
            async for record in box.records(starts, ends):
                if (letter := letter_of(record)) is not None:
                    reasons[letter.reason or "not said"] += 1
    return Letters(dict(reasons.most_common()), more)


async def _recent(cluster: Cluster, events: TopicFacts, now: float) -> int:
    """Offsets of the last hour of `events`."""
    if not events.partitions:
        return 0
    async with Mailbox(cluster, events.name) as box:
        starts: Mapping[TopicPartition, int] = await box.at(round((now - RECENT_S) * 1000), box.places)
        ends = await box.ends(box.places)
    return sum(end - starts[place] for place, end in ends.items())


def _numbered(offsets: Mapping[str, int]) -> dict[int, int]:
    return {int(partition): offset for partition, offset in offsets.items()}
