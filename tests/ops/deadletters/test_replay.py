"""Originals are sent again once each, whatever is killed and however often it is run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ops.deadletters import replay
from ops.deadletters.letters import Filter
from ops.deadletters.mailbox import Mailbox
from ops.deadletters.plan import Plan, Replay, of_events, of_items, plan
from ops.deadletters.replay import Done, execute
from ops.errors import CliError
from streams.cluster import Cluster
from streams.contracts import Erase, Interaction, encode
from streams.deadletters import PREFIX, REPLAYED
from streams.engine import Engine
from streams.engine_config import EngineConfig
from streams.pipeline import Pipeline
from streams.topics import Topics
from streams.validation import EventRules
from tests import small
from tests.conftest import Wire
from tests.ops.deadletters.posted import Bad, post

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[3]


def many(count: int, partitions: int = 2) -> list[Bad]:
    return [Bad(b"v%d" % number, b"k", source=number % partitions, offset=number) for number in range(count)]


def job(topics: Topics, **wanted: object) -> Replay:
    return of_events("app", topics, Filter(**wanted))  # type: ignore[arg-type]


async def run(cluster: Cluster, replay: Replay) -> tuple[Plan, Done]:
    async with Mailbox(cluster, replay.letters) as box:
        found = await plan(replay, box)
        return found, await execute(replay, box, found)


async def read(wire: Wire, topic: str) -> list[ConsumerRecord]:
    """All records, once the last transaction's markers are written."""
    async with Mailbox(wire.cluster, topic) as box:
        await box.settled(box.places)
    return await wire.read(topic)


async def values(wire: Wire, topic: str) -> Counter[bytes]:
    return Counter(record.value for record in await read(wire, topic))


@pytest.mark.parametrize("partitions", [2])
async def test_originals_go_back_as_they_were_and_once(wire: Wire, topics: Topics, cluster: Cluster) -> None:
    headers = [("trace", b"\xff"), ("null", None), ("trace", b"2")]
    odd = [("caf\udce9", b"1")]
    bad = [Bad(b"a", b"k1", headers=headers), Bad(None, None, source=1), Bad(b"c", b"", headers=odd, source=1)]
    await post(cluster, topics.events_dlq, topics.events, bad)
    found, done = await run(cluster, job(topics))
    assert (found.count, found.reasons, done) == (3, {"unknown_action": 3}, Done(3, []))
    sent = await read(wire, topics.events)
    assert [(r.partition, r.key, r.value) for r in sent] == [(0, b"k1", b"a"), (1, None, None), (1, b"", b"c")]
    assert [r.headers for r in sent] == [tuple(headers), (), ((r"caf\xe9", b"1"),)]
    assert not any(name.startswith(PREFIX) for record in sent for name, _ in record.headers)
    again, done = await run(cluster, job(topics))
    assert (again.count, again.left_out, done.sent) == (0, {"sent again before": 3}, 0)
    assert len(await read(wire, topics.events)) == 3


