"""`driftline replay` over a log that real workers wrote: a crash, rebalances, items and estimates that change, a new
release. What comes out is what went out, and the states are those of the changelog."""

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

from evaluation.replay import Replay
from evaluation.replay_verdict import TOLERANCE
from evaluation.replay_world import Worlds
from models.release import Release
from models.serving import ServingModel
from ops.cli import app
from ops.commands.replay import _letters, _millis
from ops.configuration import worker_config
from ops.errors import CliError
from ops.policy_files import read_policy_file
from ops.replay_log import LogReader
from ops.replaying import Account, change_of
from ops.settings import Settings
from streams.cluster import Cluster
from streams.contracts import Erase, Interaction, ReleasePointer, Request, encode
from streams.estimators import Estimators
from streams.state import PARTITION_KEY
from streams.topics import Topics
from tests import small
from tests.conftest import Start, Wire
from tests.evaluation.test_replay import without_model_numbers
from tests.streams.test_worker import decision, publish_world

Pair = tuple[bytes, bytes]


def events(count: int, first: int) -> list[Pair]:
    """Mostly views; some requests, an erasure, rubbish. Event time passes a window every hundred events."""
    made: list[Pair] = []
    for number in range(first, first + count):
        user, time = f"u{number % 17}", small.START + number * 20_000
        event: Any = Interaction(user, f"i{(number * 7) % 51}", time)
        if number % 11 == 5:
            event = Request(user, time)
        elif number % 50 == 33:
            event = Erase(user, time)
        made.append((user.encode(), b"{" if number % 40 == 8 else encode(event)))
    return made


async def settled(wire: Wire, topics: Topics, count: int) -> None:
    """Wait until `count` events are answered or dead letters."""
    async with asyncio.timeout(180):
        while True:
            done = len(await wire.read(topics.events_dlq))
            for record in await wire.read(topics.recommendations):
                if record.value is None:
                    done += len(json.loads(dict(record.headers)["driftline-covers"]))
                else:
                    done += len(msgspec.json.decode(record.value)["covers"])
            if done >= count:
                return
            await asyncio.sleep(0.5)


class Stage:
    """Sends events to workers that come and go."""

    def __init__(self, wire: Wire, topics: Topics) -> None:
        self._wire = wire
        self._topics = topics
        self.sent = 0

    async def send(self, count: int, wait: bool = True) -> None:
        await self._wire.produce(self._topics.events, events(count, self.sent))
        self.sent += count
        if wait:
            await settled(self._wire, self._topics, self.sent)


async def served(wire: Wire, topics: Topics, start: Start, folder: Path) -> None:
    """A stretch of log that holds a crash, rebalances, changes of the world and a release."""
    stage = Stage(wire, topics)
    await publish_world(wire, topics, folder)
    first = start(DRIFTLINE_PARTITIONS="2")
    await stage.send(40)
    estimators = Estimators()
    for number in range(20):
        estimators.learn(small.outcome([f"i{(number + step) % 9}" for step in range(5)]))
    gone = msgspec.structs.replace(small.item_vector(7), withdrawn=True)
    changes = [(b"i50", encode(small.item_vector(50))), (b"i7", encode(gone)), (b"i9", None)]
    await wire.produce(topics.item_vectors, changes)
    await wire.produce(topics.models, [(b"estimator", encode(estimators.snapshot({0: 1}, small.START)))])
    await stage.send(40, wait=False)
    second = start(DRIFTLINE_PARTITIONS="2")  # joins while there is work: a rebalance
    await stage.send(40, wait=False)
    first.send_signal(signal.SIGKILL)
    first.wait()
    await stage.send(40)
    release = small.release(seed=1)
    release.save(folder / "releases")
    await wire.produce(topics.models, [(b"release", encode(ReleasePointer(release.id, "", small.START)))])
    async with asyncio.timeout(180):
        while decision((await wire.read(topics.decisions))[-1].value).release != release.id:
            await stage.send(8)
    await stage.send(30)
    second.terminate()
    assert second.wait(timeout=60) == 0


