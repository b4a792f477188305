"""`driftline status`: reads a real deployment as it is, and says it to people and to programs."""

from __future__ import annotations

import json
import sys

import pytest
from aiokafka import TopicPartition

from ops import cli
from streams.cluster import Cluster
from streams.topics import Topics
from tests.conftest import Wire


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, **settings: str) -> int:
    for name, value in settings.items():
        monkeypatch.setenv(f"DRIFTLINE_{name.upper()}", value)
    monkeypatch.setattr(sys, "argv", ["driftline", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_a_cluster_that_is_away_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "status", bootstrap_servers="127.0.0.1:1") == 1
    assert capsys.readouterr().err.splitlines()[0] == "error: no Kafka answers at 127.0.0.1:1"
    assert run(monkeypatch, "status", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["healthy"] is False and told["advice"][0]["words"] == "no Kafka answers at 127.0.0.1:1"


@pytest.mark.broker
async def test_topics_groups_and_lag_are_as_they_are(
    cluster: Cluster, topics: Topics, wire: Wire, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    await wire.produce(topics.events, [(b"u", b"{}")] * 5, partition=2)
    await wire.produce(topics.events_dlq, [(b"u", b"{}")] * 3, partition=0)
    async with cluster.consumer(topics.events, group_id=f"{topics.prefix}app") as member:
        await member.getmany(timeout_ms=5000)
        await member.commit({TopicPartition(topics.events, 2): 3})
        settings = {"bootstrap_servers": str(cluster), "topic_prefix": topics.prefix, "app_id": f"{topics.prefix}app"}
        assert await asyncio.to_thread(run, monkeypatch, "status", "--json", **settings) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["cluster"]["version"].startswith("4.") and told["cluster"]["controller"] == 1
    assert told["topics"][topics.events]["offsets"] == 5 and told["topics"][topics.events]["differs"] == {}
    workers, learners, _ = [one for one in told["groups"] if one["of"] != "another's"]
    assert (workers["members"], workers["lag"]) == (1, {topics.events: 2})
    assert learners["members"] == 0
    assert told["dead_letters"]["last_hour"] == {"not said": 3} and told["events_last_hour"] == 5
    said = [one["words"] for one in told["advice"]]
    assert "no release is published, so that nothing is recommended" in said
    assert not any("no worker" in words for words in said)
