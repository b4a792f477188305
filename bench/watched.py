"""One worker under load beside a dashboard: windows with it watched and with it stopped, in turn; then a long watch.

Measures; prints nothing. README.md beside this file says what is measured and how.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import count

import aiohttp
import numpy as np
import psutil
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupCoordinatorNotAvailableError
from msgspec import Struct

from bench.audience import Audience
from bench.contest import Course, worker
from bench.load import Load
from ops.dashboard.app import PAGES
from ops.dashboard.lookup import partition_of
from ops.demo.children import Children
from ops.demo.tasks import beside
from ops.kafka import ports
from ops.reader import Reader
from streams.cluster import running
from streams.contracts import Item, encode
from streams.names import Topics
from streams.topics import SPECS, create

OFFERED = 1.1
"""Times what the worker drained at: a backlog grows, so it always has as much as it can do."""

SETTLE_S = 2.0
"""After each turn, before the clock starts."""

Say = Callable[[str], None]

SAMPLE_S = 10.0
KEPT_BYTES = 100_000_000
"""Of each partition of a long watch: the disk is not what is measured."""


class Window(Struct, frozen=True):
    """What a worker did for some seconds. CPU times as shares of one core; `audience_cpu`: those who watch, and send.

    `lag`: events that waited at its end.
    """

    watched: bool
    events_per_s: float
    lag: int
    worker_cpu: float
    broker_cpu: float
    dashboard_cpu: float
    audience_cpu: float


class Memory(Struct, frozen=True):
    """How it stood `at` some second of the long watch."""

    at: float
    rss_mb: float
    files: int
    cpu_s: float
    updates: int
    loads: int
    events: int


@dataclass
class Stage:
    """Everything that runs while it is measured."""

    course: Course
    load: Load
    reader: Reader
    topics: Topics
    worker: psutil.Process
    dashboard: psutil.Process
    address: str
    viewers: int

    async def committed(self) -> int:
        """Events that the worker has committed."""
        return sum((await self.reader.committed(f"{self.topics.prefix}app", self.topics.events)).values())

    def cpu(self) -> tuple[float, float, float, float]:
        """CPU seconds of worker, broker, dashboard, and of this process."""
        broker = psutil.Process(self.course.broker_pid)
        times = [one.cpu_times() for one in (self.worker, broker, self.dashboard, psutil.Process())]
        used = [one.user + one.system for one in times]
        return used[0], used[1], used[2], used[3]

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[Audience]:
        """Viewers at a dashboard that runs; without them it is stopped (SIGSTOP): then it costs nothing at all."""
        self.dashboard.send_signal(signal.SIGCONT)
        async with Audience(self.address, self._live(), self._pages()) as audience:
            yield audience
            audience.check()
        self.dashboard.send_signal(signal.SIGSTOP)

    def _live(self) -> list[str]:
        partitions = self.course.partitions
        user = next(user for user in count() if partition_of(f"user-{user}", partitions) == user % partitions)
        paths = ["overview", "events", "propensity", f"user?id=user-{user}", "item?id=item-0"]
        return [f"/live/{paths[at % len(paths)]}" for at in range(self.viewers)]

    def _pages(self) -> Iterator[str]:
        """Each page in turn, of ever other users and items."""
        for turn in count():
            for page in PAGES:
                yield f"/{page}" + {"user": f"?id=user-{turn}", "item": f"?id=item-{turn}"}.get(page, "")

    async def window(self, rate: float, seconds: float, *, watched: bool) -> Window:
        """One measurement, while `rate` events a second are sent."""
        async with contextlib.AsyncExitStack() as stack:
            sending = asyncio.create_task(self.load.in_bursts(rate, SETTLE_S + seconds))
            if watched:
                await stack.enter_async_context(self.watching())
            await asyncio.sleep(SETTLE_S)
            events, cpu, started = await self.committed(), self.cpu(), time.monotonic()
            await asyncio.sleep(seconds)
            after, spent, took = await self.committed(), self.cpu(), time.monotonic() - started
            await sending
        shares = [(late - early) / took for early, late in zip(cpu, spent, strict=True)]
        return Window(watched, (after - events) / took, self.load.count - after, *shares)

    async def watch(self, rate: float, seconds: float, say: Say) -> list[Memory]:
        """Look at the dashboard's memory every so often, while it is watched and events come at a rate."""
        samples: list[Memory] = []
        async with self.watching() as audience:
            started = time.monotonic()
            while (at := time.monotonic() - started) < seconds:
                await asyncio.gather(self.load.in_bursts(rate, SAMPLE_S), self._spoil(round(SAMPLE_S)))
                audience.check()
                rss, files = self.dashboard.memory_info().rss / 2**20, self.dashboard.num_fds()
                looks = sum(audience.updates), audience.loads, await self.committed()
                samples.append(Memory(at, rss, files, self.cpu()[2], *looks))
                say(f"{at:,.0f} s: {rss:.0f} MiB, {looks[2]:,} events")
        return samples

    async def _spoil(self, letters: int) -> None:
        """Events that cannot be read: dead letters."""
        async with running(self.course.cluster.producer()) as producer:
            for number in range(letters):
                await producer.send_and_wait(self.topics.events, b"<b>" * 50, f"user-{number}".encode())


