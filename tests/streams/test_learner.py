"""The learner on a real broker: nothing forgotten, nothing learned twice, one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from streams.cluster import Cluster
from streams.contracts import EstimatorSnapshot, Outcome, encode
from streams.estimators import Estimators
from streams.learner import Learner, LearnerConfig
from streams.releases import ESTIMATOR_KEY, Published, SnapshotWriter, read_models
from streams.topics import Topics
from streams.transactions import Fenced
from tests.conftest import Wire
from tests.streams.outcomes import outcomes

pytestmark = pytest.mark.broker

SESSION_MS = 6_000  # the least that the broker allows


@pytest.fixture
def config(cluster: Cluster, topics: Topics) -> LearnerConfig:
    return LearnerConfig(
        cluster,
        f"{topics.prefix}app",
        topics.outcomes,
        topics.models,
        publish_every_s=0.2,
        session_timeout_ms=SESSION_MS,
    )


@contextlib.asynccontextmanager
async def learning(config: LearnerConfig) -> AsyncIterator[Learner]:
    """Run a learner for the time of the block; raises what it raised."""
    learner = Learner(config)
    task = asyncio.create_task(learner.run())
    try:
        yield learner
    finally:
        learner.stop()
        await asyncio.wait_for(task, 30)


def records(given: Iterable[Outcome]) -> list[tuple[bytes, bytes]]:
    return [(outcome.user.encode(), encode(outcome)) for outcome in given]


async def until_learned(config: LearnerConfig, count: int) -> Published:
    """Return what `models` says when at least `count` outcomes are in the snapshot."""
    async with asyncio.timeout(60):
        while True:
            published = await read_models(config.cluster, config.models)
            if published.estimator is not None and published.estimator.outcomes >= count:
                return published
            await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool], seconds: float = 40) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


def state_of(learner: Learner) -> str:
    return str(learner.status()["state"])


async def expected(wire: Wire, topic: str) -> tuple[EstimatorSnapshot, bytes]:
    """What an uninterrupted learner would have, from the log itself, one partition after the other."""
    estimators, offsets = Estimators(), {}
    for record in await wire.read(topic):
        estimators.learn(msgspec.json.decode(record.value, type=Outcome))
        offsets[record.partition] = record.offset + 1
    return estimators.snapshot(offsets, 0), estimators.audit.pack()


async def snapshots(wire: Wire, topic: str) -> list[EstimatorSnapshot]:
    found = [record.value for record in await wire.read(topic) if record.key == ESTIMATOR_KEY]
    return [msgspec.json.decode(value, type=EstimatorSnapshot) for value in found]


# --- learning ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partitions", [1])
async def test_learns_what_there_is_and_what_comes(config, topics, wire):
    given = records(outcomes(300))
    await wire.produce(topics.outcomes, given[:200])
    async with learning(config) as learner:
        await until_learned(config, 200)
        await wire.produce(topics.outcomes, given[200:])
        published = await until_learned(config, 300)
        status = learner.status()
    snapshot, audit = await expected(wire, topics.outcomes)
    assert msgspec.structs.replace(published.estimator, created=0) == snapshot
    assert published.audit == audit
    assert status == {
        "state": "learning",
        "ready": True,
        "estimator": snapshot.estimator,
        "outcomes": 300,
        "calibration_error": snapshot.calibration_error,
        "drift_alarms": 0,
        "examination_contradicted_at": [],
        "bad_records": 0,
        "lag": 0,
    }


@pytest.mark.parametrize("partitions", [1])
async def test_publishes_only_when_something_was_learned(config, topics, wire):
    await wire.produce(topics.outcomes, records(outcomes(20)))
    async with learning(config):
        await until_learned(config, 20)
        await asyncio.sleep(1)
    assert len(await snapshots(wire, topics.models)) == 1


@pytest.mark.parametrize("partitions", [1])
async def test_a_learner_that_stops_publishes_what_it_has_learned(cluster, config, topics, wire):
    rare = replace(config, publish_every_s=3600.0)
    await wire.produce(topics.outcomes, records(outcomes(20)))
    async with learning(rare) as learner:
        await until(lambda: learner.status().get("outcomes") == 20)
        assert await snapshots(wire, topics.models) == []
    assert [snapshot.outcomes for snapshot in await snapshots(wire, topics.models)] == [20]


@pytest.mark.parametrize("partitions", [1])
async def test_records_that_are_no_outcomes_are_skipped_and_counted(config, topics, wire):
    good = records(outcomes(10))
    lying = msgspec.structs.replace(outcomes(1)[0], candidates=3)
    bad = [(b"x", b"{"), (b"x", None), (b"x", b'{"user": "u"}'), *records([lying])]
    await wire.produce(topics.outcomes, good[:5] + bad + good[5:])
    async with learning(config) as learner:
        published = await until_learned(config, 10)
        assert learner.status()["bad_records"] == 4
    assert published.estimator.offsets == {"0": 14}
    estimators = Estimators()
    for outcome in outcomes(10):
        estimators.learn(outcome)
    assert published.estimator.estimator == estimators.snapshot({0: 14}, 0).estimator


# --- kill and restart -------------------------------------------------------------------------------------

SLOW_LEARNER = """
import asyncio, sys, time
from streams.cluster import Cluster
from streams.estimators import Estimators
from streams.learner import Learner, LearnerConfig

