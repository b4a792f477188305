"""The traffic: latency is of each event, whatever comes first; and the process itself on a real broker."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from ops.demo.traffic import Clock, Traffic, TrafficConfig, TrafficStatus, read_status
from streams.cluster import Cluster
from streams.names import Topics


def test_latency_is_from_each_event_to_the_slate_that_covers_it() -> None:
    clock = Clock()
    clock.sent((0, 0), 10.0)
    clock.sent((0, 1), 10.5)
    clock.sent((1, 0), 10.5)
    clock.slate(0, [0, 1], 11.0)
    assert sorted(clock.latencies) == [0.5, 1.0]
    clock.slate(1, [0], 12.0)
    assert clock.latencies[-1] == 1.5


def test_a_slate_may_come_before_the_acknowledgement() -> None:
    clock = Clock()
    clock.slate(0, [7], 3.0)
    assert clock.latencies == []
    clock.sent((0, 7), 2.0)
    assert clock.latencies == [1.0]


def test_an_event_answered_twice_is_timed_once() -> None:
    clock = Clock()
    clock.sent((0, 0), 1.0)
    clock.slate(0, [0], 2.0)
    clock.slate(0, [0], 5.0)
    assert clock.latencies == [1.0]


def test_the_status_is_empty_before_it_is_written(tmp_path: Path) -> None:
    assert read_status(tmp_path / "none") == TrafficStatus()


def config(topics: Topics, folder: Path, events: int, patience_s: float) -> TrafficConfig:
    lines = [json.dumps({"user": f"u{number % 3}", "number": number}) for number in range(events)]
    (folder / "live.jsonl").write_text("\n".join(lines) + "\n")
    files = (str(folder / "live.jsonl"), str(folder / "status.json"))
    return TrafficConfig(topics.events, topics.recommendations, *files, rate=200, patience_s=patience_s)


async def echo(cluster: Cluster, topics: Topics, skip: int | None = None) -> None:
    """Answer every event, but for the one numbered `skip`."""
    consumer = cluster.consumer(topics.events)
    producer = cluster.producer()
    await consumer.start()
    await producer.start()
    try:
        async for record in consumer:
            if json.loads(record.value)["number"] != skip:
                value = json.dumps({"covers": [record.offset]}).encode()
                await producer.send(topics.recommendations, value, key=record.key, partition=record.partition)
    finally:
        await consumer.stop()
        await producer.stop()


@pytest.mark.broker
@pytest.mark.parametrize("skip", [None, 11])
async def test_every_event_is_sent_and_its_answer_timed(
    cluster: Cluster, topics: Topics, tmp_path: Path, skip: int | None
) -> None:
    answering = asyncio.create_task(echo(cluster, topics, skip))
    settings = config(topics, tmp_path, events=40, patience_s=0.5)
    await Traffic(cluster, settings).run()
    answering.cancel()
    await asyncio.gather(answering, return_exceptions=True)
    status = read_status(Path(settings.status))
    assert status.done and status.sent == 40
    assert status.answered == (40 if skip is None else 39)
    assert status.overall is not None and 0 < status.overall.p50 <= status.overall.p99
    assert status.first_slate is not None
    assert status.events_per_s > 0
