"""One contender's run: a backlog to drain, then events at a fixed rate. What is measured, and when the clock runs.

Each contender is a process of its own, on topics of its own. The clock starts when every user's first event is
answered: by then everything is started, compiled and cached, and users' attention caches are built.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any, TypeVar

from msgspec import Struct

from bench.job import Plan, Written
from bench.load import Load
from bench.synthetic import Synthetic
from bench.watch import Lap, Watch, cpu_of, latencies_ms
from models.release import Release
from ops.demo.children import Child, Children
from ops.demo.tasks import beside
from ops.errors import CliError
from streams.cluster import Cluster
from streams.names import Topics
from streams.restore import read_to_end
from streams.topics import create

Result = TypeVar("Result")
Measure = Callable[[Load, Child, tuple[int, int]], Coroutine[Any, Any, Result]]
"""Given what feeds a contender, its process, and how many events there are: to warm up, and with the backlog."""

RATE = 0.3  # of its capacity: a moderate load


class Figures(Struct, frozen=True):
    """What was measured of a contender; None: it has no such thing."""

    events_per_s: float
    slates_per_event: float
    events_per_transaction: float | None
    bytes_per_event: float
    cpu_us_per_event: float
    broker_cpu_us_per_event: float
    latency_at_events_per_s: float
    latency_p50_ms: float
    latency_p99_ms: float


@dataclass(frozen=True)
class Course:
    """What is the same for every contender: `events` to drain, then `seconds` of events at a rate; logs in `folder`."""

    cluster: Cluster
    broker_pid: int
    folder: Path
    synthetic: Synthetic
    release: Release
    events: int
    users: int
    seconds: float
    partitions: int = 4


@dataclass(frozen=True)
class Contender:
    """A process to start: `python -m module arguments`.

    `world`: it needs items, a release and states. `faster`: how many times larger its backlog is, so that draining it
    takes long enough to be timed.
    """

    name: str
    topics: Topics
    module: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    world: bool = False
    faster: int = 1
    transactions: bool = True


def worker(course: Course, name: str, topics: Topics, **settings: str) -> Contender:
    """driftline's worker as it is deployed, with further settings."""
    environment = {
        "DRIFTLINE_BOOTSTRAP_SERVERS": course.cluster.bootstrap_servers,
        "DRIFTLINE_DATA_DIR": str(course.folder),
        "DRIFTLINE_TOPIC_PREFIX": topics.prefix,
        "DRIFTLINE_APP_ID": f"{topics.prefix}app",
        "DRIFTLINE_PARTITIONS": str(course.partitions),
    }
    return Contender(name, topics, "ops.cli", ("worker",), environment | settings, world=True)


async def fed(course: Course, contender: Contender, measure: Measure[Result]) -> Result:
    """Start a contender on a backlog and measure it; raises ChildDied when its process ends."""
    await create(course.cluster, contender.topics, course.partitions)
    children = Children(course.folder, contender.environment)
    async with Load(course.cluster, contender.topics, course.synthetic, course.users, course.partitions) as load:
        if contender.world:
            await load.world(course.release)
        warm = await load.everybody()
        total = warm + await load.backlog(course.events * contender.faster)
        child = children.start(contender.name.replace(" ", "-"), contender.module, *contender.arguments)
        try:
            return await beside(measure(load, child, (warm, total)), children.watch())
        finally:
            children.stop()


async def contest(course: Course, contender: Contender, rate: float | None = None) -> tuple[Figures, Plan]:
    """Run a contender; returns its figures, and what it wrote.

    `rate`: events per second of the latency phase; None: RATE of what it drained at. Raises ChildDied when its process
    ends, TimeoutError when it does not answer.
    """
    return await fed(course, contender, lambda load, child, marks: _timed(course, contender, load, child, marks, rate))


async def _timed(
    course: Course, contender: Contender, load: Load, child: Child, marks: tuple[int, int], rate: float | None
) -> tuple[Figures, Plan]:
    cpu = cpu_of(child.process.pid, course.broker_pid)
    async with Watch(course.cluster, contender.topics.recommendations, course.partitions, cpu) as watch:
        first = await watch.reach(marks[0])
        last = await watch.reach(marks[1])
        per_transaction = last.events / await watch.transactions() if contender.transactions else None
        plan = await _written(course.cluster, contender.topics, *load.written(0))
        # On a busy machine one look can see both marks.
        drained = (last.events - first.events) / max(last.seconds - first.seconds, 1e-3)
        rate = rate or RATE * drained
        sent = await load.steadily(rate, course.seconds)
        await watch.reach(marks[1] + len(sent))
        cuts = quantiles(latencies_ms(sent, watch.answered), n=100)
    return _figures(first, last, per_transaction, plan, rate, cuts), plan


def _figures(
    first: Lap, last: Lap, per_transaction: float | None, plan: Plan, rate: float, cuts: list[float]
) -> Figures:
    events = last.events - first.events
    if not events:
        raise CliError("the backlog was answered before it could be timed", "Give more --events.")
    return Figures(
        events_per_s=events / (last.seconds - first.seconds),
        slates_per_event=(last.slates - first.slates) / events,
        events_per_transaction=per_transaction,
        bytes_per_event=plan.bytes_per_event,
        cpu_us_per_event=1e6 * (last.contender_cpu - first.contender_cpu) / events,
        broker_cpu_us_per_event=1e6 * (last.broker_cpu - first.broker_cpu) / events,
        latency_at_events_per_s=rate,
        latency_p50_ms=cuts[49],
        latency_p99_ms=cuts[98],
    )


async def _written(cluster: Cluster, topics: Topics, events: int, past: int) -> Plan:
    """Records per event and their mean size, of partition 0: it has `events` events, and had `past` states before."""
    written = {}
    for name, begin in (("recommendations", 0), ("decisions", 0), ("outcomes", 0), ("state", past)):
        sizes: list[int] = []

        def take(record: object, begin: int = begin, sizes: list[int] = sizes) -> None:
            if record.offset >= begin and record.value is not None:  # type: ignore[attr-defined]
                sizes.append(len(record.value))  # type: ignore[attr-defined]

        await read_to_end(cluster, topics.name(name), take, 0)
        written[name] = Written(len(sizes) / events, round(sum(sizes) / max(len(sizes), 1)))
    return Plan(**written)