@pytest.mark.broker
@pytest.mark.parametrize("partitions", [2])
async def test_what_real_workers_served_comes_out_again(
    wire: Wire,
    cluster: Cluster,
    topics: Topics,
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await served(wire, topics, start, tmp_path)
    variables = {
        "DRIFTLINE_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
        "DRIFTLINE_TOPIC_PREFIX": topics.prefix,
        "DRIFTLINE_DATA_DIR": str(tmp_path),
        "DRIFTLINE_EVENTS_ACTIONS": ",".join(small.RULES.actions),
        "DRIFTLINE_POLICY_CANDIDATES": "20",
        "DRIFTLINE_POLICY_SLATE_SIZE": "5",
        "DRIFTLINE_PARTITIONS": "2",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    decisions = [decision(record.value) for record in await wire.read(topics.decisions)]
    assert len({one.release for one in decisions}) == 2
    assert len({one.estimator for one in decisions}) == 2
    assert len({tuple(one.catalogue) for one in decisions}) >= 2
    assert any(len(one.covers) > 1 for one in decisions)

    await the_states_are_those_of_the_changelog(wire, cluster, topics, tmp_path)
    whole = await driftline("replay", "--json")
    found = json.loads(whole.stdout)
    assert found["slates"] == len(decisions)
    assert found["verdicts"].get("same", 0) + found["verdicts"].get("near tie", 0) == len(decisions)
    assert found["verdicts"]["same"] > 0.98 * len(decisions)
    assert found["base_error"] < TOLERANCE and found["correction_error"] < TOLERANCE
    assert (found["choices_differ"], found["unrecorded"], found["dead_differences"], found["conflicts"]) == (
        [],
        [],
        [],
        [],
    )
    assert whole.exit_code == 0

    times = sorted(record.timestamp for record in await wire.read(topics.events))
    middle = times[len(times) // 2]
    half = json.loads((await driftline("replay", "--json", "--from", str(middle))).stdout)
    assert 0 < half["slates"] < len(decisions) and set(half["verdicts"]) <= {"same", "near tie"}

    policy = tmp_path / "policy.toml"
    policy.write_text("policy_temperature = 3.0\n")
    other = await driftline("replay", "--json", "--policy", str(policy))
    compared = json.loads(other.stdout)["comparison"]
    assert other.exit_code == 0
    assert compared["slates"] == len(decisions) and 0 < compared["changed"] <= len(decisions)
    assert 0 < compared["overlap"] < 1 and compared["examples"] and compared["users"] and compared["items"]
    policy.write_text("policy_temperature = 0.35\n")
    table = await driftline("replay", "--from", str(middle), "--policy", str(policy))
    assert f"0 of {half['slates']} slates would be others" in " ".join(table.stdout.split())


async def driftline(*arguments: str) -> Result:
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


async def the_states_are_those_of_the_changelog(wire: Wire, cluster: Cluster, topics: Topics, folder: Path) -> None:
    settings = Settings()
    reader = LogReader(cluster, topics)
    common = await reader.common()

    def load(release: str) -> ServingModel:
        return ServingModel(Release.load(folder / "releases" / release))

    replay = Replay(worker_config(settings, cluster).pipeline, Worlds(common.changes, common.snapshots, load))
    for number in common.begins:
        verdicts = Counter(one.verdict for one in replay.run(await reader.partition(number, common)))
        assert set(verdicts) <= {"same", "near tie"}
    kept: dict[int, dict[bytes, bytes]] = {number: {} for number in common.begins}
    for record in await wire.read(topics.state):
        if record.value is None:
            kept[record.partition].pop(record.key, None)
        else:
            kept[record.partition][record.key] = record.value
    for number, states in kept.items():
        assert states.keys() == replay.states[number].keys()
        assert states[PARTITION_KEY] == replay.states[number][PARTITION_KEY]
        for key in states.keys() - {PARTITION_KEY}:
            assert without_model_numbers(states[key]) == without_model_numbers(replay.states[number][key])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("1700000000000", 1_700_000_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T22:13:20", 1_700_000_000_000),
        ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500),
    ],
)
def test_a_time_may_be_written_in_two_ways(given: str, meant: int) -> None:
    assert _millis("--from", given) == meant


def test_a_wrong_time_is_named() -> None:
    with pytest.raises(CliError, match="--to 'yesterday' is no time"):
        _millis("--to", "yesterday")


def test_a_range_that_ends_before_it_begins_is_no_success() -> None:
    result = CliRunner().invoke(app, ["replay", "--from", "2026-01-02", "--to", "2026-01-01T00:00:00Z"])
    assert isinstance(result.exception, CliError)
    assert result.exception.problem == "--from 2026-01-02 is not before --to 2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("account", "says"),
    [
        (Account(), "the log has no events"),
        (Account(begins=0, ends=1500), "from 1970-01-01T00:00:00.000+00:00 to 1970-01-01T00:00:01.500+00:00"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_range_without_slates_is_no_success(
    monkeypatch: pytest.MonkeyPatch, account: Account, says: str, options: list[str]
) -> None:
    monkeypatch.setattr("ops.commands.replay._run", lambda *_: (account, None))
    result = CliRunner().invoke(app, ["replay", *options])
    assert isinstance(result.exception, CliError)
    assert "there is no slate to compute again" in str(result.exception) and says in str(result.exception)


def test_the_account_knows_from_when_to_when_the_log_goes() -> None:
    account = Account()
    for times in ([], [5, 3], [9]):
        account.covers([small.FakeRecord(at, None, None, time) for at, time in enumerate(times)])
    assert (account.begins, account.ends) == (3, 9)


def test_a_policy_file_changes_what_it_names() -> None:
    change = change_of(None, {"policy_slate_size": 7, "policy_beta": 0.0, "policy_filter_seen": False})
    assert (change.policy, change.filter_seen, bool(change)) == ({"k": 7, "beta": 0.0}, False, True)
    assert not change_of(None, {})


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"policy_temprature": 1}, "did you mean policy_temperature"),
        ({"policy_temperature": -1}, "policy_temperature = -1: Input should be greater than 0"),
        ({"engine_max_batch_records": 5}, "engine_max_batch_records is not a setting of the policy"),
    ],
)
def test_a_policy_that_cannot_be_is_named(policy: dict[str, Any], says: str) -> None:
    with pytest.raises(CliError) as caught:
        change_of(None, policy)
    assert says in str(caught.value)


def test_letters_that_other_settings_account_for_are_said_and_no_difference() -> None:
    account = Account(dead_unchecked=[(3, at, "unknown_action", None) for at in range(7)] + [(0, 9, None, None)])
    assert account.same
    assert _letters(account) == [
        "7 × unknown_action in the log, taken by today's settings or contract: stays out of the states: "
        "3-0 3-1 3-2 3-3 3-4 …",
        "1 × neither answered nor a letter any more (deleted): taken to have been dead: 0-9",
    ]
    assert not Account(dead_differences=[(3, 0, "malformed_json", None)]).same


@pytest.mark.parametrize(("name", "content"), [("p.toml", "a = "), ("p.json", "{"), ("q.json", "[1]")])
def test_a_policy_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CliError, match=name):
        read_policy_file(tmp_path / name)