@pytest.mark.parametrize("partitions", [2])
async def test_filters_may_cross_and_each_letter_is_sent_once(wire: Wire, topics: Topics, cluster: Cluster) -> None:
    reasons = ("schema", "unknown_action", "time_past")
    letters = [Bad(b"v%d" % n, b"k%d" % (n % 2), reasons[n % 3], source=n // 6, offset=n) for n in range(12)]
    await post(cluster, topics.events_dlq, topics.events, letters)
    sent = [
        (await run(cluster, job(topics, **wanted)))[1].sent
        for wanted in ({"reason": "schema"}, {"partition": 1}, {"key": b"k0"}, {"partition": 0, "offset": 1}, {})
    ]
    assert sent == [4, 4, 2, 1, 1]
    assert await values(wire, topics.events) == Counter(bad.value for bad in letters)


@pytest.mark.parametrize("partitions", [2])
async def test_only_letters_of_the_preview_are_sent(wire: Wire, topics: Topics, cluster: Cluster) -> None:
    await post(cluster, topics.events_dlq, topics.events, many(4))
    async with Mailbox(cluster, topics.events_dlq) as box:
        found = await plan(job(topics), box)
        await post(cluster, topics.events_dlq, topics.events, [Bad(b"later")])
        await run(cluster, job(topics, partition=1))  # somebody else, meanwhile
        assert (await execute(job(topics), box, found)).sent == 2
    assert await values(wire, topics.events) == Counter([b"v0", b"v1", b"v2", b"v3"])


_KILLED = """
import asyncio, os, signal, sys
from aiokafka import AIOKafkaProducer
from ops.deadletters import plan, replay
from ops.deadletters.letters import Filter
from ops.deadletters.mailbox import Mailbox
from streams.cluster import Cluster
from streams.names import Topics

bootstrap, prefix, moment = sys.argv[1:]
replay.BATCH_LETTERS = 10
commit, calls = AIOKafkaProducer.commit_transaction, []

async def third(self):
    calls.append(None)
    if moment == "before the commit" and len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    await commit(self)
    if moment == "after the commit" and len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

AIOKafkaProducer.commit_transaction = third

async def main():
    job = plan.of_events("app", Topics(prefix), Filter())
    async with Mailbox(Cluster(bootstrap), job.letters) as box:
        await replay.execute(job, box, await plan.plan(job, box))

asyncio.run(main())
"""


@pytest.mark.parametrize("partitions", [2])
@pytest.mark.parametrize(("moment", "sent"), [("before the commit", 20), ("after the commit", 30)])
async def test_killed_in_the_middle_each_is_sent_once(
    wire: Wire, topics: Topics, cluster: Cluster, moment: str, sent: int
) -> None:
    await post(cluster, topics.events_dlq, topics.events, many(55))
    arguments = [cluster.bootstrap_servers, topics.prefix, moment]
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _KILLED, *arguments, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert await killed.wait() == -signal.SIGKILL
    _, done = await run(cluster, job(topics))
    assert done.sent == 55 - sent
    assert await values(wire, topics.events) == Counter(bad.value for bad in many(55))


@pytest.mark.parametrize("partitions", [1])
async def test_a_note_behind_an_open_transaction_is_waited_for(wire: Wire, topics: Topics, cluster: Cluster) -> None:
    """Else a worker that hangs in mid-transaction would hide the notes behind it, and letters would be sent twice."""
    await post(cluster, topics.events_dlq, topics.events, many(2, partitions=1))
    async with Mailbox(cluster, topics.events_dlq) as box:
        found = await plan(job(topics), box)
        (place,) = box.places
        hanging = cluster.producer(transactional_id=f"{topics.prefix}worker")
        await hanging.start()
        try:
            await hanging.begin_transaction()
            await hanging.send_and_wait(topics.events_dlq, b"x", partition=0)
            end = (await box.ends([place]))[place]
            settling = asyncio.create_task(box.settled([place]))
            await asyncio.wait({settling}, timeout=1)
            assert end == 2 and not settling.done()
            await hanging.abort_transaction()
            assert (await settling)[place] == 3
        finally:
            await hanging.stop()
        assert (await execute(job(topics), box, found)).sent == 2


@pytest.mark.parametrize("partitions", [1])
async def test_a_second_replay_fences_the_first(
    wire: Wire, topics: Topics, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.deadletters.replay.BATCH_LETTERS", 5)
    await post(cluster, topics.events_dlq, topics.events, many(30, partitions=1))
    second: list[asyncio.Task[tuple[Plan, Done]]] = []

    def start_another(done: int, total: int) -> None:
        if not second:
            second.append(asyncio.create_task(run(cluster, job(topics))))

    async with Mailbox(cluster, topics.events_dlq) as box:
        found = await plan(job(topics), box)
        monkeypatch.setattr(box, "records", _slowly(box.records, second))
        with pytest.raises(CliError, match=r"another replay of .* took over after 5 letters"):
            await execute(job(topics), box, found, start_another)
    assert (await second[0])[1].sent == 25
    assert await values(wire, topics.events) == Counter(bad.value for bad in many(30, partitions=1))


@pytest.mark.parametrize("partitions", [1])
async def test_it_is_said_what_another_replay_had_sent_since_the_preview(
    wire: Wire, topics: Topics, cluster: Cluster
) -> None:
    await post(cluster, topics.events_dlq, topics.events, many(3, partitions=1))
    async with Mailbox(cluster, topics.events_dlq) as box:
        found = await plan(job(topics), box)
        await run(cluster, job(topics, partition=0, offset=1))
        done = await execute(job(topics), box, found)
    assert (done.sent, done.overtaken) == (2, 1)


def _slowly(records, until):  # type: ignore[no-untyped-def]
    """The records, the rest of which come only when the other replay is through."""

    async def slow(*arguments):  # type: ignore[no-untyped-def]
        async for record in records(*arguments):
            if until:
                await asyncio.wait(until)
            yield record

    return slow


@pytest.mark.parametrize("partitions", [1])
async def test_what_cannot_be_sent_is_left_out_and_said(wire: Wire, topics: Topics, cluster: Cluster) -> None:
    await post(cluster, topics.events_dlq, topics.events, [Bad(b"good"), Bad(bytes(4 * 2**20)), Bad(b"x" * 2_000_000)])
    await post(cluster, topics.events_dlq, "another", [Bad(b"foreign")])
    await wire.produce(topics.events_dlq, [(b"k", b"no letter")])
    producer = cluster.producer()
    await producer.start()
    try:
        place = [("driftline-source-topic", topics.events.encode()), ("driftline-source-partition", b"9")]
        headers = [*place, ("driftline-source-offset", b"1")]
        await producer.send_and_wait(topics.events_dlq, b"far", headers=headers, partition=0)
        huge = os.urandom(1_500_000)
        headers[1] = ("driftline-source-partition", b"0")
        await producer.send_and_wait(topics.events_dlq, b"", headers=headers, partition=0)
    finally:
        await producer.stop()
    await post(cluster, topics.events_dlq, topics.events, [Bad(huge), Bad(b"last")])
    found, done = await run(cluster, job(topics))
    assert found.left_out == {
        "it was too large to keep whole": 1,
        f"it came from another topic than {topics.events}": 1,
        "it does not say where it came from": 1,
        f"its partition of {topics.events} is no more": 1,
    }
    assert found.count == 5
    # Two million bytes of x fit when they are compressed, a million and a half of noise do not.
    assert done.sent == 4 and len(done.refused) == 1
    assert await values(wire, topics.events) == Counter([b"good", b"x" * 2_000_000, b"", b"last"])


@pytest.mark.parametrize("partitions", [1])
async def test_of_a_refused_transaction_all_is_sent_but_the_one_to_blame(
    wire: Wire, topics: Topics, cluster: Cluster
) -> None:
    admin = cluster.admin()
    await admin.start()
    try:
        limit = {"max.message.bytes": "5000"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topics.events, configs=limit)])
    finally:
        await admin.close()
    small, noise = many(11, partitions=1), Bad(os.urandom(20_000))
    await post(cluster, topics.events_dlq, topics.events, [*small[:7], noise, *small[7:]])
    _, done = await run(cluster, job(topics))
    assert done == Done(11, [(0, 7)])
    assert [record.value for record in await read(wire, topics.events)] == [bad.value for bad in small]


@pytest.mark.parametrize("partitions", [1])
async def test_what_another_replay_sent_while_a_letter_was_refused_is_not_sent_twice(
    wire: Wire, topics: Topics, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post(cluster, topics.events_dlq, topics.events, [Bad(b"first"), Bad(os.urandom(1_500_000)), Bad(b"last")])
    opened, other = [], []
    real = replay._Sender.open

    async def after_another(sender: replay._Sender) -> None:
        opened.append(sender)
        if len(opened) == 2:
            assert opened[0] is sender  # the letter was refused, and it begins anew
            other.append(await run(cluster, job(topics)))
        await real(sender)

    monkeypatch.setattr(replay._Sender, "open", after_another)
    _, done = await run(cluster, job(topics))
    assert (done, other[0][1]) == (Done(1, [(0, 1)], overtaken=1), Done(1, [(0, 1)]))
    assert await values(wire, topics.events) == Counter([b"first", b"last"])


@pytest.mark.parametrize("partitions", [1])
async def test_an_old_version_of_an_item_is_not_brought_back(wire: Wire, topics: Topics, cluster: Cluster) -> None:
    await wire.produce(topics.items, [(b"i1", b"bad"), (b"i2", b"bad"), (b"i1", b"good")], partition=0)
    letters = [Bad(b"bad", b"i1", "schema", offset=0), Bad(b"bad", b"i2", "schema", offset=1)]
    await post(cluster, topics.items_dlq, topics.items, letters)
    found, _ = await run(cluster, of_items("app", topics, Filter()))
    assert found.left_out == {f"{topics.items} has a newer record of the item": 1}
    assert [record.key for record in await read(wire, topics.items)][3:] == [b"i2"]


@pytest.mark.parametrize("partitions", [1])
async def test_what_an_erased_user_did_does_not_come_back(wire: Wire, topics: Topics, cluster: Cluster) -> None:
    erase = encode(Erase("ann", small.START))
    await wire.produce(topics.events, [(b"ann", b"bad"), (b"bob", b"bad"), (b"bob", b'{"erase'), (b"ann", erase)])
    await wire.produce(topics.events, [(b"ann", b"bad again")])
    letters = [(b"bad", b"ann", 0), (b"bad", b"bob", 1), (b"bad again", b"ann", 4)]
    await post(cluster, topics.events_dlq, topics.events, [Bad(value, key, offset=at) for value, key, at in letters])
    found, _ = await run(cluster, job(topics))
    assert found.left_out == {"their user was erased since": 1}
    sent = [(record.key, record.value) for record in await read(wire, topics.events)][5:]
    assert sent == [(b"bob", b"bad"), (b"ann", b"bad again")]


@pytest.mark.parametrize("partitions", [1])
async def test_a_note_that_cannot_be_read_stops_the_replay(wire: Wire, topics: Topics, cluster: Cluster) -> None:
    await post(cluster, topics.events_dlq, topics.events, many(1))
    producer = cluster.producer()
    await producer.start()
    await producer.send_and_wait(topics.events_dlq, b"{", headers=[(REPLAYED, b"1")], partition=0)
    await producer.stop()
    with pytest.raises(ValueError, match=r"the note at .* 0 1 cannot be read"):
        await run(cluster, job(topics))
    assert not await read(wire, topics.events)


@pytest.mark.parametrize("partitions", [1])
async def test_events_of_a_rule_that_was_loosened_are_answered_once(
    wire: Wire, topics: Topics, cluster: Cluster
) -> None:
    """The whole way: a worker that does not know the action, then one that does, and a replay in between."""
    actions = ["view", "lick", "view", "lick", "view"]
    sent = [Interaction(f"u{n}", f"i{n}", small.START + n, action) for n, action in enumerate(actions)]
    await wire.produce(topics.events, [(event.user.encode(), encode(event)) for event in sent])
    await _serve(cluster, topics, ("view", "rate"), until=5)
    assert len(await wire.read(topics.events_dlq)) == 2 and len(await _covered(wire, topics)) == 3
    for _ in range(2):
        await run(cluster, job(topics, reason="unknown_action"))
    await _serve(cluster, topics, ("view", "rate", "lick"), until=7)
    covered = await _covered(wire, topics)
    assert set(covered.values()) == {1} and {0, 2, 4} < set(covered) and len(covered) == 5
    letters = [record for record in await wire.read(topics.events_dlq) if REPLAYED not in dict(record.headers)]
    assert len(letters) == 2


async def _serve(cluster: Cluster, topics: Topics, actions: tuple[str, ...], until: int) -> None:
    """Have a worker with these rules answer events up to an offset."""
    config = EngineConfig(cluster, f"{topics.prefix}app", topics.events, topics.state, topics.events_dlq)
    rules = EventRules(actions=actions)
    world = small.world()
    engine = Engine(config, Pipeline(replace(small.config(topics), rules=rules), lambda: world))
    task = asyncio.create_task(engine.run())
    place = TopicPartition(topics.events, 0)
    try:
        while not task.done() and engine.status().get(place.partition, {"next_offset": 0})["next_offset"] < until:
            await asyncio.sleep(0.1)
    finally:
        engine.stop()
        await task


async def _covered(wire: Wire, topics: Topics) -> Counter[int]:
    slates = [json.loads(record.value) for record in await wire.read(topics.recommendations)]
    return Counter(offset for slate in slates for offset in slate["covers"])
