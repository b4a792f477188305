"""A user looked up in real topics: what is his, the newest first; and again, when more has come."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ops.dashboard.lookup import look_up
from streams.cluster import Cluster
from streams.contracts import Decision, Interaction, Recommendation, encode
from streams.topics import Topics
from tests import small
from tests.conftest import Wire
from tests.ops.dashboard import hostile

pytestmark = pytest.mark.broker

USERS = (b"u1", b"u2")


async def happen(wire: Wire, topics: Topics, first: int) -> None:
    """Three events, slates and decisions of each user; a letter among the events."""
    assert isinstance(hostile.RECOMMENDATION, Recommendation) and isinstance(hostile.DECISION, Decision)
    told: dict[str, list[tuple[bytes | None, bytes | None]]] = {"events": [(b"u1", b"no event")]}
    for number in range(first, first + 3):
        for user in USERS:
            slate, name = f"{user.decode()}-{number}", user.decode()
            told["events"].append((user, encode(Interaction(name, f"i{number}", small.START))))
            for topic, one in (("recommendations", hostile.RECOMMENDATION), ("decisions", hostile.DECISION)):
                told.setdefault(topic, []).append((user, encode(replace(one, user=name, slate=slate))))
    for topic, records in told.items():
        await wire.produce(topics.name(topic), records)


async def test_looked_up_again_he_is_as_if_looked_up_anew_and_only_what_came_since_is_read(
    wire: Wire, topics: Topics, cluster: Cluster
) -> None:
    await happen(wire, topics, 0)
    first = await look_up(cluster, topics, "u1")
    assert [getattr(event, "item", None) for _, _, event in first.events] == ["i2", "i1", "i0"]
    assert [slate.slate for _, slate in first.slates] == ["u1-2", "u1-1", "u1-0"]
    assert [one.slate for _, one in first.decisions] == ["u1-2", "u1-1"] and len(first.turns) == 3
    await happen(wire, topics, 3)
    again = await look_up(cluster, topics, "u1", first)
    assert again == await look_up(cluster, topics, "u1")
    assert len(again.events) == 6 and len(first.events) == 3  # what is shown meanwhile is left as it was
    await wire.produce(topics.recommendations, [(b"u1", None)])
    gone = await look_up(cluster, topics, "u1", again)
    assert gone.erased and not gone.slates and not gone.decisions and not gone.turns
