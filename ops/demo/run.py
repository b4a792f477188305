"""A demo from its start to its end: broker, topics, processes, replay; and the end of all that it started.

The broker starts while the data set is fetched and read, the embedder while items and warm-up are sent; from there on
it is `replay.py`. Knows the names of the commands of `driftline`, not what they do.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ops.connection import connect
from ops.demo.children import Children
from ops.demo.replay import Replay, System
from ops.demo.screen import Progress
from ops.errors import CliError
from ops.kafka import KAFKA_VERSION, embedded, reachable
from ops.settings import Settings, variable
from streams.cluster import Cluster
from streams.names import Topics
from streams.topics import create

if TYPE_CHECKING:
    from ops.datasets import Dataset

_A_RUN = re.compile(r"demo-\d{8}-\d{6}")


@dataclass(frozen=True)
class Options:
    """`events`: live ones, None for all; `rate`: of them a second; `keep`: what earlier demos left."""

    events: int | None
    rate: float
    workers: int
    keep: bool


class Demo:
    """One demo, under a name of its own, which its topics, consumer groups and files carry."""

    processes: type[Children] = Children

    def __init__(self, settings: Settings, options: Options) -> None:
        self._settings = settings
        self._options = options
        self._name = time.strftime("demo-%Y%m%d-%H%M%S")
        self._data_dir = settings.data_dir.absolute()
        self._topics = Topics(f"{self._name}.")
        self._kafka = None if settings.bootstrap_servers else embedded(self._data_dir)
        self._started_kafka = False
        self._children: Children | None = None
        self.folder = self._data_dir / "demo" / self._name
        self.environment: dict[str, str] = {}  # this demo's settings, once known
        self.progress = Progress(psutil.Process().create_time())

    async def run(self) -> dict[str, Any]:
        """Start everything, replay the live events and return the report.

        Raises CliError when something cannot be had, a process dies, or another demo is running.
        """
        self.folder.mkdir(parents=True)
        with self._the_only_one():
            loading = asyncio.create_task(self._load())
            cluster = await self._start_kafka()
            await self._create_topics(cluster)
            children = self._begin_processes(cluster)
            workers = [f"worker-{number}" for number in range(1, self._options.workers + 1)]
            system = System(cluster, self._topics, self._name, self.folder, children, workers, self.progress)
            replay = Replay(system, await loading, self._options.events, self._options.rate)
            return {**await replay.run(), "conditions": self._conditions()}

    @property
    def children(self) -> Children | None:
        """Its processes, once it has some."""
        return self._children

    async def watch(self) -> None:
        """Raise CliError when a process dies; never returns."""
        if self._children is not None:
            await self._children.watch()

    def stop(self) -> None:
        """End all that this demo started; may be called again."""
        if self._children is not None:
            self._children.stop()
        if self._started_kafka and self._kafka is not None:
            self._kafka.stop()

    @contextlib.contextmanager
    def _the_only_one(self) -> Iterator[None]:
        with (self.folder.parent / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.folder.rmdir()
                raise CliError(
                    f"another demo is running with the data folder {self._data_dir}",
                    "End it first, or give this one a folder of its own: DRIFTLINE_DATA_DIR=….",
                ) from None
            yield

    async def _load(self) -> Dataset:
        stage = self.progress.begin("MovieLens 100K")
        folder = self._data_dir / "datasets"
        data = await asyncio.to_thread(_movielens, folder, stage.say)
        self.progress.end(stage, f"{len(data.items):,} films, {len(data.interactions):,} ratings")
        return data

    async def _start_kafka(self) -> Cluster:
        stage = self.progress.begin("broker")
        if self._kafka is not None:
            self._started_kafka = not self._kafka.running
            await asyncio.to_thread(self._kafka.start, stage.say)
        cluster = connect(self._settings)
        self.progress.end(stage, str(cluster))
        return cluster

    async def _create_topics(self, cluster: Cluster) -> None:
        stage = self.progress.begin("topics")
        settings = self._settings
        with reachable(cluster):
            if not self._options.keep:
                await self._forget_earlier_demos(cluster)
            await create(cluster, self._topics, settings.partitions, settings.replication or None)
        self.progress.end(stage, f"{self._topics.prefix}…")

    async def _forget_earlier_demos(self, cluster: Cluster) -> None:
        """Their files; and their topics, where the broker is this user's own."""
        for folder in self.folder.parent.iterdir():
            if _A_RUN.fullmatch(folder.name) and folder != self.folder:
                shutil.rmtree(folder)
        if self._kafka is not None:
            admin = cluster.admin()
            await admin.start()
            try:
                old = [topic for topic in await admin.list_topics() if _A_RUN.match(topic)]
                if old:
                    await admin.delete_topics(old)
            finally:
                await admin.close()

    def _begin_processes(self, cluster: Cluster) -> Children:
        """The embedder: the others have to wait for it anyway, and would only slow its start."""
        self.environment = {
            variable("bootstrap_servers"): cluster.bootstrap_servers,
            variable("topic_prefix"): self._topics.prefix,
            variable("app_id"): self._name,
            variable("data_dir"): str(self._data_dir),
            variable("releases_dir"): str(self.folder / "releases"),
        }
        self._children = self.processes(self.folder, self.environment)
        self._children.start("embedder", "ops.cli", "embed")
        return self._children

    def _conditions(self) -> dict[str, Any]:
        return {
            "data": "MovieLens 100K",
            "rate": self._options.rate,
            "workers": self._options.workers,
            "partitions": self._settings.partitions,
            "kafka": "as configured" if self._kafka is None else f"embedded {KAFKA_VERSION}",
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "python": platform.python_version(),
        }


def _movielens(folder: Path, say: Callable[[str], None]) -> Dataset:
    from ops.datasets import movielens_100k  # pandas takes a second to import: time for the broker to start

    return movielens_100k(folder, say)
