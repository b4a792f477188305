"""One process that takes all partitions' states over, as a worker does, and measures: python -m bench.state_probe PLAN.

Writes one line of JSON and, unless told to leave orderly, waits to be killed. Knows nothing of who wrote the states.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import psutil
import structlog
from aiokafka import TopicPartition
from msgspec import Struct

from streams.cluster import Cluster
from streams.fold import Folder
from streams.restore import restore
from streams.state import StateLimits, waits
from streams.store import MemoryStores, Store, Stores
from streams.stores import DiskConfig, DiskStores
from streams.validation import EventRules

LOOKUPS = 20_000
HOT = 1_000
AT_ONCE = 64  # states of a batch
ZIPF = 0.99
_MIB = 2**20


class Plan(Struct):
    """`folder`: of stores on disk; None: in memory. `measure`: lookups and changes, too. `leave`: close the stores."""

    bootstrap: str
    topic: str
    partitions: int
    users: int
    folder: str | None = None
    cache_mb: int = 256
    measure: bool = False
    leave: bool = True


class Figures(Struct):
    """Seconds, records, MiB, and µs; `rss_mib` when the states were there, `rss_end_mib` after everything.

    CPU time (`_cpu_s`, and the µs but `cold_us`) is what other load disturbs least; `cold_us` waits for the disk.
    """

    restart_s: float
    restart_cpu_s: float
    windows_s: float
    records: int
    states: int
    waiting: int
    base_mib: float
    rss_mib: float
    rss_end_mib: float = 0.0
    peak_mib: float = 0.0
    disk_mib: float = 0.0
    cold_us: float = 0.0
    zipf_us: float = 0.0
    hot_us: float = 0.0
    take_us: float = 0.0


def main() -> None:
    """Measure and say so."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(probe(msgspec.json.decode(sys.argv[1], type=Plan)))


async def probe(plan: Plan) -> None:
    """Take over, measure, print, and leave or wait for the kill."""
    base = _rss()
    stores: Stores = MemoryStores(waits)
    if plan.folder is not None:
        stores = DiskStores(DiskConfig(Path(plan.folder), plan.topic, plan.cache_mb), waits)
    started, cpu_before = time.perf_counter(), time.process_time()
    opened = [stores.open(partition) for partition in range(plan.partitions)]
    cluster = Cluster(plan.bootstrap)
    sources = [TopicPartition(plan.topic, partition) for partition in range(plan.partitions)]
    records = await asyncio.gather(
        *(restore(cluster, source, store) for source, store in zip(sources, opened, strict=True))
    )
    restored, cpu = time.perf_counter(), time.process_time()
    folders = [Folder(partition, StateLimits(100), EventRules(("view",))) for partition in range(plan.partitions)]
    for folder, store in zip(folders, opened, strict=True):
        folder.restored(store)
    figures = Figures(
        restart_s=restored - started,
        restart_cpu_s=cpu - cpu_before,
        windows_s=time.perf_counter() - restored,
        records=sum(records),
        states=sum(map(len, opened)),
        waiting=sum(len(folder._waiting) for folder in folders),
        base_mib=base,
        rss_mib=_rss(),
    )
    if plan.measure:
        measure(plan, opened, figures)
    figures.disk_mib = _size(plan.folder)
    figures.rss_end_mib = _rss()
    figures.peak_mib = _peak()
    print(msgspec.json.encode(figures).decode(), flush=True)
    if not plan.leave:
        await asyncio.sleep(3600)
    for store in opened:
        store.close()


def measure(plan: Plan, opened: Sequence[Store], figures: Figures) -> None:
    """Fill in what a lookup and a change cost."""
    random = np.random.default_rng(1)
    if plan.folder is not None:
        _out_of_page_cache(Path(plan.folder))
    uniform = random.choice(plan.users, min(LOOKUPS, plan.users), replace=False)
    figures.cold_us = _lookups(opened, uniform.tolist(), time.perf_counter)
    weight = np.arange(1, plan.users + 1) ** -ZIPF
    zipf = random.permutation(plan.users)[random.choice(plan.users, 3 * LOOKUPS, p=weight / weight.sum())].tolist()
    _lookups(opened, zipf[:-LOOKUPS])
    figures.zipf_us = _lookups(opened, zipf[-LOOKUPS:])
    hot = uniform[:HOT].tolist()
    _lookups(opened, hot)
    figures.hot_us = _lookups(opened, hot * (LOOKUPS // HOT))
    changed = zipf[-LOOKUPS:]
    batches = [
        (store, {_key(user): store[_key(user)] for user in batch})
        for partition, store in enumerate(opened)
        for batch in _in_batches([user for user in changed if user % plan.partitions == partition])
    ]
    started = time.thread_time()
    for store, batch in batches:
        store.take(batch, store.position)
    figures.take_us = (time.thread_time() - started) / sum(len(batch) for _, batch in batches) * 1e6


def _lookups(opened: Sequence[Store], users: Sequence[int], clock: Callable[[], float] = time.thread_time) -> float:
    """µs a lookup, by `clock`."""
    gets: list[Callable[[bytes], bytes | None]] = [store.get for store in opened]
    asked = [(gets[user % len(opened)], _key(user)) for user in users]
    started = clock()
    for get, key in asked:
        if get(key) is None:
            raise RuntimeError(f"{key!r} is missing")
    return (clock() - started) / len(users) * 1e6


def _in_batches(users: Sequence[int]) -> list[Sequence[int]]:
    return [users[start : start + AT_ONCE] for start in range(0, len(users), AT_ONCE)]


def _out_of_page_cache(folder: Path) -> None:
    """Ask the system to forget the files, so that a lookup that misses the store's cache reads the disk."""
    for path in folder.rglob("*.sst"):
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def _size(folder: str | None) -> float:
    files = [path for path in Path(folder).rglob("*") if path.is_file()] if folder else []
    return sum(path.stat().st_size for path in files) / _MIB


def _peak() -> float:
    """The most that was resident; what `getrusage` says may be the parent's, from before the fork."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def _rss() -> float:
    return psutil.Process().memory_info().rss / _MIB


def _key(user: int) -> bytes:
    return f"user-{user}".encode()


if __name__ == "__main__":
    main()
