"""What a dashboard costs a worker, and how much memory it takes: watched and not, in turn, then watched for long.

README.md beside this file says what is measured and how; `watched.py` measures it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from bench.contest import Course
from bench.synthetic import Synthetic
from bench.throughput import Say, broker
from bench.watched import OFFERED, Memory, Window, drained, interval, ratios, staged
from models.config import EvolutionConfig
from ops.errors import CliError
from ops.kafka import KAFKA_VERSION
from streams.cluster import Cluster


class Watched(msgspec.Struct, frozen=True):
    """Everything measured; `drained`: what the worker does alone, events/s."""

    drained: float
    windows: list[Window]
    memory: list[Memory]


async def run(
    cluster: Cluster,
    broker_pid: int,
    folder: Path,
    sizes: tuple[int, int, int],
    course: tuple[int, float, int, float, float],
    say: Say,
    model: EvolutionConfig | None = None,
) -> Watched:
    """`sizes`: events of the backlog, items, users; `course`: pairs, seconds of a window, viewers, soak, its rate."""
    pairs, seconds, viewers, soak, rate = course
    say("training a release")
    synthetic = Synthetic.of(sizes[1])
    trained = synthetic.release(model)
    trained.save(folder / "releases")
    windows: list[Window] = []
    async with staged(Course(cluster, broker_pid, folder, synthetic, trained, sizes[0], sizes[2], 0), viewers) as stage:
        say("what the worker does alone")
        alone = await drained(stage, sizes[0])
        for at in range(2 * pairs):
            say(f"window {at + 1} of {2 * pairs}")
            watched = at % 4 in (1, 2)  # off on on off: what drifts weighs on both alike
            windows.append(await stage.window(OFFERED * alone, seconds, watched=watched))
        memory = await stage.watch(rate, soak, say) if soak else []
    return Watched(alone, windows, memory)


def main(
    pairs: Annotated[int, typer.Option(min=0, help="Of windows: one with the dashboard, one without.")] = 16,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of a window.")] = 10.0,
    viewers: Annotated[int, typer.Option(min=1, help="Of live pages; besides, a page is loaded each second.")] = 5,
    soak: Annotated[float, typer.Option(min=0, help="Seconds that the memory is watched for, after the windows.")] = 0,
    rate: Annotated[float, typer.Option(min=1, help="Events a second meanwhile.")] = 500,
    events: Annotated[int, typer.Option(min=100, help="Of the backlog that tells the worker's limit.")] = 10_000,
    items: Annotated[int, typer.Option(min=200, help="Of the catalogue.")] = 10_000,
    users: Annotated[int, typer.Option(min=10, help="Users; each also has one event to warm up with.")] = 10_000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures here, too.")] = None,
) -> None:
    """Print the worker's throughput with the dashboard watched beside it without, and the dashboard's memory."""
    logging.getLogger("aiokafka.producer").setLevel(logging.ERROR)  # writing to a topic just made is retried: no news
    console = Console(width=None if sys.stdout.isatty() else 120)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as scratch, console.status("starting") as status:
        try:
            with broker(Path(scratch), status.update) as kafka:
                cluster, pid = Cluster(kafka.address or ""), kafka.status().pid or 0
                course = (pairs, seconds, viewers, soak, rate)
                found = asyncio.run(run(cluster, pid, Path(scratch), (events, items, users), course, status.update))
        except CliError as error:
            console.print(f"[red]error:[/] {error}")
            raise typer.Exit(1) from None
    conditions: dict[str, Any] = {
        "viewers": viewers,
        "items": items,
        "users": users,
        "cores": os.cpu_count(),
        "load_before": round(load_before, 2),
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
    }
    if found.windows:
        console.print(cost(found))
    if found.memory:
        console.print(course_of(found.memory))
    console.print(", ".join(f"{name} {value}" for name, value in conditions.items()))
    if json_file is not None:
        report = msgspec.json.encode({"conditions": conditions, "found": found})
        json_file.write_text(msgspec.json.format(report, indent=1).decode())


def cost(found: Watched) -> Table:
    """Means over the windows of each kind, and the ratio of throughputs."""
    values = ratios(found.windows)
    mean, low, high = interval(values)
    title = f"Watched / not: {mean:.3f} ({low:.3f} to {high:.3f}); pairs from {min(values):.3f} to {max(values):.3f}"
    made = Table(title=title)
    for name in ("", "not watched", "watched"):
        made.add_column(name, justify="right" if name else "left")
    for meaning, field, scale, digits in (
        ("events/s", "events_per_s", 1, 0),
        ("events that waited at the end", "lag", 1, 0),
        ("worker, % of a core", "worker_cpu", 100, 1),
        ("broker, % of a core", "broker_cpu", 100, 1),
        ("dashboard, % of a core", "dashboard_cpu", 100, 1),
        ("those who send and watch, % of a core", "audience_cpu", 100, 1),
    ):
        cells = [[getattr(one, field) for one in found.windows if one.watched == kind] for kind in (False, True)]
        made.add_row(meaning, *(f"{scale * sum(cell) / len(cell):,.{digits}f}" for cell in cells))
    return made


def course_of(memory: list[Memory], lines: int = 12) -> Table:
    """The dashboard's memory, every so many seconds."""
    made = Table(title=f"largest {max(one.rss_mb for one in memory):.0f} MiB")
    for name in ("s", "RSS, MiB", "files", "CPU s", "updates", "pages", "events"):
        made.add_column(name, justify="right")
    step = max(1, len(memory) // lines)
    for one in memory[step - 1 :: step]:
        cells = (one.at, one.rss_mb, one.files, one.cpu_s, one.updates, one.loads, one.events)
        made.add_row(*(f"{cell:,.0f}" for cell in cells))
    return made


if __name__ == "__main__":
    typer.run(main)
