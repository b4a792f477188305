"""From a broker and an embedder to a report: items, warm-up, training, the live events, and the account of them all.

Workers and learner load while items are encoded, and wait for the release that training makes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ops.audit import Account, Audit
from ops.demo import feed
from ops.demo.children import Children
from ops.demo.judge import Judge, topic_names
from ops.demo.report import report
from ops.demo.screen import Figures, Progress
from ops.demo.tasks import beside
from ops.demo.traffic import TrafficConfig, TrafficStatus, read_status
from ops.errors import CliError
from ops.reader import Reader
from ops.sending import send_all
from streams.cluster import Cluster
from streams.contracts import encode
from streams.names import Topics

if TYPE_CHECKING:
    from ops.datasets import Dataset

_LOOK_EVERY_S = 0.25
_LAG_EVERY_S = 1.0
_CHECK_FOR_S = 20.0
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class System:
    """What a replay needs to know. `group`: of the `workers`, which have these names; `folder`: for files."""

    cluster: Cluster
    topics: Topics
    group: str
    folder: Path
    children: Children
    workers: Sequence[str]
    progress: Progress


class Replay:
    """One replay of a data set. `live_events`: None for all; `rate`: of them a second."""

    def __init__(self, system: System, data: Dataset, live_events: int | None, rate: float) -> None:
        self._system = system
        self._data = data
        self._stream = feed.stream(data, live_events)
        self._rate = rate
        self._titles = {item.item: item.title for item in data.items}

    async def run(self) -> dict[str, Any]:
        """Do it all; return the report. Raises CliError when a process dies or the system stands still."""
        system = self._system
        async with Reader(system.cluster, topic_names(system.topics)) as reader:
            audit = Audit(system.topics, await reader.first(system.topics.events))
            judge = Judge(reader, system.topics, audit, self._titles, len(self._stream.warm_up))
            warm_up, traffic = await beside(self._play(reader, judge), judge.run(), system.children.watch())
            account = audit.ledger.account(await reader.committed(system.group, system.topics.events))
        stage = system.progress.begin("probabilities", "computed again from the decisions")
        await asyncio.to_thread(audit.propensities.run, _CHECK_FOR_S)
        checked = audit.propensities.result
        system.progress.end(stage, f"of {checked.checked:,} of {checked.decisions:,} decisions")
        estimated = (judge.calibration, judge.release)
        return report(warm_up, account, judge.scoreboard, checked, traffic, *estimated, system.progress.begun)

    async def _play(self, reader: Reader, judge: Judge) -> tuple[Account, TrafficStatus]:
        await asyncio.gather(self._send_items(), self._send_warm_up())
        await self._wait_for_vectors(reader)
        await self._train()
        warm_up = await self._wait_for_warm_up(judge)
        traffic = await self._replay(reader, judge)
        await self._wait_for_judge(reader)
        return warm_up, traffic

    async def _send_items(self) -> None:
        records = ((item.item.encode(), encode(item)) for item in self._data.items)
        await send_all(self._system.cluster, self._system.topics.items, records)

    async def _send_warm_up(self) -> None:
        stage = self._system.progress.begin("warm-up", "sending")
        records = ((event.user.encode(), encode(event)) for event in self._stream.warm_up)
        await send_all(self._system.cluster, self._system.topics.events, records)
        self._system.progress.end(stage, f"{len(self._stream.warm_up):,} events sent")

    async def _wait_for_vectors(self, reader: Reader) -> None:
        stage = self._system.progress.begin("titles and genres → vectors", "the encoder loads")
        topics, count = self._system.topics, len(self._data.items)
        done, others_started, patience = 0, False, _Patience("the embedder", self._system.folder)
        while done < count:
            await asyncio.sleep(_LOOK_EVERY_S)
            done = await _records(reader, topics.item_vectors, topics.items_dlq)
            patience.see(done)
            if done and not others_started:
                others_started = True
                self._start_others()
            stage.say(f"{done:,} of {count:,}" if done else stage.says)
        self._system.progress.end(stage, f"{count:,}")

    def _start_others(self) -> None:
        """Workers and learner load beside the encoding, and are ready when the release is."""
        for worker in self._system.workers:
            self._system.children.start(worker, "ops.cli", "worker")
        self._system.children.start("learner", "ops.cli", "learn")

    async def _train(self) -> None:
        stage = self._system.progress.begin("training", f"on {len(self._stream.warm_up):,} events")
        child = self._system.children.start("training", "ops.cli", "train")
        await self._system.children.finish(child)
        self._system.progress.end(stage, "published a release")

    async def _wait_for_warm_up(self, judge: Judge) -> Account:
        stage = self._system.progress.begin("worker catches up", "loads the release")
        events, patience = len(self._stream.warm_up), _Patience("the worker", self._system.folder)
        while True:
            account = judge.audit.ledger.account()
            answered = account.events - len(account.lost)
            patience.see(answered)
            if account.events == answered == events:
                self._system.progress.end(stage, f"{events:,} events answered by {account.slates:,} slates")
                return account
            stage.says = f"{answered:,} of {events:,} events answered" if answered else stage.says
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _replay(self, reader: Reader, judge: Judge) -> TrafficStatus:
        """Have the traffic process send the live events, and show what comes of it until it is done."""
        system, events, config = self._system, self._system.folder / "live.jsonl", self._system.folder / "traffic.json"
        stage = system.progress.begin("live events", f"{len(self._stream.live):,} at {self._rate:g} a second")
        feed.write_events(events, self._stream.live)
        status = system.folder / "traffic-status.json"
        names = (system.topics.events, system.topics.recommendations)
        config.write_bytes(msgspec.json.encode(TrafficConfig(*names, str(events), str(status), self._rate)))
        child = system.children.start("traffic", "ops.demo.traffic", str(config))
        await beside(system.children.finish(child), self._show(reader, judge, status))
        traffic = read_status(status)
        if not traffic.answered:
            raise CliError("no live event was answered", f"The logs are in {system.folder}.")
        system.progress.figures = None
        system.progress.end(stage, f"{traffic.answered:,} of {traffic.sent:,} answered")
        return traffic

    async def _show(self, reader: Reader, judge: Judge, status: Path) -> None:
        """Keep the live figures fresh; never returns."""
        events, lag, asked = self._system.topics.events, 0, 0.0
        while True:
            if time.monotonic() > asked + _LAG_EVERY_S:
                committed, ends = await reader.committed(self._system.group, events), await reader.end(events)
                lag = sum(end - committed.get(partition, 0) for partition, end in ends.items())
                asked = time.monotonic()
            traffic = read_status(status)
            if traffic.sent:
                self._system.progress.figures = self._figures(judge, traffic, lag)
            await asyncio.sleep(_LOOK_EVERY_S)

    def _figures(self, judge: Judge, traffic: TrafficStatus, lag: int) -> Figures:
        scoreboard = judge.scoreboard
        return Figures(
            traffic=traffic,
            to_send=len(self._stream.live),
            lag=lag,
            recent=scoreboard.recent,
            overall=scoreboard.overall,
            unscored=scoreboard.unscored.total(),
            calibration=judge.calibration,
            dead_letters=judge.audit.ledger.dead_letters,
            story=judge.story,
        )

    async def _wait_for_judge(self, reader: Reader) -> None:
        """Until it has read all that is there."""
        stage = self._system.progress.begin("account", "reading what is left")
        ends = {name: await reader.end(name) for name in reversed(topic_names(self._system.topics))}
        while left := await reader.behind(ends):
            stage.says = f"{left:,} records left to read"
            await asyncio.sleep(_LOOK_EVERY_S)
        self._system.progress.end(stage, "every event looked for")


class _Patience:
    """Ends a wait that leads nowhere: raises CliError when what it sees has not changed for two minutes."""

    def __init__(self, who: str, logs: Path) -> None:
        self._who, self._logs = who, logs
        self._seen, self._since = -1, time.monotonic()

    def see(self, progress: int) -> None:
        now = time.monotonic()
        if progress != self._seen:
            self._seen, self._since = progress, now
        elif now > self._since + _PATIENCE_S:
            raise CliError(f"{self._who} has stood still for {_PATIENCE_S:.0f} s", f"Its log is in {self._logs}.")


async def _records(reader: Reader, *names: str) -> int:
    """How many records topics hold that nobody writes to in transactions."""
    return sum([sum((await reader.end(name)).values()) for name in names])
