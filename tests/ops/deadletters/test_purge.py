"""Kafka deletes from the beginning of a partition, and so do we: by age, or up to what was not sent again."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition

from ops.deadletters.letters import Filter
from ops.deadletters.mailbox import Mailbox
from ops.deadletters.overview import overview
from ops.deadletters.plan import of_events, plan
from ops.deadletters.purge import Cut, cut, purge
from ops.deadletters.replay import execute
from streams.cluster import Cluster
from streams.topics import Topics
from tests.ops.deadletters.posted import Bad, post

pytestmark = [pytest.mark.broker, pytest.mark.parametrize("partitions", [2])]

DAY = 86_400_000
NOW = 1_700_000_000_000


async def left(box: Mailbox) -> list[tuple[int, int]]:
    found = await overview(box, Filter(), None)
    return sorted((entry.letter.partition, entry.letter.offset) for entry in found.newest)


async def test_up_to_the_first_letter_that_was_not_sent_again(topics: Topics, cluster: Cluster) -> None:
    reasons = ["schema", "schema", "unknown_action", "schema"]
    letters = [Bad(b"x", b"k", reason, source=place) for place in (0, 1) for reason in reasons]
    await post(cluster, topics.events_dlq, topics.events, letters)
    replay = of_events("app", topics, Filter(reason="schema"))
    async with Mailbox(cluster, topics.events_dlq) as box:
        await execute(replay, box, await plan(replay, box))
        await box.settled(box.places)
        found = await cut(box, replayed=True)
        first, second = box.places
        assert found == Cut({first: 2, second: 2}, letters=4, open=0)
        await purge(box, found)
        assert await left(box) == [(0, 2), (0, 3), (1, 2), (1, 3)]
        # The notes lie behind what is left: it is known still that the fourth letters were sent.
        again = await plan(replay, box)
        assert again.count == 0 and again.left_out == {"sent again before": 2}
        everything = of_events("app", topics, Filter())
        await execute(everything, box, await plan(everything, box))
        await box.settled(box.places)
        await purge(box, await cut(box, replayed=True))
        assert await left(box) == []
        assert await cut(box, replayed=True) == Cut()


async def test_by_age_and_by_partition(topics: Topics, cluster: Cluster) -> None:
    ages = [3, 2, 1]
    letters = [Bad(b"x", source=place, time=NOW - age * DAY) for place in (0, 1) for age in ages]
    await post(cluster, topics.events_dlq, topics.events, letters)
    async with Mailbox(cluster, topics.events_dlq) as box:
        first, _ = box.places
        found = await cut(box, partition=0, before=NOW - 2 * DAY)
        assert found == Cut({first: 1}, letters=1, open=1)
        await purge(box, found)
        assert await left(box) == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
        assert (await cut(box, before=NOW - 10 * DAY)) == Cut()
        assert (await cut(box, before=NOW)).letters == 5  # all are older
        await purge(box, await cut(box))
        assert await left(box) == []
        assert await box.begins(box.places) == {TopicPartition(topics.events_dlq, place): 3 for place in (0, 1)}
