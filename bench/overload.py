"""Overloading one worker: what it can sustain, then twice that, then nothing until it has caught up.

Measures; prints nothing. README.md beside this file says what is measured and how. Every run ends with the audit.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import numpy as np
import psutil
from msgspec import Struct

from bench.contest import Course, fed, worker
from bench.load import Load, Place
from bench.watch import Watch, cpu_of
from ops.audit import Account, audit
from ops.demo.children import Child
from ops.demo.tasks import beside
from streams.names import Topics

OVERLOAD = 2.0
"""Times what the worker drained at, offered for `seconds`."""

_AT_MOST_S = 1800  # for any one step, on whatever machine


class Sample(Struct, frozen=True):
    """How it stood `at` some second after the overload began; counts are those since the worker's start.

    `lag`: events handed to the producer and not answered yet. `cpu_s`: of the worker's process. `latency_p50_ms`: of
    the events answered since the sample before; None: there were none.
    """

    at: float
    offered: int
    answered: int
    slates: int
    transactions: int
    lag: int
    rss_mb: float
    cpu_s: float
    latency_p50_ms: float | None


class Pace(Struct, frozen=True):
    """How fast it went for some time, and at what price."""

    events_per_s: float
    events_per_transaction: float
    slates_per_event: float
    cpu_us_per_event: float


class Flow(Struct, frozen=True):
    """What became of one worker.

    Attributes:
        batch: most events of one transaction.
        drain: while it drained a backlog and nobody sent anything: what it can sustain.
        offered: events a second that were to be offered; what was handed over is in the samples.
        overload: meanwhile. `catching_up`: after it, until all was answered, `catch_up_s` later.
        rss_mb, lag: the largest; `rss_mb_before`: after the drain.
        latency_p50_ms: of the last events answered under overload.
        lost: events without an answer; `repeated`: with more than one, or of no event. By the audit.
    """

    batch: int
    drain: Pace
    offered: float
    overload: Pace
    catching_up: Pace
    catch_up_s: float
    rss_mb_before: float
    rss_mb: float
    lag: int
    latency_p50_ms: float
    lost: int
    repeated: int
    samples: list[Sample]


@dataclass(frozen=True)
class Marks:
    """How far it had come at some moment (time.monotonic). `cpu`: seconds of the worker's process."""

    events: int
    slates: int
    transactions: int
    seconds: float
    cpu: float

    @classmethod
    async def of(cls, watch: Watch) -> Marks:
        return cls(watch.events, watch.slates, await watch.transactions_read(), time.monotonic(), watch.cpu()[0])

    def since(self, before: Marks) -> Pace:
        """What came between."""
        events = max(1, self.events - before.events)
        return Pace(
            events_per_s=events / (self.seconds - before.seconds),
            events_per_transaction=events / max(1, self.transactions - before.transactions),
            slates_per_event=(self.slates - before.slates) / events,
            cpu_us_per_event=1e6 * (self.cpu - before.cpu) / events,
        )


class Sampler:
    """Looks once a second."""

    def __init__(self, watch: Watch, load: Load, process: psutil.Process) -> None:
        self._watch, self._load, self._process = watch, load, process
        self.sent: dict[Place, float] = {}
        self._looks: list[tuple[Marks, int, float]] = []

    async def run(self) -> None:
        """Sample until cancelled."""
        started = time.monotonic()
        for second in range(10**9):
            await asyncio.sleep(started + second - time.monotonic())
            await self.look()

    async def look(self) -> None:
        """Take one sample now."""
        self._looks.append((await Marks.of(self._watch), self._load.count, self._process.memory_info().rss / 1e6))

    def samples(self) -> list[Sample]:
        """One for each look."""
        answers = np.array([self._watch.answered[place] for place in self.sent])
        latency = answers - np.array(list(self.sent.values()))
        first, before, made = self._looks[0][0].seconds, 0.0, []
        for now, offered, rss in self._looks:
            these = latency[(answers > before) & (answers <= now.seconds)]
            made.append(
                Sample(
                    at=now.seconds - first,
                    offered=offered,
                    answered=now.events,
                    slates=now.slates,
                    transactions=now.transactions,
                    lag=offered - now.events,
                    rss_mb=rss,
                    cpu_s=now.cpu,
                    latency_p50_ms=float(np.median(these)) * 1000 if len(these) else None,
                )
            )
            before = now.seconds
        return made


async def flow(course: Course, batch: int) -> Flow:
    """Overload one worker whose transactions take at most `batch` events.

    Raises ChildDied when it ends, TimeoutError when it does not answer.
    """
    topics = Topics(f"flow-{batch}.")
    contender = worker(course, f"worker-{batch}", topics, DRIFTLINE_ENGINE_MAX_BATCH_RECORDS=str(batch))
    measured = await fed(course, contender, lambda load, child, marks: _measured(course, topics, load, child, marks))
    account, _ = await audit(course.cluster, topics, f"{topics.prefix}app", 0)
    return _figures(batch, *measured, account)


Measured = tuple[tuple[Marks, Marks, float], tuple[Marks, Marks, Marks], float, Sampler]


async def _measured(course: Course, topics: Topics, load: Load, child: Child, marks: tuple[int, int]) -> Measured:
    process = psutil.Process(child.process.pid)
    cpu = cpu_of(child.process.pid, course.broker_pid)
    async with Watch(course.cluster, topics.recommendations, course.partitions, cpu) as watch:
        await watch.reach(marks[0], _AT_MOST_S)
        begun = await Marks.of(watch)
        await watch.reach(marks[1], _AT_MOST_S)
        drained = await Marks.of(watch)
        before = process.memory_info().rss / 1e6
        rate = OVERLOAD * drained.since(begun).events_per_s
        sampler = Sampler(watch, load, process)

        async def overload() -> tuple[Marks, Marks, Marks]:
            first = await Marks.of(watch)
            sampler.sent = await load.in_bursts(rate, course.seconds)
            last = await Marks.of(watch)
            await watch.reach(load.count, _AT_MOST_S)
            return first, last, await Marks.of(watch)

        overloaded = await beside(overload(), sampler.run())
        await sampler.look()
    return (begun, drained, before), overloaded, rate, sampler


def _figures(
    batch: int,
    drain: tuple[Marks, Marks, float],
    overload: tuple[Marks, Marks, Marks],
    rate: float,
    sampler: Sampler,
    account: Account,
) -> Flow:
    begun, drained, rss = drain
    first, last, caught_up = overload
    samples = sampler.samples()
    under = [sample for sample in samples if sample.at <= last.seconds - first.seconds + 1]
    latencies = [sample.latency_p50_ms for sample in under if sample.latency_p50_ms is not None]
    return Flow(
        batch=batch,
        drain=drained.since(begun),
        offered=rate,
        overload=last.since(first),
        catching_up=caught_up.since(last),
        catch_up_s=caught_up.seconds - last.seconds,
        rss_mb_before=rss,
        rss_mb=max(sample.rss_mb for sample in samples),
        lag=max(sample.lag for sample in samples),
        latency_p50_ms=latencies[-1] if latencies else 0.0,
        lost=len(account.lost) + account.unanswered,
        repeated=len(account.duplicates) + len(account.foreign),
        samples=samples,
    )
