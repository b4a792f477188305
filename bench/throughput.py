"""driftline beside the limit and a peer, in one run on one embedded broker: events/s, latency, CPU time, as ratios.

README.md beside this file says what each contender is and what is measured.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from bench.contest import Contender, Course, Figures, contest, worker
from bench.job import Plan, Written
from bench.synthetic import Synthetic
from models.config import EvolutionConfig
from ops.errors import CliError
from ops.kafka import KAFKA_VERSION, EmbeddedKafka
from ops.kafka.process import release, tie_to_this_process
from ops.settings import load as load_settings
from streams.cluster import Cluster
from streams.names import Topics

LIMIT, PLAIN = "limit", "driftline, plain top-k"
TOP_K = {
    "DRIFTLINE_POLICY_MARGINALS": "false",
    "DRIFTLINE_POLICY_TEMPERATURE": "0.001",
    "DRIFTLINE_POLICY_EPSILON": "0",
    "DRIFTLINE_POLICY_BETA": "0",
    "DRIFTLINE_POLICY_SWAPS": "0",
    "DRIFTLINE_ARRANGE_UNSURE": "1",
    "DRIFTLINE_ARRANGE_LOSS": "inf",
    "DRIFTLINE_ARRANGE_NEW_BONUS": "0",
    "DRIFTLINE_ARRANGE_DIVERSITY": "0",
    "DRIFTLINE_ARRANGE_CALIBRATION": "0",
    "DRIFTLINE_ARRANGE_FATIGUE": "0",
}
"""Nothing of what a slate is arranged, corrected and accounted for by: the best scores, in their order."""
GUESS = Plan(Written(1, 1500), Written(1, 4500), Written(1, 1000), Written(1, 3000))  # for warming the broker up
Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """How large a run is; `seconds` of each latency phase."""

    events: int
    items: int
    users: int
    seconds: float


async def run(
    cluster: Cluster,
    broker_pid: int,
    folder: Path,
    size: Size,
    say: Say,
    model: EvolutionConfig | None = None,
    ways: bool = False,
) -> dict[str, Figures]:
    """Measure every contender on a broker that runs, or only the `ways` of driftline; `folder` takes the release and
    logs."""
    say("training a release")
    synthetic = Synthetic.of(size.items)
    trained = synthetic.release(model)
    trained.save(folder / "releases")
    course = Course(cluster, broker_pid, folder, synthetic, trained, size.events, size.users, size.seconds)
    say("warming the broker up")
    await contest(course, counting(course, "warm-up", "bench.limit", GUESS), 100)
    say("measuring driftline")
    first, plan = await contest(course, driftline(course, "driftline", "on"))
    figures = {"driftline": first}
    others = [
        driftline(course, PLAIN, "top-k", **TOP_K),
        driftline(course, "driftline, marginals off", "off", DRIFTLINE_POLICY_MARGINALS="false"),
    ]
    others += (
        []
        if ways
        else [
            counting(course, LIMIT, "bench.limit", plan, faster=2),
            counting(course, "bare loop", "bench.bare", plan, faster=2),
            counting(course, "Faust table", "bench.faust_table", plan, transactions=False),
        ]
    )
    for contender in others:
        say(f"measuring {contender.name}")
        figures[contender.name], _ = await contest(course, contender, first.latency_at_events_per_s)
    return figures


def driftline(course: Course, name: str, short: str, **settings: str) -> Contender:
    """The worker as it is deployed, but for these settings."""
    return worker(course, name, Topics(f"driftline-{short}."), **settings)


def counting(
    course: Course, name: str, module: str, plan: Plan, *, faster: int = 1, transactions: bool = True
) -> Contender:
    """A contender that only counts and writes what `plan` says."""
    topics = Topics(f"{module.removeprefix('bench.')}-{name.replace(' ', '-')}.")
    arguments = (course.cluster.bootstrap_servers, topics.prefix, msgspec.json.encode(plan).decode())
    return Contender(name, topics, module, arguments, faster=faster, transactions=transactions)


@contextmanager
def broker(folder: Path, say: Say) -> Iterator[EmbeddedKafka]:
    """An embedded Kafka for as long as the block lasts, whatever ends it."""
    kafka = EmbeddedKafka(folder / "broker", load_settings().data_dir / "kafka" / "jars")
    kafka.start(say)
    guard = tie_to_this_process(kafka.status().pid or 0)
    try:
        yield kafka
    finally:
        release(guard)
        kafka.purge(force_stop=True)


def main(
    events: Annotated[int, typer.Option(min=100, help="Events of the backlog.")] = 20_000,
    items: Annotated[int, typer.Option(min=200, help="Items of the catalogue.")] = 10_000,
    users: Annotated[int, typer.Option(min=10, help="Users; each also has one event to warm up with.")] = 10_000,
    seconds: Annotated[float, typer.Option(min=1, help="Length of each latency phase.")] = 10.0,
    ways: Annotated[
        bool, typer.Option("--ways", help="Only driftline: everything on, a plain top-k, no marginals.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here, too.")] = None,
) -> None:
    """Print a table of throughput, latency and CPU time, each beside the limit."""
    logging.getLogger("aiokafka.producer").setLevel(logging.ERROR)  # writing to a topic just made is retried: no news
    console = Console(width=None if sys.stdout.isatty() else 120)
    load_before = os.getloadavg()[0]
    size = Size(events, items, users, seconds)
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as scratch, console.status("starting") as status:
        try:
            with broker(Path(scratch), status.update) as kafka:
                pid = kafka.status().pid or 0
                course = run(Cluster(kafka.address or ""), pid, Path(scratch), size, status.update, ways=ways)
                figures = asyncio.run(course)
        except CliError as error:
            console.print(f"[red]error:[/] {error}")
            raise typer.Exit(1) from None
    conditions: dict[str, object] = {
        "events": events,
        "items": items,
        "users": users,
        "cores": os.cpu_count(),
        "load_before": round(load_before, 2),
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
    }
    console.print(table(figures))
    console.print(", ".join(f"{name} {value}" for name, value in conditions.items()))
    if json_file is not None:
        json_file.write_text(msgspec.json.format(msgspec.json.encode(report(figures, conditions)), indent=1).decode())


def report(figures: dict[str, Figures], conditions: dict[str, object]) -> dict[str, object]:
    """Everything measured, each figure also as its ratio to the limit's, or without one to that of a plain top-k."""
    limit = msgspec.structs.asdict(figures.get(LIMIT, figures[PLAIN]))
    contenders = {
        name: {
            "figures": one,
            "to_limit": {
                field: value / limit[field]
                for field, value in msgspec.structs.asdict(one).items()
                if value is not None and limit[field]
            },
        }
        for name, one in figures.items()
    }
    return {"conditions": conditions, "contenders": contenders}


