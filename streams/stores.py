"""All of a worker's stores on disk: their folders, the memory they share, and the upkeep that goes on beside them.

A partition's store lies in `<folder>/<topic>-<partition>/slot-<n>`: the next worker of this machine that owns the
partition goes on with it. Upkeep writes out what is only in memory for long, rewrites files with bytes of deleted
states, and removes what was left behind for so long that it would be rebuilt anyway. Knows nothing of what states mean
or of Kafka.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from streams.slots import Slot, sweep, take_slot
from streams.store import Mark, Store
from streams.store_disk import DiskStore, peek
from streams.store_memory import Memory

log = structlog.get_logger(__name__)

UPKEEP_SECONDS = 30.0
SWEEP_SECONDS = 600.0


def check_folder(folder: Path) -> None:
    """Raise OSError unless stores can be kept in `folder`: made, locked and written. It is made if missing."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryFile(dir=folder) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(b"x")
        file.flush()
    for path in [path for path in folder.iterdir() if path.is_dir()]:
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


@dataclass(frozen=True, slots=True)
class DiskConfig:
    """Where and how large.

    Attributes:
        folder: of this machine's disk, shared by all workers of one deployment and by no other.
        topic: the changelog's name.
        memory_mib: for all stores of a worker together.
        keep_seconds: a store that was out of touch with its changelog for longer is not used any more.
    """

    folder: Path
    topic: str
    memory_mib: int = 256
    keep_seconds: float = 12 * 3600.0


class DiskStores:
    """Opens the stores of a worker's partitions. `mark`: see `streams.store.Store.marked`."""

    def __init__(self, config: DiskConfig, mark: Mark | None = None) -> None:
        self._config = config
        self._mark = mark
        self._memory = Memory.of(config.memory_mib)
        self._stores: list[DiskStore] = []
        self._upkeep: threading.Thread | None = None
        self._starting = threading.Lock()

    def open(self, partition: int) -> Store:
        """Return the partition's store as it was last left on this machine. Raises OSError, `StoreDamaged`."""
        slot = take_slot(self._config.folder / f"{self._config.topic}-{partition}")
        try:
            store = DiskStore(slot, self._memory, self._mark, self._config.keep_seconds)
        except BaseException:
            slot.release()
            raise
        with self._starting:
            self._stores.append(store)
            if self._upkeep is None:
                self._upkeep = threading.Thread(target=self._keep_up, name="store-upkeep", daemon=True)
                self._upkeep.start()
        return store

    def _keep_up(self) -> None:
        """Run until no store is open any more."""
        next_sweep = time.monotonic()
        while self._some_open():
            if time.monotonic() >= next_sweep:
                next_sweep = time.monotonic() + SWEEP_SECONDS
                self._sweep()
            for store in self._stores:
                if not store.closed:
                    _look_after(store)
            time.sleep(UPKEEP_SECONDS)

    def _some_open(self) -> bool:
        with self._starting:
            self._stores = [store for store in self._stores if not store.closed]
            if not self._stores:
                self._upkeep = None
            return bool(self._stores)

    def _sweep(self) -> None:
        try:
            for path in sweep(self._config.folder, self._config.keep_seconds):
                log.info("removed a local store that nobody has used for long", path=str(path))
        except Exception as error:  # whatever it is, nobody else would do the rounds after this one
            log.warning("old local stores are not removed yet; trying again", error=repr(error))


def _look_after(store: DiskStore) -> None:
    """Write out what is only in memory for long, and get deleted states off the disk; never raises."""
    try:
        store.flush_old()
        if store.to_scrub:
            store.scrub()
    except Exception as error:  # as in `_sweep`
        if not store.closed:  # else it was given up in the middle, and the next owner begins again
            log.warning("upkeep of a local store failed; trying again", to_scrub=store.to_scrub, error=repr(error))


@dataclass(frozen=True, slots=True)
class Copy:
    """A store on this machine's disk whose files have, or may have, a key's state.

    Attributes:
        path: its folder.
        used: seconds since the epoch when a worker last wrote to it.
        has: its files have the key's state; else they may have bytes of deleted ones, and the key's may be among them.
        gone_by: seconds since the epoch when the bytes are gone by, as long as a worker runs that uses this folder;
            None: not before the key's deletion reaches the store through its changelog.
    """

    path: Path
    used: float
    has: bool
    gone_by: float | None


def find_copies(folder: Path, key: bytes, keep_seconds: float) -> list[Copy]:
    """The stores below `folder` whose files have a state of `key`, or may have its bytes, also those in use.

    What a worker has only in memory, up to about `store_disk.FLUSH_SECONDS` old, is not seen. Raises `StoreDamaged`
    for a store that cannot be read.
    """
    found = [_copy(lock, key, keep_seconds) for lock in sorted(folder.glob("*/slot-*.lock"))]
    return [copy for copy in found if copy is not None]


def _copy(lock: Path, key: bytes, keep_seconds: float) -> Copy | None:
    path, used = lock.with_suffix(""), lock.stat().st_mtime
    if not path.exists():
        return None
    about, has = peek(path, key)
    if not has and not about.deleted:
        return None
    slot = Slot.hold(lock)
    if slot is not None:  # in nobody's use
        slot.release()
        return Copy(path, used, has, used + keep_seconds + SWEEP_SECONDS)
    return Copy(path, used, has, None if has else about.deleted + 2 * UPKEEP_SECONDS)
