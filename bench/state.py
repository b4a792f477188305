"""User states in memory and on disk, side by side in one run: python -m bench.state --users 1000000.

A changelog of states of realistic size on an embedded Kafka; then processes of their own that take all partitions
over, as a worker does: from the changelog alone, from what is on disk, after a kill, and with a tail to catch up with.
README.md and docs/state.md say what the figures mean.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.state_probe import Figures, Plan
from bench.throughput import broker
from ops.errors import CliError
from ops.kafka import KAFKA_VERSION
from streams.cluster import Cluster
from streams.names import Topics
from streams.state import EVENT, OpenSlate, UserState, encode_state
from streams.topics import create

PARTITIONS = 4
ITEMS = 100_000
MOST_EVENTS = 100  # of a user's history, as `state_events` has it; a user has 1 to this many
WAITING = 0.05  # share of users with open slates
TAIL = 0.01  # share of users who change while the worker is down
_COSTS = {"cold µs": "cold_us", "Zipf µs": "zipf_us", "hot µs": "hot_us", "take µs": "take_us"}
_CHUNK = 5_000
_BATCH_BYTES = 2**19
_START = 1_760_000_000_000
Say = Callable[[str], None]


def histories(users: int, random: np.random.Generator) -> Iterator[bytes]:
    """Encoded states of `users` users: events with items of a catalogue, ids, and for some of them open slates."""
    hashes = random.integers(0, 2**63, ITEMS, np.uint64)
    popularity = np.arange(1, ITEMS + 1) ** -0.8
    popularity /= popularity.sum()
    for first in range(0, users, _CHUNK):
        counts = random.integers(1, MOST_EVENTS + 1, min(_CHUNK, users - first))
        rings = np.zeros(int(counts.sum()), EVENT)
        rings["item"] = hashes[random.choice(ITEMS, len(rings), p=popularity)]
        rings["time"] = _START + np.cumsum(random.integers(1_000, 3_600_000, len(rings)))
        rings["weight"] = 1.0
        rings["action"] = random.integers(0, 8, len(rings))
        waiting = random.random(len(counts)) < WAITING
        yield from _states(rings, counts, waiting, random)


def _states(
    rings: NDArray[np.void], counts: NDArray[np.int64], waiting: NDArray[np.bool_], random: np.random.Generator
) -> Iterator[bytes]:
    end = 0
    for count, waits in zip(counts.tolist(), waiting.tolist(), strict=True):
        ring = rings[end : end + count].tobytes()
        end += count
        state = UserState(events=count, offset=end, last_time=_START, ring=ring, ids=random.bytes(8 * min(count, 32)))
        if waits:
            state.slates = [_slate(number) for number in range(3)]
        yield encode_state(state)


def _slate(number: int) -> OpenSlate:
    shares = [0.1] * 10
    items = [f"item-{number}-{at}" for at in range(10)]
    return OpenSlate(f"0-{number}", _START, _START, items, conditional=shares, propensity=shares, inclusion=shares)


async def write(cluster: Cluster, topic: str, users: range, seed: int = 0) -> int:
    """Write a state of each user to the changelog, user u to partition u mod `PARTITIONS`; return their bytes."""
    producer = cluster.producer(max_batch_size=_BATCH_BYTES, linger_ms=5)
    await producer.start()
    size = 0
    try:
        batches = [producer.create_batch() for _ in range(PARTITIONS)]
        for user, state in zip(users, histories(len(users), np.random.default_rng(seed)), strict=True):
            partition, key = user % PARTITIONS, f"user-{user}".encode()
            size += len(state)
            if batches[partition].append(key=key, value=state, timestamp=None) is None:
                await producer.send_batch(batches[partition], topic, partition=partition)
                batches[partition] = producer.create_batch()
                batches[partition].append(key=key, value=state, timestamp=None)
        for partition, batch in enumerate(batches):
            await producer.send_batch(batch, topic, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()
    return size


def probe(plan: Plan) -> Figures:
    """Run a probe in a process of its own, and kill it unless it leaves by itself."""
    arguments = [sys.executable, "-m", "bench.state_probe", msgspec.json.encode(plan).decode()]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        if plan.leave:
            process.wait()
        process.kill()
        process.communicate()
        if not line:
            errors.seek(0)
            raise RuntimeError(f"the probe failed: {errors.read()[-2000:]}")
    return msgspec.json.decode(line, type=Figures)


async def run(cluster: Cluster, folder: Path, users: int, cache_mb: int, say: Say) -> tuple[dict[str, Figures], float]:
    """Measure everything on a broker that runs; return the figures by row, and the mean bytes of a state."""
    topics = Topics("bench.")
    await create(cluster, topics, PARTITIONS)
    say(f"writing {users} states")
    size = await write(cluster, topics.state, range(users))
    memory = Plan(cluster.bootstrap_servers, topics.state, PARTITIONS, users, cache_mb=cache_mb)
    disk = msgspec.structs.replace(memory, folder=str(folder))
    figures: dict[str, Figures] = {}

    async def add(name: str, plan: Plan, **changes: bool) -> None:
        say(name)
        figures[name] = await asyncio.to_thread(probe, msgspec.structs.replace(plan, **changes))

    await add("memory, changelog alone", memory, measure=True)
    await add("disk, changelog alone", disk, measure=True)
    await add("disk, as it was left", disk, measure=True)
    await add("disk, left and then killed", disk, leave=False)
    await add("disk, after the kill", disk)
    await write(cluster, topics.state, range(round(users * TAIL)), seed=1)
    await add(f"disk, {TAIL:.0%} changed meanwhile", disk)
    return figures, size / users


def table(figures: dict[str, Figures]) -> Table:
    """The figures, a row for each start."""
    table = Table("start")
    for heading in ("restart s (CPU)", "records", "windows s", "RSS MiB", "after use", "peak", "disk MiB", *_COSTS):
        table.add_column(heading, justify="right")
    base = next(iter(figures.values()))
    for name, one in figures.items():
        table.add_row(
            name,
            f"{one.restart_s:.2f} ({one.restart_cpu_s:.2f})",
            str(one.records),
            f"{one.windows_s:.2f}",
            f"{one.rss_mib:.0f}",
            f"{one.rss_end_mib:.0f}",
            f"{one.peak_mib:.0f}",
            f"{one.disk_mib:.0f}",
            *(_ratio(getattr(one, what), getattr(base, what)) for what in _COSTS.values()),
        )
    return table


def _ratio(value: float, base: float) -> str:
    return f"{value:.2f} ({value / base:.0f}×)" if value else ""


def main(
    users: Annotated[int, typer.Option(min=100, help="Users, each with a state.")] = 1_000_000,
    cache_mb: Annotated[int, typer.Option(min=16, help="Memory of the stores on disk, as state_cache_mb.")] = 256,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here, too.")] = None,
) -> None:
    """Print a table: restarts, memory, and what a lookup and a change cost beside a dict's."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    load_before = os.getloadavg()[0]
    logging.getLogger("aiokafka.producer").setLevel(logging.ERROR)  # writing to a topic just made is retried: no news
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as scratch, console.status("starting") as status:
        try:
            with broker(Path(scratch), status.update) as kafka:
                cluster = Cluster(kafka.address or "")
                figures, size = asyncio.run(run(cluster, Path(scratch) / "state", users, cache_mb, status.update))
        except CliError as error:
            console.print(f"[red]error:[/] {error}")
            raise typer.Exit(1) from None
    conditions: dict[str, object] = {
        "users": users,
        "mean state bytes": round(size),
        "cache MiB": cache_mb,
        "partitions": PARTITIONS,
        "cores": os.cpu_count(),
        "load before": round(load_before, 2),
        "load after": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
    }
    console.print(table(figures))
    console.print(f"a process of its own before any state: {next(iter(figures.values())).base_mib:.0f} MiB")
    console.print(", ".join(f"{name} {value}" for name, value in conditions.items()))
    if json_file is not None:
        report = {"figures": figures, "conditions": conditions}
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))


if __name__ == "__main__":
    typer.run(main)
