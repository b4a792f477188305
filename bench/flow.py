"""Flow control: a worker is offered twice what it can sustain, then nothing: what grows, what does not, for how long.

README.md beside this file says what is measured and how; `overload.py` measures it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from bench.contest import Course
from bench.overload import OVERLOAD, Flow, flow
from bench.synthetic import Synthetic
from bench.throughput import Say, broker
from models.config import EvolutionConfig
from ops.errors import CliError
from ops.kafka import KAFKA_VERSION
from ops.settings import load as load_settings
from streams.cluster import Cluster


async def run(
    cluster: Cluster,
    broker_pid: int,
    folder: Path,
    sizes: tuple[int, int, int, float],
    batches: Sequence[int],
    say: Say,
    model: EvolutionConfig | None = None,
) -> list[Flow]:
    """Overload a worker for each of `batches`; `sizes`: events of the backlog, items, users, seconds of overload."""
    say("training a release")
    synthetic = Synthetic.of(sizes[1])
    trained = synthetic.release(model)
    trained.save(folder / "releases")
    course = Course(cluster, broker_pid, folder, synthetic, trained, sizes[0], sizes[2], sizes[3])
    flows = []
    for batch in batches:
        say(f"overloading a worker whose transactions take at most {batch} events")
        flows.append(await flow(course, batch))
    return flows


def main(
    seconds: Annotated[float, typer.Option(min=1, help="Of overload.")] = 120.0,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Most events of one transaction; may be repeated. Default: setting's."),
    ] = None,
    events: Annotated[int, typer.Option(min=100, help="Of the backlog that tells the sustainable rate.")] = 20_000,
    items: Annotated[int, typer.Option(min=200, help="Of the catalogue.")] = 10_000,
    users: Annotated[int, typer.Option(min=10, help="Users; the fewer, the more events share a slate.")] = 10_000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures and samples here, too.")] = None,
) -> None:
    """Print what happens at twice the sustainable rate; the exit status is 1 when an event was lost or repeated."""
    logging.getLogger("aiokafka.producer").setLevel(logging.ERROR)  # writing to a topic just made is retried: no news
    console = Console(width=None if sys.stdout.isatty() else 140)
    batches = batch or [load_settings().engine_max_batch_records]
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="driftline-flow-") as scratch, console.status("starting") as status:
        try:
            with broker(Path(scratch), status.update) as kafka:
                cluster, pid = Cluster(kafka.address or ""), kafka.status().pid or 0
                sizes = (events, items, users, seconds)
                flows = asyncio.run(run(cluster, pid, Path(scratch), sizes, batches, status.update))
        except CliError as error:
            console.print(f"[red]error:[/] {error}")
            raise typer.Exit(1) from None
    conditions: dict[str, Any] = {
        "seconds": seconds,
        "events": events,
        "items": items,
        "users": users,
        "cores": os.cpu_count(),
        "load_before": round(load_before, 2),
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
    }
    for one in flows:
        console.print(course_of(one))
    console.print(table(flows))
    console.print(", ".join(f"{name} {value}" for name, value in conditions.items()))
    if json_file is not None:
        report = msgspec.json.encode({"conditions": conditions, "flows": flows})
        json_file.write_text(msgspec.json.format(report, indent=1).decode())
    if any(one.lost or one.repeated for one in flows):
        raise typer.Exit(1)


def table(flows: Sequence[Flow]) -> Table:
    """A line for each figure, a column for each worker."""
    made = Table(title=f"{OVERLOAD:g} × the sustainable rate. Of three figures: draining / overloaded / catching up")
    made.add_column("most events of a transaction")
    for one in flows:
        made.add_column(str(one.batch), justify="right")
    for name, field, digits in (
        ("events/s", "events_per_s", 0),
        ("events in a transaction", "events_per_transaction", 0),
        ("slates for an event", "slates_per_event", 2),
        ("CPU µs for an event", "cpu_us_per_event", 0),
    ):
        paces = [(one.drain, one.overload, one.catching_up) for one in flows]
        made.add_row(name, *(" / ".join(f"{getattr(pace, field):,.{digits}f}" for pace in three) for three in paces))
    made.add_row("offered, events/s", *(f"{one.offered:,.0f}" for one in flows))
    made.add_row("largest lag, events", *(f"{one.lag:,}" for one in flows))
    made.add_row(
        "worker's RSS, MB, before / largest", *(f"{one.rss_mb_before:,.0f} / {one.rss_mb:,.0f}" for one in flows)
    )
    made.add_row("latency p50 at the overload's end, ms", *(f"{one.latency_p50_ms:,.0f}" for one in flows))
    made.add_row("caught up after, s", *(f"{one.catch_up_s:,.1f}" for one in flows))
    made.add_row("lost / repeated, by the audit", *(f"{one.lost} / {one.repeated}" for one in flows))
    return made


def course_of(one: Flow, lines: int = 12) -> Table:
    """How it went, every so many seconds."""
    made = Table(title=f"at most {one.batch} events a transaction")
    for name in ("s", "lag, events", "events/s", "events a transaction", "slates an event", "RSS MB", "latency p50 ms"):
        made.add_column(name, justify="right")
    step = max(1, len(one.samples) // lines)
    for before, sample in zip(one.samples[::step], one.samples[step::step], strict=False):
        events = sample.answered - before.answered
        made.add_row(
            f"{sample.at:.0f}",
            f"{sample.lag:,}",
            f"{events / (sample.at - before.at):,.0f}",
            f"{events / max(1, sample.transactions - before.transactions):,.0f}",
            f"{(sample.slates - before.slates) / max(1, events):.2f}",
            f"{sample.rss_mb:,.0f}",
            "–" if sample.latency_p50_ms is None else f"{sample.latency_p50_ms:,.0f}",
        )
    return made


if __name__ == "__main__":
    typer.run(main)