learn = Estimators.learn

def slowly(self, outcome):
    time.sleep(0.0005)
    return learn(self, outcome)

Estimators.learn = slowly
bootstrap, app, outcomes, models, session = sys.argv[1:]

async def main():
    await Learner(LearnerConfig(Cluster(bootstrap), app, outcomes, models, 0.05, int(session))).run()

asyncio.run(main())
"""


def process(config: LearnerConfig, says: Path) -> subprocess.Popen[bytes]:
    """A learner in a process of its own, which writes its log to `says`."""
    place = (str(config.cluster), config.app_id, config.outcomes, config.models, str(config.session_timeout_ms))
    with says.open("ab") as log:
        return subprocess.Popen([sys.executable, "-c", SLOW_LEARNER, *place], stdout=log, stderr=log)


@pytest.mark.parametrize("partitions", [1, 4])
async def test_kills_neither_lose_nor_repeat_an_outcome(config, topics, wire, partitions, tmp_path):
    total, dice = 3000, random.Random(partitions)
    await wire.produce(topics.outcomes, records(outcomes(total)))
    for target in (300, 1300):
        running = process(config, tmp_path / "log")
        try:
            await until_learned(config, target)
            await asyncio.sleep(dice.random() / 5)
        finally:
            running.kill()
            running.wait()
    killed = await until_learned(config, 0)
    assert killed.estimator.outcomes < total
    async with learning(config):
        published = await until_learned(config, total)
    snapshot, audit = await expected(wire, topics.outcomes)
    found = published.estimator
    assert (found.outcomes, found.offsets) == (total, snapshot.offsets)
    assert (found.frequency.step, found.frequency.hits_i64) == (total, snapshot.frequency.hits_i64)
    assert (found.exposure.iterations, found.exposure.bucket_i32) == (
        snapshot.exposure.iterations,
        snapshot.exposure.bucket_i32,
    )
    if partitions == 1:  # with several, what depends on their interleaving is only close
        assert msgspec.structs.replace(found, created=0) == snapshot
        assert published.audit == audit
    else:
        gaps = [np.frombuffer(state.frequency.gap_f64, "<f8") for state in (found, snapshot)]
        np.testing.assert_allclose(gaps[0].mean(), gaps[1].mean(), rtol=0.1)
        assert found.calibration_error == pytest.approx(snapshot.calibration_error, abs=0.01)


# --- one at a time ----------------------------------------------------------------------------------------


async def test_a_stand_by_takes_over(config, topics, wire):
    given = records(outcomes(200))
    await wire.produce(topics.outcomes, given[:100])
    first, second = Learner(config), Learner(config)
    tasks = [asyncio.create_task(learner.run()) for learner in (first, second)]
    await until(lambda: sorted(map(state_of, (first, second))) == ["learning", "standing by"])
    active, other = (first, second) if state_of(first) == "learning" else (second, first)
    await until_learned(config, 100)
    assert state_of(other) == "standing by"
    assert other.status()["ready"]
    active.stop()
    await until(lambda: state_of(other) == "learning")
    await wire.produce(topics.outcomes, given[100:])
    published = await until_learned(config, 200)
    other.stop()
    await asyncio.gather(*tasks)
    snapshot, _ = await expected(wire, topics.outcomes)
    assert published.estimator.outcomes == 200
    assert published.estimator.offsets == snapshot.offsets
    assert published.estimator.frequency.hits_i64 == snapshot.frequency.hits_i64


@pytest.mark.parametrize("partitions", [1])
async def test_a_learner_that_was_asleep_publishes_nothing_any_more(config, topics, wire, tmp_path):
    """Stopped past its session, it wakes up in the belief that it is the active one."""
    given = records(outcomes(3500))
    await wire.produce(topics.outcomes, given[:3000])
    asleep = process(config, tmp_path / "log")
    try:
        await until_learned(config, 200)
        asleep.send_signal(signal.SIGSTOP)
        async with learning(config) as learner:
            await until(lambda: state_of(learner) == "learning")
            await until_learned(config, 3000)
            asleep.send_signal(signal.SIGCONT)
            await wire.produce(topics.outcomes, given[3000:])
            await until_learned(config, 3500)
            await until(lambda: "another learner is active now" in (tmp_path / "log").read_text())
    finally:
        asleep.kill()
        asleep.wait()
    counts = [snapshot.outcomes for snapshot in await snapshots(wire, topics.models)]
    assert counts == sorted(set(counts))
    published = await read_models(config.cluster, config.models)
    assert msgspec.structs.replace(published.estimator, created=0) == (await expected(wire, topics.outcomes))[0]


async def test_a_fenced_writer_publishes_nothing(cluster, config, topics, wire):
    first, second = (SnapshotWriter(cluster, config.app_id, topics.models) for _ in range(2))
    one, two, three = (Estimators().snapshot({0: number}, 0) for number in (1, 2, 3))
    await first.open()
    await first.publish(one, b"{}")
    await second.open()
    with pytest.raises(Fenced):
        await first.publish(two, b"{}")
    await second.publish(three, b"{}")
    await first.close()
    await second.close()
    assert await snapshots(wire, topics.models) == [one, three]


# --- what it finds when it begins -------------------------------------------------------------------------


@pytest.mark.parametrize("partitions", [1])
async def test_a_snapshot_that_cannot_be_read_stops_it(config, topics, wire):
    await wire.produce(topics.models, [(ESTIMATOR_KEY, b'{"kind": "estimator"}')])
    with pytest.raises(ValueError, match="offset 0, key b'estimator' cannot be read"):
        await asyncio.wait_for(Learner(config).run(), 30)
    await wire.produce(topics.models, [(ESTIMATOR_KEY, None)])
    await wire.produce(topics.outcomes, records(outcomes(5)))
    async with learning(config):
        await until_learned(config, 5)


@pytest.mark.parametrize("partitions", [2])
async def test_a_partition_of_which_the_snapshot_knows_nothing_is_learned_from_its_start(cluster, config, topics, wire):
    given = records(outcomes(60))
    await wire.produce(topics.outcomes, given[:20], partition=0)
    async with learning(config):
        published = await until_learned(config, 20)
    assert published.estimator.offsets == {"0": 20}
    await wire.produce(topics.outcomes, given[20:], partition=1)
    async with learning(config):
        published = await until_learned(config, 60)
    assert published.estimator.offsets == {"0": 20, "1": 40}


@pytest.mark.parametrize("partitions", [1])
async def test_offsets_that_the_log_no_longer_has_mean_from_its_start(cluster, config, topics, wire):
    writer = SnapshotWriter(cluster, config.app_id, topics.models)
    await writer.open()
    await writer.publish(Estimators().snapshot({0: 1_000}, 0), Estimators().audit.pack())
    await writer.close()
    await wire.produce(topics.outcomes, records(outcomes(5)))
    with capture_logs() as said:
        async with learning(config):
            published = await until_learned(config, 5)
    assert published.estimator.offsets == {"0": 5}
    (warning,) = [entry for entry in said if entry["log_level"] == "warning"]
    assert warning == {
        "event": "outcomes are missing from the log",
        "log_level": "warning",
        "stored": 1000,
        "found": "0 to 5",
        "partition": 0,
    }
