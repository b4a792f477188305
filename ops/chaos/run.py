"""A chaos run from its start to its end: broker, world, processes, load and faults; then the account of what is left.

Knows the parts and their order; does nothing itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ops.chaos import recovery, report, schedule, traffic, world
from ops.chaos.actions import Actions
from ops.chaos.checker import Checker, Findings, Poison
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
from ops.settings import variable
from streams.cluster import Cluster
from streams.contracts import encode
from streams.names import Topics
from streams.releases import pointer_to, publish_release
from streams.topics import create

PARTITIONS = 4
GROUP = "chaos"
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
    done: Mapping[Kind, int] = field(default_factory=dict)
    sent: int = 0
    slates: int = 0
    workers: str = ""


class Chaos:
    """One run. `folder` is fresh and the run's own; `note` hears of everything that happens, a line each."""

    def __init__(self, options: Options, folder: Path, jar_cache: Path, note: Callable[[str], None]) -> None:
        self._options = options
        self._folder = folder
        self._note = note
        self.plan = schedule.plan(options)
        self.topics = Topics("")
        # One more than there are workers at first: added ones and removed ones take turns.
        self._proxies = [Proxy(ports.free(), ports.free()) for _ in range(options.workers + 1)]
        listeners = [
            Listener(f"WORKER{number}", proxy.target, advertised_port=proxy.port)
            for number, proxy in enumerate(self._proxies, start=1)
        ]
        self._kafka = EmbeddedKafka(folder / "kafka", jar_cache, tied=True, listeners=listeners, properties=_BROKER)
        self._fleet: Fleet | None = None
        self.progress = Progress()

    async def run(self) -> dict[str, Any]:
        """Do it all and return the report. Raises CliError where it cannot be done or the system stands still."""
        address = await asyncio.to_thread(self._kafka.start, self._stage)
        cluster = Cluster(address)
        releases = await self._make_world(cluster)
        for proxy in self._proxies:
            await proxy.start()
        try:
            self._fleet = fleet = Fleet(self._folder, self._environment(), address, self._proxies)
            return await self._run(cluster, fleet, releases)
        finally:
            for proxy in self._proxies:
                await proxy.stop()

    def stop(self) -> None:
        """End every process; may be called again."""
        if self._fleet is not None:
            self._fleet.abandon()
        self._kafka.kill()

    async def _run(self, cluster: Cluster, fleet: Fleet, releases: list[Path]) -> dict[str, Any]:
        options = self._options
        made = Traffic(options.seed, options.users, options.rate)
        async with Sender(cluster, self.topics, PARTITIONS, made, options.rate) as sender:
            actions = Actions(fleet, self._kafka, cluster, self.topics, sender, releases, self._note)
            begun = time.monotonic()
            await beside(self._under_load(actions, sender), fleet.supervise(), self._watch(actions, sender))
            self._stage("stopping the workers in order")
            unclean = await fleet.stop()
            poisons = {one.place: Poison(one.event.key, one.event.value, one.event.poison) for one in sender.poisons}
            checker, found = await self._check(cluster, poisons)
            facts = {"wall_seconds": round(time.monotonic() - begun, 1), "unclean_exits": unclean}
        return self._report(actions, checker, found, len(poisons), facts)

    # Before

    async def _make_world(self, cluster: Cluster) -> list[Path]:
        self._stage("making a world and two releases")
        items = world.catalogue(self._options.seed)
        training = asyncio.create_task(
            asyncio.to_thread(world.train_releases, items, self._options.seed, self._folder / "releases")
        )
        await create(cluster, self.topics, PARTITIONS)
        async with cluster.producer() as producer:
            for item in items:
                await producer.send(self.topics.item_vectors, encode(item), item.item.encode())
        releases = await training
        now = time.time_ns() // 1_000_000
        await publish_release(cluster, self.topics.models, pointer_to(releases[0], now))
        return releases

    def _environment(self) -> dict[str, str]:
        timeout = self._options.session_timeout_s
        settings = {
            "topic_prefix": self.topics.prefix,
            "app_id": GROUP,
            "partitions": PARTITIONS,
            "data_dir": self._folder,
            "releases_dir": self._folder / "releases",
            "engine_session_timeout_s": timeout,
            "events_actions": ",".join(traffic.ACTIONS),
            "policy_candidates": 20,
            "policy_slate_size": 5,
            "state_events": STATE_RULES.events,
            "state_seen_capacity": STATE_RULES.seen,
            "state_event_ids": STATE_RULES.ids,
            "state_outcome_window_s": traffic.WINDOW_S,
        }
        return {variable(name): str(value) for name, value in settings.items()}

    # While it lasts

    async def _under_load(self, actions: Actions, sender: Sender) -> None:
        await self._wait_until_ready(actions.fleet)
        self._stage("under load")
        self.progress.begun = time.monotonic()
        await asyncio.gather(actions.run(self.plan), sender.run(self._options.seconds))
        self._stage("healing, and catching up")
        await actions.heal()
        await self._wait_until_caught_up(actions.cluster)
        for _ in range(_LAST_ROUNDS):  # a slate made in the last batch is closed by the one after it
            await sender.close_windows(2 * traffic.WINDOW_S)
            await self._wait_until_caught_up(actions.cluster)

    async def _wait_until_ready(self, fleet: Fleet) -> None:
        self._stage("starting the workers")
        for _ in range(self._options.workers):
            fleet.start_worker()
        fleet.start_learner()
        async with _patience(_READY_WITHIN_S, "the workers did not take over any partition", self._folder):
            while not any(worker.serving for worker in fleet.workers.values()):  # noqa: ASYNC110 (other processes)
                await asyncio.sleep(0.2)

    async def _wait_until_caught_up(self, cluster: Cluster) -> None:
        async with (
            Reader(cluster, [self.topics.events]) as reader,
            _patience(_CAUGHT_UP_WITHIN_S, "the backlog was not worked off", self._folder),
        ):
            ends = await reader.end(self.topics.events)
            while True:
                committed = await reader.committed(GROUP, self.topics.events)
                left = sum(end - committed.get(partition, 0) for partition, end in ends.items())
                if left <= 0:
                    return
                self._stage(f"catching up: {left:,} events left")
                await asyncio.sleep(0.3)

    async def _watch(self, actions: Actions, sender: Sender) -> None:
        while True:
            progress, fleet = self.progress, actions.fleet
            progress.done = dict(actions.done)
            progress.faults_left = len(self.plan) - actions.done.total()
            progress.sent, progress.slates = sender.acknowledged, sender.slates
            progress.workers = " ".join(
                f"{one.name}{'*' if one.frozen else ''}" for _, one in sorted(fleet.workers.items())
            )
            await asyncio.sleep(0.25)

    # After

    async def _check(self, cluster: Cluster, poisons: Mapping[tuple[int, int], Poison]) -> tuple[Checker, Findings]:
        topics = self.topics
        names = [topics.events, topics.recommendations, topics.decisions, topics.outcomes, topics.events_dlq]
        names += [topics.state, topics.models]
        async with Reader(cluster, names) as reader:
            first = await reader.first(topics.events)
            checker = Checker(topics, poisons, first, round(traffic.WINDOW_S * 1000), STATE_RULES)
        for name in names:  # one after the other: events first
            self._stage(f"reading {name}")
            async with Reader(cluster, [name]) as reader:
                ends = {name: await reader.end(name)}
                while await reader.behind(ends):
                    for record in await reader.poll():
                        checker.take(record)
        self._stage("checking")
        return checker, await asyncio.to_thread(checker.findings)

    def _report(
        self, actions: Actions, checker: Checker, found: Findings, poisons: int, facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        wrong = found.wrong()
        account = found.account
        return {
            "job": "driftline",
            **_done(actions),
            "events": account.events,
            "slates": account.slates,
            "coalesced": account.coalesced,
            "erased": account.erased,
            "outcomes": found.outcome_count,
            "states": len(checker.states),
            "states_compared": 0,
            **{name: len(listed) for name, listed in wrong.items()},
            "near_ties": 0,
            "dead_letters_expected": poisons,
            "dead_letters": account.dead_letters,
            **self._recovery(actions, checker),
            "seed": self._options.seed,
            "options": asdict(self._options),
            "versions": report.versions(),
            "deaths": [asdict(death) for death in actions.fleet.deaths],
            **facts,
            "findings": {name: [str(one) for one in listed] for name, listed in wrong.items() if listed},
        }

    def _recovery(self, actions: Actions, checker: Checker) -> dict[str, Any]:
        workers = [one.child.log for one in actions.fleet.history if one.command == "worker"]
        history = [one for log in workers for one in recovery.taken_over(log)]
        each: list[float] = []
        every: list[recovery.Silence] = []
        for kill in actions.kills:
            silences = recovery.silences(kill.at, recovery.owned(history, kill.worker, kill.at), checker.appended)
            every += silences
            each += [max(one.seconds for one in silences)] if silences else []
        logs = [*self._folder.glob("broker-*.log"), self._folder / "kafka" / "logs" / "broker.log"]
        return {
            "recovery_seconds": recovery.percentiles(each),
            "recovery_shares": recovery.shares(every, recovery.group_events(logs, GROUP), history),
            "recoveries": len(each),
            "recoveries_s": [round(seconds, 3) for seconds in each],
        }

    def _stage(self, text: str) -> None:
        if text != self.progress.stage:
            self.progress.stage = text


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