def table(figures: dict[str, Figures]) -> Table:
    """A line for each figure, a column for each contender; in brackets the ratio to the limit's or a plain top-k's."""
    measure = LIMIT if LIMIT in figures else PLAIN
    rate = figures[measure].latency_at_events_per_s
    made = Table(title=f"In brackets: times the figure of {measure}")
    made.add_column("")
    for name in figures:
        made.add_column(name, justify="right")
    for field, meaning, digits in (
        ("events_per_s", "events/s, draining a backlog", 0),
        ("slates_per_event", "slates for an event", 2),
        ("events_per_transaction", "events in a transaction", 0),
        ("bytes_per_event", "bytes written for an event", 0),
        ("cpu_us_per_event", "CPU µs for an event", 0),
        ("broker_cpu_us_per_event", "broker's CPU µs for an event", 0),
        ("latency_p50_ms", f"latency p50, ms, at {rate:,.0f} events/s", 1),
        ("latency_p99_ms", "latency p99, ms", 1),
    ):
        limit = getattr(figures[measure], field)
        made.add_row(meaning, *(_beside(getattr(one, field), limit, digits) for one in figures.values()))
    return made


def _beside(value: float | None, limit: float, digits: int) -> str:
    if value is None:
        return "–"
    return f"{value:,.{digits}f} ({value / limit:.2f})" if limit else f"{value:,.{digits}f}"


if __name__ == "__main__":
    typer.run(main)
