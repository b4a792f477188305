"""The engine on a model of Kafka, where hypothesis chooses what happens next and where workers die.

No broker, no time: each step lets one waiting request through, or loses it, or loses its answer; kills a worker
between any two requests; freezes one until the group has expelled it; writes transaction markers late. Whatever
the order, what readers of committed records see must be what one uninterrupted worker would have written.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import pytest
import structlog
from aiokafka import TopicPartition
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.engine import Engine
from streams.engine_config import EngineConfig
from streams.job import DeadLetter, Effects, Record
from tests.streams.model_disk import Disk
from tests.streams.model_kafka import Entry, Gate, ModelCluster, ModelKafka, Outcome

PARTITIONS = 2
KEYS = (b"a", b"b", b"c")
EVENTS, STATE, OUT, DEAD = "events", "state", "out", "dead"


EVENT = st.tuples(st.sampled_from(KEYS), st.sampled_from([b"x", b"x", b"x", b"x", b"bad", b"poison", b"forget"]))


class Counting:
    """Counts records per key; `bad` ones are refused, `poison` ones it fails on, after `forget` it begins anew."""

    def assigned(self, partition: int, states: Mapping[bytes, bytes]) -> None: ...

    def revoked(self, partition: int) -> None: ...

    def apply(self, partition: int, records: Sequence[Record], states: Mapping[bytes, bytes]) -> Effects:
        effects = Effects(outputs={OUT: []})
        for record in records:
            if record.value == b"poison":
                raise ZeroDivisionError("poison")
            if record.value == b"bad":
                effects.dead.append(DeadLetter(record, "bad", "it is bad"))
                continue
            key = record.key or b""
            before = effects.states[key] if key in effects.states else states.get(key)
            count = 0 if record.value == b"forget" else int(before or 0) + 1
            effects.states[key] = b"%d" % count if count else None
            effects.outputs[OUT].append((key, b"%d@%d" % (count, record.offset), ()))
        return effects


class Inline(Executor):
    """Computes at once: the order of things is the test's alone to choose."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **named))
        except BaseException as error:
            future.set_exception(error)
        return future


class Worker:
    """One engine, its connection and its task. A frozen one makes no step until it is woken."""

    def __init__(self, kafka: ModelKafka, name: str, disk: Disk | None) -> None:
        self.name = name
        self.disk = disk
        self.cluster = ModelCluster(kafka, name)
        config = EngineConfig(
            self.cluster,  # type: ignore[arg-type]
            "app",
            EVENTS,
            STATE,
            DEAD,
            max_batch_records=4,
            session_timeout_ms=0,
            retry_seconds=(0,),
            park_seconds=0,
            poison_limit=10_000,
        )
        self.engine = Engine(config, Counting(), disk, compute=Inline())
        self.consumer = self.engine._consumer
        self.task = asyncio.get_running_loop().create_task(self.engine.run())
        self.frozen = False


