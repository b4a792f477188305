"""What is said of a deployment: each finding appears with its cause and not without, and only attention fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ops.health.cluster import Clock, ClusterFacts, Release, release
from ops.health.deployment import EMBEDDERS, LEARNERS, WORKERS, Deployment, Letters
from ops.health.printing import plain
from ops.health.processes import Processes
from ops.health.topics import GroupFacts, TopicFacts
from ops.health.verdict import healthy, verdict
from streams.contracts import ReleasePointer, RoundEnds, TrainerState
from streams.releases import Published
from streams.topics import SPECS

NOW = 1_800_000_000.0
DAY = 24 * 3600.0


def made(seconds_ago: float) -> int:
    return round((NOW - seconds_ago) * 1000)


def published(release_age: float = 60, estimator_age: float = 60, learned: int = 100) -> Published:
    snapshot: Any = SimpleNamespace(estimator="e-1", created=made(estimator_age), offsets={"0": learned})
    return Published(
        release=ReleasePointer("r-1", "00", made(release_age)),
        estimator=snapshot,
        trainer=TrainerState("c", made(60), 1, RoundEnds({"0": learned}, {}), []),
    )


@pytest.fixture
def well() -> Deployment:
    """A deployment that needs nothing; every topic has 100 offsets."""
    topics = {spec.name: TopicFacts(spec.name, "", 1, {0: (0, 100)}, copies=1) for spec in SPECS}
    groups = [
        GroupFacts("app", WORKERS, "stable", 1, {"events": 0}),
        GroupFacts("app-learner", LEARNERS, "stable", 1, {}),
        GroupFacts("app-embed", EMBEDDERS, "stable", 1, {"items": 0}),
    ]
    cluster = ClusterFacts("c", {1: "k:9092"}, 1, Release("4.3", (4, 3)), Clock(0, 0.1))
    return Deployment(NOW, cluster, topics, groups, published(), "", Letters(), 1000, Processes(()))


def with_topic(found: Deployment, name: str, **changes: Any) -> Deployment:
    return replace(found, topics={**found.topics, name: replace(found.topics[name], **changes)})


def with_group(found: Deployment, of: str, **changes: Any) -> Deployment:
    return replace(found, groups=[replace(one, **changes) if one.of == of else one for one in found.groups])


def test_one_that_needs_nothing_is_healthy(well: Deployment) -> None:
    advice = verdict(well)
    assert healthy(advice)
    assert [one.words for one in advice] == ["the pages of workers and learners are not asked"]
    assert plain(well, advice)["unlearned"] == {"estimators": 0, "training": 0}


CAUSES: dict[str, Callable[[Deployment], Deployment]] = {
    "red: state has cleanup.policy delete": lambda well: with_topic(
        well, "state", problems=["state has cleanup.policy delete: alter it"]
    ),
    "red: 1 of 1 partitions of events have no leader": lambda well: with_topic(well, "events", leaderless=1),
    "amber: 1 of 1 partitions of models have fewer copies": lambda well: with_topic(well, "models", short=1),
    "red: no worker is in group app": lambda well: with_group(well, WORKERS, members=0),
    "amber: 2,001 events are waiting": lambda well: with_group(well, WORKERS, lag={"events": 2001}),
    "red: 60,000 events are waiting": lambda well: with_group(well, WORKERS, lag={"events": 60_000}),
    "red: no release is published": lambda well: replace(well, published=Published()),
    "red: what is published cannot be read: bytes": lambda well: replace(well, published=None, unreadable="bytes"),
    "amber: the release is 2 d old, and 50 events": lambda well: replace(well, published=published(2 * DAY, 60, 50)),
    "amber: 7 items wait, and no embedder runs": lambda well: with_group(well, EMBEDDERS, members=0, lag={"items": 7}),
    "amber: no learner runs": lambda well: with_group(well, LEARNERS, members=0),
    "amber: the estimates are 60 min old, and 50 outcomes": lambda well: replace(
        well, published=published(60, 3600, 50)
    ),
    "amber: 11 events and items of the last hour could not be used, mostly: no_user": lambda well: replace(
        well, letters=Letters({"no_user": 11})
    ),
    "red: no worker answers": lambda well: replace(well, processes=Processes(("w:1",))),
}


@pytest.mark.parametrize("words", CAUSES)
def test_each_cause_is_said_and_needs_attention(well: Deployment, words: str) -> None:
    advice = verdict(CAUSES[words](well))
    level, _, said = words.partition(": ")
    assert any(one.level == level and one.words.startswith(said) for one in advice), advice
    assert not healthy(advice) and advice[0].level != "hint"


def test_what_is_old_for_want_of_anything_new_is_well(well: Deployment) -> None:
    """Nobody sends events at night: release and estimates grow old, and nothing is wrong."""
    assert healthy(verdict(replace(well, published=published(30 * DAY, 30 * DAY, 100))))
    assert healthy(verdict(replace(well, letters=Letters({"no_user": 10}))))  # one in a hundred


def test_without_topics_only_that_is_said(well: Deployment) -> None:
    bare = replace(well, topics={name: replace(one, partitions=0) for name, one in well.topics.items()})
    assert [one.words for one in verdict(bare)] == ["none of the topics exists"]


@pytest.mark.parametrize(
    ("level", "fetch", "words", "least"),
    [
        (30, 4, "4.3", (4, 3)),
        (26, 4, "4.1", (4, 1)),
        (31, 4, "newer than 4.3", (4, 3)),
        (21, 0, "3.9", (3, 9)),
        (0, 4, "4.0 or later", (4, 0)),
        (0, 0, "older than 4.0", (0, 0)),
    ],
)
def test_the_release_of_a_broker(level: int, fetch: int, words: str, least: tuple[int, int]) -> None:
    features = {"metadata.version": level} if level else {}
    assert release({1: (fetch, 17)}, features) == Release(words, least)
