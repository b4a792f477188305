"""The same chaos on a Faust agent with a table: what the users of driftline are spared.

Same broker, same load, and of the same plan every fault that the job has a use for (it has no learner, no releases,
and counts bad events like any others). The job is `bench/faust_table.py`: it counts each user's events in a table and
answers each event with one record, at least once. Its checker reads topics only: which events have no answer, which
have several, and whose count in the table's changelog is not the number of his events.

    python -m bench.chaos_faust --kills 25 --seconds 400 --seed 1 --report faust1.json
    driftline chaos --summary r1.json faust1.json
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.chaos import report, schedule
from ops.chaos.actions import Actions
from ops.chaos.fleet import Fleet
from ops.chaos.run import PARTITIONS, Chaos
from ops.chaos.schedule import Kind, Options
from ops.chaos.sender import Sender
from ops.chaos.traffic import Traffic
from ops.errors import CliError
from ops.reader import Reader
from ops.settings import load
from streams.cluster import Cluster
from streams.topics import Topics, create

ANSWER_BYTES = 1500
CHANGELOG = "faust-counts-changelog"
TOLD = 5
LOOKED_FOR = (
    "lost",
    "unanswered",
    "duplicate_slates",
    "out_of_order",
    "over_counted_keys",
    "under_counted_keys",
    "stuck",
)


class FaustChaos(Chaos):
    """Chaos with another job."""

    group = "faust"
    leaves_out = frozenset({Kind.LEARNER, Kind.RELEASE, Kind.POISON})
    stuck = False

    async def make_world(self, cluster: Cluster) -> list[Path]:
        await create(cluster, self.topics, PARTITIONS)
        return []

    def make_fleet(self, cluster: Cluster) -> Fleet:
        settings = {"data_dir": self.folder, "engine_session_timeout_s": self.options.session_timeout_s}
        environment, address = self.environment(settings), cluster.bootstrap_servers
        return Fleet(self.folder, environment, address, self.proxies, module="bench.chaos_faust", has_learner=False)

    def make_sender(self, cluster: Cluster) -> Sender:
        made = Traffic(self.options.seed, self.options.users, self.options.rate)
        return Sender(cluster, self.topics, PARTITIONS, made, self.options.rate, follow=False)

    async def wait_until_caught_up(self, cluster: Cluster) -> None:
        """A job that stands still is a finding here, not an error."""
        if not self.stuck:
            try:
                await super().wait_until_caught_up(cluster)
            except CliError:
                self.stuck = True

    async def examine(self, actions: Actions) -> dict[str, Any]:
        book = Book()
        await self.read(actions.cluster, [self.topics.events], book.event)
        await self.read(actions.cluster, [self.topics.recommendations], book.answer)
        await self.read(actions.cluster, [CHANGELOG], book.count)
        async with Reader(actions.cluster, [self.topics.events]) as reader:
            committed = await reader.committed(self.group, self.topics.events)
        return {
            "job": "Faust table",
            "stuck": self.stuck,
            **book.figures(committed),
            **self.recovery(actions, book.appended),
        }


@dataclass
class Book:
    """The account of a counting job: every event answered once, every key counted right. Fed topic by topic."""

    events: dict[tuple[int, int], bytes] = field(default_factory=dict)
    answers: Counter[tuple[int, int]] = field(default_factory=Counter)
    counts: dict[bytes, int] = field(default_factory=dict)
    appended: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    last: dict[tuple[int, bytes], int] = field(default_factory=dict)
    out_of_order: int = 0

    def event(self, record: Any) -> None:
        self.events[record.partition, record.offset] = record.key

    def answer(self, record: Any) -> None:
        (offset,) = json.loads(record.value)["covers"]
        place, key = (record.partition, offset), (record.partition, record.key)
        if not self.answers[place] and offset < self.last.get(key, -1):
            self.out_of_order += 1
        self.answers[place] += 1
        self.last[key] = max(offset, self.last.get(key, -1))
        self.appended[record.partition].append(record.timestamp)

    def count(self, record: Any) -> None:
        self.counts[json.loads(record.key).encode()] = json.loads(record.value)

    def figures(self, committed: Mapping[int, int]) -> dict[str, Any]:
        """The report's figures; what the job does not have is None.

        `committed`: next offset to process, by partition; what lies behind it and has no answer is not lost yet.
        """
        expected = Counter(self.events.values())
        over = {key: self.counts[key] - count for key, count in expected.items() if self.counts.get(key, 0) > count}
        under = {key: self.counts.get(key, 0) - count for key, count in expected.items()}
        under = {key: difference for key, difference in under.items() if difference < 0}
        unanswered = sorted(place for place in self.events if not self.answers[place])
        lost = [(partition, offset) for partition, offset in unanswered if offset < committed.get(partition, 0)]
        doubled = sorted(place for place, count in self.answers.items() if count > 1)
        return {
            "events": len(self.events),
            "slates": self.answers.total(),
            "lost": len(lost),
            "unanswered": len(unanswered) - len(lost),
            "duplicate_slates": len(doubled),
            "invented": len(self.answers.keys() - self.events.keys()),
            "out_of_order": self.out_of_order,
            "wrong_states": len(over) + len(under),
            "keys": len(expected),
            "over_counted_keys": len(over),
            "under_counted_keys": len(under),
            "counted_too_often": sum(over.values()),
            "duplicate_outcomes": None,
            "missing_outcomes": None,
            "near_ties": None,
            "findings": {
                "lost": [f"partition {place[0]}, offset {place[1]}" for place in lost[:TOLD]],
                "duplicate_slates": [f"partition {place[0]}, offset {place[1]}" for place in doubled[:TOLD]],
                "wrong_states": [f"{key.decode()}: {difference:+}" for key, difference in [*over.items()][:TOLD]],
            },
        }


# The job's process


def worker() -> None:
    """Count, until told to end; say which partitions were assigned, as a worker of driftline does."""
    import faust

    from bench.faust_table import counting_app

    settings = load()
    timeout = settings.engine_session_timeout_s
    with tempfile.TemporaryDirectory() as scratch:
        app = counting_app(
            settings.bootstrap_servers,
            Topics(""),
            PARTITIONS,
            ANSWER_BYTES,
            scratch,
            broker_session_timeout=timeout,
            broker_heartbeat_interval=timeout / 3,
        )

        async def say(sender: Any, assigned: Any, **_: Any) -> None:
            for partition in (place.partition for place in assigned if place.topic == "events"):
                told = {"event": "partition taken over", "partition": partition, "seconds": 0.0}
                told["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                os.write(
                    2, b"\n" + json.dumps(told).encode() + b"\n"
                )  # a line of its own: Faust leaves some unfinished

        app.on_partitions_assigned.connect(say)
        faust.Worker(app, loglevel="WARNING", workdir=scratch).execute_from_commandline()


# The command


def main(
    kills: Annotated[int, typer.Option(help="SIGKILLs of workers; other faults come in proportion.", min=0)] = 5,
    workers: Annotated[int, typer.Option(help="Worker processes at the start.", min=1)] = 3,
    seconds: Annotated[float, typer.Option(help="How long events are sent.", min=10)] = 180.0,
    seed: Annotated[int, typer.Option(help="Of the plan and the events.", min=0)] = 0,
    rate: Annotated[float, typer.Option(help="Events a second.", min=1)] = 150.0,
    report_file: Annotated[Path | None, typer.Option("--report", help="Write the figures here, too.")] = None,
) -> None:
    """Run the chaos and print what was found. The exit status is 0: that something is wrong is the point."""
    with tempfile.TemporaryDirectory(prefix="chaos-faust-") as folder:
        options = Options(kills, workers, seconds, seed, rate)
        running = FaustChaos(options, Path(folder), load().data_dir / "kafka" / "jars", _say)
        logging.getLogger("aiokafka").addHandler(logging.NullHandler())  # of the broker that is away
        _say(f"plan: {schedule.described(running.plan)}")
        try:
            figures = asyncio.run(running.run())
        finally:
            running.stop()
    if report_file:
        report.write(report_file, figures)
    for name in ("events", "slates", *LOOKED_FOR, "recovery_seconds", "findings"):
        print(f"{name.replace('_', ' ')}: {figures[name]}")
    print(report.table([figures]))


def _say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        worker()
    else:
        typer.run(main)