class EngineOnAModel(RuleBasedStateMachine):
    """The machine. Its steps are synchronous: each runs the event loop until nothing moves any more."""

    def __init__(self) -> None:
        super().__init__()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: None)
        self.kafka = ModelKafka(PARTITIONS)
        self.workers: list[Worker] = []
        self.left: list[Disk] = []
        self.started = 0

    # -- making things happen

    def do(self, action: Callable[[], Any] | None = None) -> None:
        async def run() -> None:
            if action is not None:
                action()
            for _ in range(3):
                await self._settle()
                await self.kafka.group.finish()
            await self._settle()

        self.loop.run_until_complete(run())

    async def _settle(self) -> None:
        """Let every task go as far as it can without another gate being opened."""
        quiet = 0
        while quiet < 5:
            await asyncio.sleep(0)
            quiet = 0 if self.loop._ready else quiet + 1  # type: ignore[attr-defined]

    def let_through(self, gates: Sequence[Gate], outcome: Outcome = "ok") -> None:
        def open_them() -> None:
            for gate in gates:
                if not gate.opened.done():
                    gate.opened.set_result(outcome)

        self.do(open_them)

    def waiting(self) -> list[Gate]:
        """The requests of workers that run."""
        frozen = {worker.name for worker in self.workers if worker.frozen or worker.cluster.dead}
        return [gate for gate in self.kafka.gates if gate.worker not in frozen]

    # -- rules

    @initialize(disks=st.lists(st.booleans(), min_size=1, max_size=2))
    def begin(self, disks: list[bool]) -> None:
        for on_disk in disks:
            self._start(Disk() if on_disk else None)

    @rule(partition=st.integers(0, PARTITIONS - 1), events=st.lists(EVENT, min_size=1, max_size=6))
    def produce(self, partition: int, events: list[tuple[bytes, bytes]]) -> None:
        for key, value in events:
            self.kafka.append(TopicPartition(EVENTS, partition), key, value, None)

    @precondition(lambda self: len(self.workers) < 3)
    @rule(disk=st.sampled_from(["none", "new", "left"]))
    def start(self, disk: str) -> None:
        """A worker joins: with states in memory, on an empty disk, or on one that a killed worker has left."""
        if disk == "left" and self.left:
            self._start(self.left.pop())
        else:
            self._start(None if disk == "none" else Disk())

    def _start(self, disk: Disk | None) -> None:
        self.started += 1
        self.do(lambda: self.workers.append(Worker(self.kafka, f"w{self.started}", disk)))

    @precondition(lambda self: self.waiting())
    @rule(which=st.integers(0, 99), outcome=st.sampled_from(["ok", "fail", "lost"]), fetch=st.booleans())
    def step(self, which: int, outcome: Outcome, fetch: bool) -> None:
        """One request gets through, or does not, or only its answer does not; fetches are always there."""
        gates = [gate for gate in self.waiting() if fetch or gate.name != "fetch"] or self.waiting()
        self.let_through([gates[which % len(gates)]], outcome)

    @precondition(lambda self: self.waiting())
    @rule(until=st.sampled_from(["produce", "offsets", "commit", "committed", "end_offsets", "init producer", ""]))
    def go_on(self, until: str) -> None:
        """All is well until a worker is about to make a certain kind of request, or nothing happens any more."""
        for _ in range(25):
            gates = self.waiting()
            if not gates or any(gate.name == until for gate in gates):
                return
            self.let_through(gates)

    @precondition(lambda self: self.waiting())
    @rule(rounds=st.integers(1, 12))
    def hold_fetches(self, rounds: int) -> None:
        """Everything gets through but what is being fetched, which is on its way all the while."""
        for _ in range(rounds):
            self.let_through([gate for gate in self.waiting() if gate.name != "fetch"])

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 2), again=st.booleans(), flushed=st.booleans())
    def kill(self, which: int, again: bool, flushed: bool) -> None:
        """SIGKILL: no more requests, nothing is tidied up; the group notices. `again`: it is restarted on its disk."""
        worker = self.workers[which % len(self.workers)]
        if flushed and worker.disk is not None:
            worker.disk.flush()
        self._kill(worker)
        if again:
            self._start(worker.disk)
        elif worker.disk is not None:
            self.left.append(worker.disk)

    def _kill(self, worker: Worker) -> None:
        worker.cluster.dead = True
        if worker.disk is not None:
            worker.disk.crash()
        self.workers.remove(worker)
        for gate in [gate for gate in self.kafka.gates if gate.worker == worker.name]:
            self.kafka.gates.remove(gate)
        self.do(lambda: self.kafka.group.expel(worker.consumer))

    @precondition(lambda self: not all(worker.frozen for worker in self.workers))
    @rule(which=st.integers(0, 2))
    def freeze(self, which: int) -> None:
        """SIGSTOP for longer than the session: the others take its partitions over, and it does not know."""
        running = [worker for worker in self.workers if not worker.frozen]
        worker = running[which % len(running)]
        worker.frozen = True
        self.do(lambda: self.kafka.group.expel(worker.consumer))

    @precondition(lambda self: [worker for worker in self.workers if worker.frozen])
    @rule(count=st.integers(0, 10))
    def wake(self, count: int) -> None:
        """SIGCONT: a zombie goes on where it was, until it hears that it was expelled."""
        worker = next(worker for worker in self.workers if worker.frozen)
        worker.frozen = False
        for _ in range(count):
            gates = [gate for gate in self.kafka.gates if gate.worker == worker.name]
            if not gates:
                break
            self.let_through(gates)
        self.do(lambda: self.kafka.group.join(worker.consumer))

    @rule(turn=st.integers(0, 1), partition=st.integers(0, PARTITIONS - 1))
    def write_markers(self, turn: int, partition: int) -> None:
        self.kafka.write_markers(f"app-{EVENTS}-{partition}-{turn}")

    @rule(turn=st.integers(0, 1), partition=st.integers(0, PARTITIONS - 1))
    def time_out(self, turn: int, partition: int) -> None:
        self.kafka.time_out(f"app-{EVENTS}-{partition}-{turn}")

    @precondition(lambda self: any(self.kafka.logs.get(TopicPartition(EVENTS, n)) for n in range(PARTITIONS)))
    @rule(which=st.integers(0, 99))
    def damage(self, which: int) -> None:
        """A batch turns bad on the broker's disk: whoever reads it gets an error, and so does who reads beyond it."""
        entries = [(n, e.offset) for n in range(PARTITIONS) for e in self.kafka.log(TopicPartition(EVENTS, n))[-3:]]
        number, offset = entries[which % len(entries)]
        self.kafka.damaged[TopicPartition(EVENTS, number)] = offset

    @precondition(lambda self: self.kafka.damaged)
    @rule()
    def mend(self) -> None:
        self.kafka.damaged.clear()

    @precondition(lambda self: any(worker.disk for worker in self.workers))
    @rule()
    def flush(self) -> None:
        """The disks now have what was taken up to here."""
        for worker in self.workers:
            if worker.disk is not None:
                worker.disk.flush()

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def compact(self, partition: int) -> None:
        self.kafka.compact(TopicPartition(STATE, partition))

    # -- what must hold

    @invariant()
    def readers_see_what_one_worker_would_have_written(self) -> None:
        for number in range(PARTITIONS):
            outputs, dead, states = expected(self.kafka.log(TopicPartition(EVENTS, number)))
            seen = [entry.value for entry in self.kafka.visible(TopicPartition(OUT, number))]
            assert seen == outputs[: len(seen)]
            letters = [_source_offset(entry) for entry in self.kafka.visible(TopicPartition(DEAD, number))]
            assert letters == dead[: len(letters)]
            for key in KEYS:
                was = iter(states.get(key, []))
                for entry in self.kafka.visible(TopicPartition(STATE, number)):
                    assert entry.key != key or entry.value in was  # in this order, and no more often

    def teardown(self) -> None:
        """Heal everything: then every event is answered, once, and no state differs."""
        try:
            self._heal()
            for number in range(PARTITIONS):
                outputs, dead, states = expected(self.kafka.log(TopicPartition(EVENTS, number)))
                assert [entry.value for entry in self.kafka.visible(TopicPartition(OUT, number))] == outputs
                letters = [_source_offset(entry) for entry in self.kafka.visible(TopicPartition(DEAD, number))]
                assert letters == dead
                last = {e.key: e.value for e in self.kafka.visible(TopicPartition(STATE, number))}
                assert last == {key: was[-1] for key, was in states.items()}
        finally:
            self._end()

    def _heal(self) -> None:
        self.kafka.damaged.clear()
        for worker in [worker for worker in self.workers if worker.frozen]:
            self._kill(worker)
        if not self.workers:
            self._start(None)
        for _ in range(3000):
            for number in range(PARTITIONS):
                for turn in (0, 1):
                    self.write_markers(turn, number)
            if all(self._answered(number) for number in range(PARTITIONS)):
                return
            gates = self.waiting()
            self.let_through(gates)
        raise AssertionError(f"no end: {[worker.engine.status() for worker in self.workers]}")

    def _answered(self, number: int) -> bool:
        source = TopicPartition(EVENTS, number)
        return self.kafka.group_offsets.get(source, (0, 0))[0] == len(self.kafka.log(source))

    def _end(self) -> None:
        """Let no task be left: the requests of the dead end at once, and so do the tasks that tidy up after them."""

        async def cancel() -> None:
            while tasks := asyncio.all_tasks() - {asyncio.current_task()}:  # type: ignore[arg-type]
                for task in tasks:
                    task.cancel()
                await self._settle()

        for worker in self.workers:
            worker.cluster.dead = True
        self.loop.run_until_complete(cancel())
        self.loop.close()
        structlog.reset_defaults()


def expected(events: list[Entry]) -> tuple[list[bytes], list[int], dict[bytes, list[bytes | None]]]:
    """Outputs, offsets of dead letters, and the states each key goes through, of one worker that nothing happens to."""
    counts: Counter[bytes] = Counter()
    outputs, dead, states = [], [], defaultdict[bytes, list[bytes | None]](list)
    for event in events:
        if event.value in (b"bad", b"poison"):
            dead.append(event.offset)
            continue
        key = event.key or b""
        counts[key] = 0 if event.value == b"forget" else counts[key] + 1
        states[key].append(b"%d" % counts[key] if counts[key] else None)
        outputs.append(b"%d@%d" % (counts[key], event.offset))
    return outputs, dead, states


def _source_offset(letter: Entry) -> int:
    return int(dict(letter.headers)["driftline-source-offset"])


@pytest.fixture(autouse=True)
def as_the_model_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of poison is no reason to stop, and no thread's time decides what comes first."""

    async def at_once(function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    monkeypatch.setattr("streams.partition._UNPROVED_POISON_LIMIT", 10_000)
    monkeypatch.setattr(asyncio, "to_thread", at_once)


TestEngineOnAModel = EngineOnAModel.TestCase
TestEngineOnAModel.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