@contextlib.asynccontextmanager
async def staged(course: Course, viewers: int) -> AsyncIterator[Stage]:
    """A worker and a dashboard, warm: everybody's first event, and a backlog, is answered."""
    topics, web, port = Topics("driftline-watched."), ports.free(), ports.free()
    contender = worker(course, "worker", topics, DRIFTLINE_STATE_OUTCOME_WINDOW_S="10")
    await create(course.cluster, topics, course.partitions)
    more = {"DRIFTLINE_DASHBOARD_PORT": str(port), "DRIFTLINE_DASHBOARD_ENDPOINTS": f"127.0.0.1:{web}"}
    children = Children(course.folder, {**contender.environment, **more})
    address = f"http://127.0.0.1:{port}"
    async with Load(course.cluster, topics, course.synthetic, course.users, course.partitions) as load:
        await load.world(course.release)
        await _catalogue(course, topics)
        await load.everybody()
        await load.backlog(course.events)
        one = children.start("worker", "ops.cli", "worker", "--web-port", str(web))
        two = children.start("dashboard", "ops.cli", "dashboard")
        processes = psutil.Process(one.process.pid), psutil.Process(two.process.pid)
        try:
            async with Reader(course.cluster, [topics.events]) as reader:
                stage = Stage(course, load, reader, topics, *processes, address, viewers)
                await beside(_ready(stage), children.watch())
                yield stage
        finally:
            processes[1].send_signal(signal.SIGCONT)  # what is stopped hears no other signal
            children.stop()


async def drained(stage: Stage, events: int) -> float:
    """Events a second of a backlog, with the dashboard stopped."""
    stage.dashboard.send_signal(signal.SIGSTOP)
    before = await stage.committed()
    await stage.load.backlog(events)
    started = time.monotonic()
    await _until(stage, before + events)
    return events / (time.monotonic() - started)


async def _until(stage: Stage, events: int) -> None:
    """Until so many are committed; a broker that has no groups yet is asked again."""
    async with asyncio.timeout(300):
        while True:
            with contextlib.suppress(GroupCoordinatorNotAvailableError):
                if await stage.committed() >= events:
                    return
            await asyncio.sleep(0.2)


async def _ready(stage: Stage) -> None:
    """Until the backlog is answered and the dashboard answers."""
    await _until(stage, stage.load.count)
    async with aiohttp.ClientSession() as session, asyncio.timeout(300):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectorError):
                async with session.get(f"{stage.address}/overview") as answer:
                    answer.raise_for_status()
                    return
            await asyncio.sleep(0.2)


async def _catalogue(course: Course, topics: Topics) -> None:
    """Titles and categories, which the dashboard reads; and room for a long watch."""
    async with running(course.cluster.producer()) as producer:
        for one in course.synthetic.items:
            item = Item(one.item, f"The title of {one.item}", categories=one.categories)
            await producer.send(topics.items, encode(item), one.item.encode())
        await producer.flush()
    limits = {"retention.bytes": str(KEPT_BYTES), "segment.bytes": str(KEPT_BYTES // 4)}
    kinds = [
        ConfigResource(ConfigResourceType.TOPIC, topics.name(spec.name), spec.config() | limits)
        for spec in SPECS
        if spec.name in ("events", "recommendations", "decisions", "outcomes", "state")
    ]
    async with running(course.cluster.admin()) as admin:
        await admin.alter_configs(kinds)


def ratios(windows: list[Window]) -> list[float]:
    """Throughput watched / not, of each two windows one after the other."""
    pairs = zip(windows[::2], windows[1::2], strict=True)
    return [
        one.events_per_s / other.events_per_s if one.watched else other.events_per_s / one.events_per_s
        for one, other in pairs
    ]


def interval(values: list[float], seed: int = 0) -> tuple[float, float, float]:
    """Geometric mean, and its 95% interval by bootstrap over pairs."""
    logs = np.log(values)
    means = np.random.default_rng(seed).choice(logs, (10_000, len(logs))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high))
