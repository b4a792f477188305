"""The engine on a model of Kafka, in scenes: what went wrong once, or is told beside the records."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition

from tests.streams.model_disk import Disk
from tests.streams.test_engine_model import EVENTS, EngineOnAModel
from tests.streams.test_engine_model import as_the_model_needs_it as as_the_model_needs_it


@pytest.fixture
def machine() -> EngineOnAModel:
    return EngineOnAModel()


def fail(machine: EngineOnAModel, name: str) -> None:
    machine.go_on(name)
    machine.let_through([gate for gate in machine.waiting() if gate.name == name], "fail")


def test_what_was_on_its_way_before_a_failure_is_not_taken(machine: EngineOnAModel) -> None:
    """A fetch that began before the partition was taken over again would leave a hole where the failed batch was."""
    machine._start(None)
    machine.produce(0, [(b"a", b"x")])
    fail(machine, "commit")
    machine.hold_fetches(12)
    machine.produce(0, [(b"a", b"x")])
    machine.teardown()


def test_a_disk_that_was_away_catches_up(machine: EngineOnAModel) -> None:
    """What others have committed meanwhile is read from where the store was, no later."""
    disk = Disk()
    machine._start(disk)
    machine.produce(0, [(b"a", b"x")])
    machine.go_on("")
    disk.flush()
    machine._kill(machine.workers[0])
    machine._start(None)
    machine.produce(0, [(b"a", b"x")])
    machine.go_on("")
    machine._kill(machine.workers[0])
    machine._start(disk)
    machine.produce(0, [(b"a", b"x")])
    machine.teardown()


def test_what_was_forgotten_while_a_disk_was_away_does_not_come_back(machine: EngineOnAModel) -> None:
    disk = Disk()
    machine._start(disk)
    machine.produce(0, [(b"a", b"x")])
    machine.go_on("")
    disk.flush()
    machine._kill(machine.workers[0])
    machine._start(None)
    machine.produce(0, [(b"a", b"forget")])
    machine.go_on("")
    machine._kill(machine.workers[0])
    machine._start(disk)
    machine.produce(0, [(b"a", b"x")])
    machine.teardown()


def test_a_commit_whose_answer_was_lost_is_not_made_twice(machine: EngineOnAModel) -> None:
    machine._start(None)
    machine.produce(0, [(b"a", b"x"), (b"a", b"x")])
    machine.go_on("commit")
    machine.let_through([gate for gate in machine.waiting() if gate.name == "commit"], "lost")
    machine.teardown()


def test_a_zombie_between_commit_and_answer_writes_nothing_more(machine: EngineOnAModel) -> None:
    machine._start(None)
    machine.produce(0, [(b"a", b"x")])
    machine.go_on("commit")
    machine.freeze(0)
    machine._start(None)
    machine.go_on("")
    machine.produce(0, [(b"a", b"x")])
    machine.wake(10)
    machine.teardown()


def told(machine: EngineOnAModel, name: str) -> list[object]:
    """What the first worker says of its partitions."""
    return [owned[name] for _, owned in sorted(machine.workers[0].engine.status().items())]


def test_a_damaged_batch_costs_other_partitions_nothing(machine: EngineOnAModel) -> None:
    """The client had read the others' records, and moved on, before it came to the batch that it cannot read."""
    machine._start(None)
    machine.go_on("")
    machine.produce(0, [(b"a", b"x")])
    machine.produce(1, [(b"b", b"x")])
    machine.kafka.damaged[TopicPartition(EVENTS, 0)] = 0
    machine.go_on("")
    assert told(machine, "status") == ["unreadable", "running"]
    assert told(machine, "next_offset") == [0, 1]
    assert "Invalid CRC" in machine.workers[0].engine.status()[0]["failure"]
    machine.mend()
    machine.go_on("")
    assert told(machine, "status") == ["running", "running"]
    machine.teardown()


def test_a_worker_that_waits_for_its_share_has_not_joined(machine: EngineOnAModel) -> None:
    """Between giving up and being given it owns nothing, all of which is running."""
    machine._start(None)
    worker = machine.workers[0]
    machine.go_on("")
    assert worker.engine.joined
    machine.loop.run_until_complete(worker.consumer.revoke())
    assert (worker.engine.status(), worker.engine.joined) == ({}, False)
    machine.loop.run_until_complete(worker.consumer.assign_share([0, 1]))
    assert worker.engine.joined
    machine.teardown()


def test_nothing_is_fetched_for_a_partition_that_would_drop_it(machine: EngineOnAModel) -> None:
    machine._start(None)
    machine.go_on("")
    paused = machine.workers[0].consumer.paused
    assert paused() == set()
    machine.produce(0, [(b"a", b"x")])
    fail(machine, "commit")
    machine.go_on("init producer")
    machine.let_through([gate for gate in machine.waiting() if gate.name == "fetch"])
    assert paused() == {TopicPartition(EVENTS, 0)}
    machine.go_on("")
    assert paused() == set()
    machine.teardown()
