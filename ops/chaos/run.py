"""A chaos run from its start to its end: broker, world, processes, load and faults; then the account of what is left.

Knows the parts and their order; does nothing itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.chaos import recovery, report, schedule, traffic, verdict, world
from ops.chaos.actions import Actions
from ops.chaos.checker import Checker, Poison
from ops.chaos.fleet import Fleet
from ops.chaos.proxy import Proxy
from ops.chaos.schedule import Kind, Options
from ops.chaos.sender import Sender
from ops.chaos.states import Rules
from ops.chaos.traffic import Traffic
from ops.demo.tasks import beside
from ops.errors import CliError
from ops.kafka import EmbeddedKafka, Listener, ports
from ops.reader import Reader
from ops.settings import CONFIG_VARIABLE, PREFIX, Settings, variable
from streams.cluster import Cluster
from streams.contracts import encode
from streams.names import Topics
from streams.releases import pointer_to, publish_release
from streams.topics import create

if TYPE_CHECKING:
    from ops.chaos.reference import Reference

PARTITIONS = 4
STATE_RULES = Rules(events=world.HISTORY, seen=64, ids=32, actions=traffic.ACTIONS)
_READY_WITHIN_S = 120.0
_CAUGHT_UP_WITHIN_S = 180.0
_LAST_ROUNDS = 3
_BROKER = {"log.cleaner.min.compaction.lag.ms": "43200000"}  # the checker must find all that was ever written


@dataclass
class Progress:
    """What is shown while it runs."""

    stage: str = ""
    begun: float = field(default_factory=time.monotonic)
    faults_left: int = 0
    sent: int = 0
    slates: int = 0
    workers: str = ""


class Chaos:
    """One run. `folder` is fresh and the run's own; `note` hears of everything that happens, a line each.

    Another job than driftline's can be run in the same way: see `bench/chaos_faust.py`, which overrides what a job
    brings with it.
    """

    group = "chaos"
    leaves_out: frozenset[Kind] = frozenset()
    """Faults that this job has no use for."""

    def __init__(self, options: Options, folder: Path, jar_cache: Path, note: Callable[[str], None]) -> None:
        self.options = options
        self.folder = folder
        self.topics = Topics("")
        self.progress = Progress()
        self.plan = [fault for fault in schedule.plan(options) if fault.kind not in self.leaves_out]
        # One more than there are workers at first: added ones and removed ones take turns.
        self.proxies = [Proxy(ports.free(), ports.free()) for _ in range(options.workers + 1)]
        listeners = [
            Listener(f"WORKER{number}", proxy.target, advertised_port=proxy.port)
            for number, proxy in enumerate(self.proxies, start=1)
        ]
        self._note = note
        self._kafka = EmbeddedKafka(folder / "kafka", jar_cache, tied=True, listeners=listeners, properties=_BROKER)
        self._fleet: Fleet | None = None

    async def run(self) -> dict[str, Any]:
        """Do it all and return the report. Raises CliError where it cannot be done or the system stands still."""
        cluster = Cluster(await asyncio.to_thread(self._kafka.start, self.stage))
        releases = await self.make_world(cluster)
        for proxy in self.proxies:
            await proxy.start()
        try:
            self._fleet = fleet = self.make_fleet(cluster)
            return await self._run(cluster, fleet, releases)
        finally:
            for proxy in self.proxies:
                await proxy.stop()

    def stop(self) -> None:
        """End every process; may be called again."""
        if self._fleet is not None:
            self._fleet.abandon()
        self._kafka.kill()

    async def _run(self, cluster: Cluster, fleet: Fleet, releases: list[Path]) -> dict[str, Any]:
        begun = time.monotonic()
        async with self.make_sender(cluster) as sender:
            actions = Actions(fleet, self._kafka, cluster, self.topics, sender, releases, self._note)
            await beside(self._under_load(actions), fleet.supervise(), self._watch(actions))
            self.stage("stopping the workers in order")
            unclean = await fleet.stop()
            figures = await self.examine(actions)
        return {
            **_done(actions),
            **figures,
            "seed": self.options.seed,
            "options": asdict(self.options),
            "versions": report.versions(),
            "wall_seconds": round(time.monotonic() - begun, 1),
            "deaths": [asdict(death) for death in fleet.deaths],
            "unclean_exits": unclean,
        }

    def stage(self, text: str) -> None:
        """Say what is being done."""
        self.progress.stage = text

    # What a job brings with it

    async def make_world(self, cluster: Cluster) -> list[Path]:
        """Topics and everything that is to be there before the workers are; returns the releases to publish."""
        self.stage("making a world and two releases")
        items = world.catalogue(self.options.seed)
        folder = self.folder / "releases"
        training = asyncio.create_task(asyncio.to_thread(world.train_releases, items, self.options.seed, folder))
        await create(cluster, self.topics, PARTITIONS)
        async with cluster.producer() as producer:
            for item in items:
                await producer.send(self.topics.item_vectors, encode(item), item.item.encode())
        releases = await training
        now = time.time_ns() // 1_000_000
        await publish_release(cluster, self.topics.models, pointer_to(releases[0], now))
        return releases

    def make_fleet(self, cluster: Cluster) -> Fleet:
        """The processes: workers and a learner."""
        return Fleet(self.folder, self.environment(self.settings()), cluster.bootstrap_servers, self.proxies)

    def settings(self) -> dict[str, Any]:
        """The settings of driftline that are not the default."""
        return {
            "topic_prefix": self.topics.prefix,
            "app_id": self.group,
            "partitions": PARTITIONS,
            "data_dir": self.folder,
            "releases_dir": self.folder / "releases",
            "engine_session_timeout_s": self.options.session_timeout_s,
            "events_actions": traffic.ACTIONS,
            "policy_candidates": 20,
            "policy_slate_size": 5,
            "state_store": self.options.state_store,
            "state_events": STATE_RULES.events,
            "state_seen_capacity": STATE_RULES.seen,
            "state_event_ids": STATE_RULES.ids,
            "state_outcome_window_s": traffic.WINDOW_S,
        }

    def environment(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """The variables of a process with these settings, and with none of this user's own."""
        empty = self.folder / "driftline.toml"
        empty.touch()
        unset = {name: "" for name in os.environ if name.startswith(PREFIX)}
        told = {
            variable(name): ",".join(value) if isinstance(value, tuple) else str(value)
            for name, value in settings.items()
        }
        return unset | {CONFIG_VARIABLE: str(empty)} | told

    def make_sender(self, cluster: Cluster) -> Sender:
        """The load."""
        made = Traffic(self.options.seed, self.options.users, self.options.rate)
        return Sender(cluster, self.topics, PARTITIONS, made, self.options.rate)

    async def examine(self, actions: Actions) -> dict[str, Any]:
        """Read the topics, and say what was found: the report's figures and findings."""
        poisons = {
            one.place: Poison(one.event.key, one.event.value, one.event.poison) for one in actions.sender.poisons
        }
        names = self.topics
        order = [names.events, names.recommendations, names.decisions, names.outcomes, names.events_dlq, names.state]
        checker = Checker(self.topics, poisons, PARTITIONS, round(traffic.WINDOW_S * 1000), STATE_RULES)
        reference = await asyncio.to_thread(self._reference, actions.cluster)

        def take(record: Any) -> None:
            checker.take(record)
            reference.take(record)

        await self.read(actions.cluster, [*order, names.models, names.item_vectors], take)
        self.stage("checking")
        found = await asyncio.to_thread(checker.findings)
        self.stage("replaying the log as one worker that was never interrupted")
        compared = await asyncio.to_thread(reference.compare, checker.states)
        figures = verdict.figures(found, compared, len(poisons))
        return {"job": "driftline", **figures, **self.recovery(actions, checker.appended)}

    def _reference(self, cluster: Cluster) -> Reference:
        from ops.chaos.reference import Reference  # torch takes seconds to import
        from ops.configuration import worker_config

        settings = Settings.model_construct(**self.settings())  # as it is, without this user's environment
        config = worker_config(settings, cluster)
        return Reference(self.topics, config.pipeline, config.releases_dir)

    async def read(self, cluster: Cluster, names: Sequence[str], take: Callable[[Any], None]) -> None:
        """Hand over every committed record of these topics, one topic after the other."""
        for name in names:
            self.stage(f"reading {name}")
            async with Reader(cluster, [name]) as reader:
                ends = {name: await reader.end(name)}
                while await reader.behind(ends):
                    for record in await reader.poll():
                        take(record)

    def recovery(self, actions: Actions, appended: Mapping[int, Sequence[int]]) -> dict[str, Any]:
        """How long the kills silenced their partitions. `appended`: when each answer was, ms, by partition."""
        workers = [one.child.log for one in actions.fleet.history if one.command == "worker"]
        logs = [*self.folder.glob("broker-*.log"), self.folder / "kafka" / "logs" / "broker.log"]
        killed = [(kill.at, kill.worker) for kill in actions.kills]
        return recovery.figures(
            killed, workers, appended, recovery.group_events(logs, self.group), actions.disturbances
        )

    # While it lasts

    async def _under_load(self, actions: Actions) -> None:
        sender = actions.sender
        await self._wait_until_ready(actions.fleet)
        self.stage("under load")
        self.progress.begun = time.monotonic()
        await asyncio.gather(actions.run(self.plan), sender.run(self.options.seconds))
        self.stage("healing, and catching up")
        await actions.heal()
        await self.wait_until_caught_up(actions.cluster)
        for _ in range(_LAST_ROUNDS):  # a slate made in the last batch may be closed only by the one after it
            await sender.close_windows(2 * traffic.WINDOW_S)
            await self.wait_until_caught_up(actions.cluster)

    async def _wait_until_ready(self, fleet: Fleet) -> None:
        self.stage("starting the workers")
        for _ in range(self.options.workers):
            fleet.start_worker()
        fleet.start_learner()
        async with _patience(_READY_WITHIN_S, "the workers did not take over any partition", self.folder):
            while not any(worker.serving for worker in fleet.workers.values()):  # noqa: ASYNC110 (other processes)
                await asyncio.sleep(0.2)

    async def wait_until_caught_up(self, cluster: Cluster) -> None:
        """Wait until the group has committed all events; raises CliError when it does not get there."""
        async with (
            Reader(cluster, [self.topics.events]) as reader,
            _patience(_CAUGHT_UP_WITHIN_S, "the backlog was not worked off", self.folder),
        ):
            ends = await reader.end(self.topics.events)
            while True:
                committed = await reader.committed(self.group, self.topics.events)
                left = sum(end - committed.get(partition, 0) for partition, end in ends.items())
                if left <= 0:
                    return
                self.stage(f"catching up: {left:,} events left")
                await asyncio.sleep(0.3)

    async def _watch(self, actions: Actions) -> None:
        while True:
            progress, fleet = self.progress, actions.fleet
            progress.faults_left = len(self.plan) - actions.done.total()
            progress.sent, progress.slates = actions.sender.acknowledged, actions.sender.slates
            progress.workers = " ".join(
                f"{one.name}{'*' if one.frozen else ''}" for _, one in sorted(fleet.workers.items())
            )
            await asyncio.sleep(0.25)


def _done(actions: Actions) -> dict[str, int]:
    done = actions.done
    return {
        "kills": done[Kind.KILL],
        "zombies": done[Kind.ZOMBIE],
        "broker_restarts": done[Kind.BROKER],
        "rebalances": done[Kind.ADD] + done[Kind.REMOVE],
        "partitions_cut": done[Kind.CUT] + done[Kind.DELAY] + done[Kind.THROTTLE],
        "releases_published": done[Kind.RELEASE],
        "learner_kills": done[Kind.LEARNER],
        "terminations": done[Kind.TERMINATE],
        "poisons": done[Kind.POISON],
    }


@asynccontextmanager
async def _patience(seconds: float, problem: str, folder: Path) -> AsyncIterator[None]:
    """`asyncio.timeout` with an error for people."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise CliError(f"{problem} within {seconds:.0f} s", f"Logs and data are in {folder}.") from None
