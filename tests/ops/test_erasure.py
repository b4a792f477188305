"""`driftline erase` as people run it, with a worker that is killed around the erasure, on a real broker."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ops.audit import audit
from ops.cli import app
from ops.contract_examples import EXAMPLES
from ops.erasure import checked_ids, erasures
from ops.errors import CliError
from streams.cluster import Cluster
from streams.contracts import Cause, Erase, Outcome, Recommendation, encode
from streams.deadletters import dead_letter_headers
from streams.state import UserState, encode_state
from streams.topics import Topics
from tests import small
from tests.conftest import Start, Wire
from tests.streams.test_worker import events, publish_world

(SLATE,) = (example for example in EXAMPLES if isinstance(example, Recommendation))
COVERS = "driftline-covers"


@pytest.fixture
def settings(worker_settings: dict[str, str]) -> dict[str, str]:
    return worker_settings | {"COLUMNS": "200"}


async def run(settings: dict[str, str], *arguments: str) -> Result:
    """Run the command in a thread: it has an event loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, app, ["erase", *arguments], env=settings)


async def verified(settings: dict[str, str], *users: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit status and what is said of each user."""
    result = await run(settings, *users, "--verify", "--json")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout)["users"]


def held(proof: dict[str, Any]) -> set[tuple[str, str]]:
    return {(one["where"], one["what"].split(" with ")[0]) for one in proof["holdings"]}


@pytest.mark.broker
@pytest.mark.parametrize("partitions", [2])
async def test_an_erasure_is_exactly_once_though_the_worker_is_killed_and_nothing_of_the_user_stays(
    wire: Wire, cluster: Cluster, topics: Topics, settings: dict[str, str], start: Start, tmp_path: Path
) -> None:
    await publish_world(wire, topics, tmp_path)
    worker = start()
    await wire.produce(topics.events, [*events(200), (b"u1", b'{"user": "u1"')])
    await until_answered(wire, topics, 200)
    status, (before,) = await verified(settings, "u1")
    assert status == 1 and not before["clean"]
    assert held(before) >= {
        ("events", "what he did"),
        ("events.dlq", "dead letters"),
        ("decisions", "decision records"),
        ("outcomes", "outcomes"),  # newer slates have taken the place of older ones
        ("state", "current state"),
        ("recommendations", "current slate"),
    }

    sent = 200
    for user in (1, 2):
        erasing = asyncio.create_task(run(settings, f"u{user}", "--timeout", "60"))
        await wire.produce(topics.events, events(170, sent))
        sent += 170
        await asyncio.sleep(0.2 * user)  # before or while it is answered
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        worker = start()
        result = await erasing
        assert result.exit_code == 0 and f"u{user}: erased, event " in result.stdout, result.output
    asked = [record for record in await wire.read(topics.events) if b'"erase"' in (record.value or b"")]
    account = await until_clean(cluster, topics, settings["DRIFTLINE_APP_ID"])
    assert account.erased >= len(asked) == 2  # events of his in the same batch are answered by the tombstone, too
    answers = Counter(
        (record.partition, offset)
        for record in await wire.read(topics.recommendations)
        if record.value is None
        for offset in msgspec.json.decode(dict(record.headers)[COVERS])
    )
    assert {(record.partition, record.offset): answers[record.partition, record.offset] for record in asked} == {
        (record.partition, record.offset): 1 for record in asked
    }

    last = ["u1", "u2", "u3", "u4"]  # two of them came back with `events`
    result = await run(settings, *last)
    assert result.exit_code == 0 and "4 users erased" in result.stdout, result.output
    erased_at = {
        record.key.decode(): record.offset
        for record in await wire.read(topics.events)
        if b'"erase"' in (record.value or b"")
    }
    status, proofs = await verified(settings, *last)
    assert status == 0, proofs
    for proof in proofs:
        assert proof["clean"] and not proof["returned"]
        assert all(one["until"] is not None for one in proof["holdings"])
        assert {what for where, what in held(proof) if where == "state"} <= {
            "replaced states",
            "tombstone: nothing but his id",
            "states of aborted transactions",
        }
    # The erasures' own time lies years after the events': every window is closed with the next event.
    told = {(record.partition, record.offset) for record in await wire.read(topics.outcomes)}
    await wire.produce(topics.events, events(34, sent))
    await until_clean(cluster, topics, settings["DRIFTLINE_APP_ID"])
    for record in await wire.read(topics.outcomes):
        outcome = msgspec.json.decode(record.value, type=Outcome)
        if (record.partition, record.offset) not in told:
            assert int(outcome.slate.split("-")[1]) > erased_at.get(outcome.user, -1), outcome
    status, proofs = await verified(settings, *last)
    assert status == 0 and {proof["returned"] for proof in proofs} == {2}, proofs


async def until_answered(wire: Wire, topics: Topics, count: int) -> None:
    async with asyncio.timeout(90):
        while (
            sum(
                len(msgspec.json.decode(record.value, type=Recommendation).covers)
                for record in await wire.read(topics.recommendations)
                if record.value is not None
            )
            < count
        ):
            await asyncio.sleep(0.3)


async def until_clean(cluster: Cluster, topics: Topics, group: str) -> Any:
    """The account once every event is answered."""
    async with asyncio.timeout(90):
        while True:
            account, _ = await audit(cluster, topics, group, 0)
            if not account.unanswered and not account.lost:
                break
            await asyncio.sleep(0.3)
    assert account.clean, account
    return account


async def tell(cluster: Cluster, topic: str, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
    """Write a record with headers to partition 0."""
    producer = cluster.producer()
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, key, partition=0, headers=headers)
    finally:
        await producer.stop()


@pytest.mark.broker
async def test_what_is_planted_behind_an_erasure_fails_the_proof(
    wire: Wire, cluster: Cluster, topics: Topics, settings: dict[str, str]
) -> None:
    """Topics as a worker would leave them, written by hand, and then spoiled."""
    slate = encode(msgspec.structs.replace(SLATE, user="anna", cause=Cause(0, 0, "interaction")))
    state = encode_state(UserState(events=1, offset=0))
    await wire.produce(topics.events, [events(1)[0], (b"anna", encode(Erase("anna", small.START)))], partition=0)
    await wire.produce(topics.state, [(b"anna", state), (b"anna", None)], partition=0)
    await wire.produce(topics.recommendations, [(b"anna", slate)], partition=0)
    await tell(cluster, topics.recommendations, b"anna", None, [(COVERS, b"[1]")])
    status, (proof,) = await verified(settings, "anna")
    assert (status, proof["clean"]) == (0, True), proof
    for topic, value in ((topics.recommendations, slate), (topics.state, state)):
        await wire.produce(topic, [(b"anna", value)], partition=0)
        result = await run(settings, "anna", "--verify")
        assert result.exit_code == 1
        plain = topic.removeprefix(topics.prefix)
        assert f"MUST NOT BE THERE: {plain} 0-2, current " in result.stdout
        assert ": live, and of no event after the erasure 0-1\n" in result.stdout
        assert "anna: erased by 0-1. NOT CLEAN: 1 record(s) must not be there." in result.stdout
        await wire.produce(topic, [(b"anna", None)], partition=0)
        assert (await run(settings, "anna", "--verify")).exit_code == 0


@pytest.mark.broker
async def test_without_a_worker_it_says_so_and_a_refusal_is_told(
    wire: Wire, cluster: Cluster, topics: Topics, settings: dict[str, str], tmp_path: Path
) -> None:
    result = await run(settings, "anna", "--timeout", "0.3")
    assert isinstance(result.exception, CliError) and "does one run" in str(result.exception)
    (tmp_path / "ids").write_text("bert\n\ncarl\nbert\n")
    result = await run(settings, "--file", str(tmp_path / "ids"), "--no-wait", "--all-partitions", "--json")
    told = json.loads(result.stdout)["users"]
    assert result.exit_code == 0
    assert [(one["user"], [place for place, _ in one["events"]], one["answered"]) for one in told] == [
        ("bert", [0, 1, 2, 3], False),
        ("carl", [0, 1, 2, 3], False),
    ]
    assert Counter(record.key for record in await wire.read(topics.events)) == {b"anna": 1, b"bert": 4, b"carl": 4}
    async with erasures(cluster, topics) as sending:
        (one,) = await sending.ask(["dora"])
        ((partition, offset),) = one.places
        headers = dead_letter_headers([], "handler_error", "no such luck", topics.events, partition, offset, 0)
        await tell(cluster, topics.events_dlq, b"dora", b"", headers)
        await sending.wait(20)
    assert (one.done, one.refused) == (False, ["no such luck"])


def test_ids_that_no_user_can_have_are_refused() -> None:
    assert checked_ids(["b", "a", "b"]) == ["b", "a"]
    for user in ("", "x" * 257):
        with pytest.raises(CliError, match="expected 1 to 256"):
            checked_ids([user])
    result = CliRunner().invoke(app, ["erase"])
    assert isinstance(result.exception, CliError) and "no user is named" in str(result.exception)
