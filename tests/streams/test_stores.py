"""All stores of a worker: one bound for their memory, nothing left for ever, and who still has a user's bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams import store_disk
from streams import stores as module
from streams.slots import Slot, sweep, take_slot
from streams.store import StoreDamaged
from streams.store_disk import DiskStore, peek
from streams.stores import DiskConfig, DiskStores, find_copies


def open_stores(folder: Path, **config: object) -> DiskStores:
    """Stores whose states all have a mark, which holds the key as well."""
    return DiskStores(DiskConfig(folder, "state", memory_mib=16, **config), lambda state: b"mark")  # type: ignore[arg-type]


def opened(stores: DiskStores, partition: int) -> DiskStore:
    store = stores.open(partition)
    assert isinstance(store, DiskStore)
    return store


def bytes_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def fill(store: DiskStore, count: int = 2000) -> None:
    store.take({b"other-%d" % number: os.urandom(1000) for number in range(count)}, store.position + count)
    store._flush()


def test_what_is_deleted_leaves_the_files(tmp_path: Path):
    """Also the id: RocksDB writes keys into its manifest and its log, and no compaction takes them out there."""
    store = opened(open_stores(tmp_path), 0)
    state = os.urandom(600)
    fill(store)
    store.take({b"erased-user": state}, 5000)
    fill(store)
    assert state in bytes_on_disk(tmp_path)
    assert b"erased-user" in bytes_on_disk(tmp_path)
    store.take({b"erased-user": None}, 10_000)
    store._flush()
    assert store.to_scrub
    assert state in bytes_on_disk(tmp_path)
    store.scrub()
    assert not store.to_scrub
    assert state not in bytes_on_disk(tmp_path)
    assert b"erased-user" not in bytes_on_disk(tmp_path)
    assert len(store) == 2000
    store.close()


def test_what_was_deleted_before_a_kill_leaves_the_files_too(tmp_path: Path):
    store = opened(open_stores(tmp_path), 0)
    state = os.urandom(600)
    store.take({b"erased-user": state}, 1)
    fill(store)
    store.take({b"erased-user": None}, 5000)
    store.close()  # before any scrub
    again = opened(open_stores(tmp_path), 0)
    assert again.to_scrub
    assert state in bytes_on_disk(tmp_path)
    again.scrub()
    assert state not in bytes_on_disk(tmp_path)
    again.close()


def test_what_is_overwritten_leaves_the_files_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Who is erased and comes back in the same batch is overwritten, not deleted."""
    monkeypatch.setattr(store_disk, "_OLD_FILES_S", {"ttl": "1", "periodic_compaction_seconds": "1"})
    store = opened(open_stores(tmp_path), 0)
    before = os.urandom(600)
    store.take({b"user": before}, 1)
    fill(store, 1000)
    store._opened.compact_range(None, None)
    store.take({b"user": b"after"}, 2000)
    fill(store, 10)
    assert before in bytes_on_disk(tmp_path)
    while before in bytes_on_disk(tmp_path):  # the test's timeout is the bound
        time.sleep(0.3)
        fill(store, 10)
    assert store[b"user"] == b"after"
    store.close()


def test_upkeep_scrubs_and_sweeps_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "UPKEEP_SECONDS", 0.02)
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.04)
    left = opened(open_stores(tmp_path), 7)
    left.close()
    os.utime(tmp_path / "state-7" / "slot-0.lock", (1, 1))
    stores = open_stores(tmp_path, keep_seconds=3600.0)
    store = opened(stores, 0)
    store.take({b"a": b"1"}, 1)
    store.take({b"a": None}, 2)
    while store.to_scrub or (tmp_path / "state-7" / "slot-0").exists():  # the test's timeout is the bound
        time.sleep(0.01)
    store.close()
    while stores._upkeep is not None:
        time.sleep(0.01)


def test_upkeep_outlives_what_fails_in_one_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nobody would scrub and sweep for the rest of the worker's life: one full disk, or one file gone, is enough."""
    monkeypatch.setattr(module, "UPKEEP_SECONDS", 0.02)
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.0)
    failed: list[str] = []

    def failing_once(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if name in failed:
                return real(*arguments)
            failed.append(name)
            raise OSError("no space left on device")

        return call

    monkeypatch.setattr(module, "sweep", failing_once("sweep", sweep))
    monkeypatch.setattr(Slot, "note", failing_once("note", Slot.note))
    monkeypatch.setattr(store_disk, "FLUSH_SECONDS", -1.0)
    left = tmp_path / "state-7" / "slot-0"
    left.mkdir(parents=True)
    left.with_suffix(".lock").touch()
    os.utime(left.with_suffix(".lock"), (1, 1))
    store = opened(open_stores(tmp_path, keep_seconds=3600.0), 0)
    monkeypatch.setattr(store, "_unwritten", True)
    while left.exists() or store._unwritten:  # the test's timeout is the bound
        time.sleep(0.01)
    assert sorted(failed) == ["note", "sweep"]
    store.close()


def test_what_is_only_in_memory_is_written_out_though_nothing_more_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "UPKEEP_SECONDS", 0.02)
    store = opened(open_stores(tmp_path), 0)
    store._flush()
    store.take({b"a": b"1"}, 1)
    path = tmp_path / "state-0" / "slot-0"
    assert not peek(path, b"a")[1]
    monkeypatch.setattr(store_disk, "FLUSH_SECONDS", 0.0)  # later
    while not peek(path, b"a")[1]:  # the test's timeout is the bound
        time.sleep(0.01)
    store.close()


def test_closing_ends_a_scrub_in_the_middle(tmp_path: Path):
    store = opened(open_stores(tmp_path), 0)
    for _ in range(8):
        fill(store, 4000)
    store.take({b"other-1": None}, 10**6)
    raised: list[Exception] = []

    def scrub() -> None:
        try:
            store.scrub()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=scrub)
    thread.start()
    store.close()
    thread.join()
    assert all(isinstance(error, StoreDamaged) for error in raised)
    again = opened(open_stores(tmp_path), 0)
    assert (again.position, len(again)) == (10**6, 3999)
    again.close()


def test_sweep_removes_only_what_nobody_uses_for_long(tmp_path: Path):
    stores = open_stores(tmp_path)
    used, left, fresh = (opened(stores, partition) for partition in range(3))
    left.close()
    fresh.close()
    for partition in (0, 1):
        os.utime(tmp_path / f"state-{partition}" / "slot-0.lock", (time.time() - 100, time.time() - 100))
    assert sweep(tmp_path, 50) == [tmp_path / "state-1" / "slot-0"]
    assert sweep(tmp_path, 50) == []
    used.take({b"a": b"1"}, 1)
    assert used[b"a"] == b"1"
    used.close()


def _property(store: DiskStore, name: str) -> int:
    value = store._opened.property_int_value(f"rocksdb.{name}")
    assert value is not None
    return int(value)


def test_all_stores_share_one_bound(tmp_path: Path):
    """16 MiB for three stores: what was read and what is not written out yet fit into it together."""
    stores = open_stores(tmp_path)
    three = [opened(stores, partition) for partition in range(3)]
    for _ in range(25):
        for store in three:
            store.take({os.urandom(8): os.urandom(2000) for _ in range(200)}, 1)
    for store in three:
        for key in list(store):
            store.get(key)
    memory = stores._memory
    assert memory.cache.get_usage() <= 20 * 2**20  # of 30 written: what is in use just now is not turned out
    assert memory.buffers.get_usage() > 0
    assert sum(_property(store, "cur-size-all-mem-tables") for store in three) <= 8 * 2**20
    assert sum(_property(store, "estimate-table-readers-mem") for store in three) <= 100_000  # outside the bound
    for store in three:
        store.close()


WORKER = """
import sys, time
from pathlib import Path
from streams.stores import DiskConfig, DiskStores
store = DiskStores(DiskConfig(Path(sys.argv[1]), "state", memory_mib=16)).open(0)
store.take({b"kept": b"1", b"erased": b"2"}, 5)
store._flush()
print("flushed", flush=True)
sys.stdin.readline()
store.take({b"erased": None}, 6)
store._flush()
print("erased", flush=True)
sys.stdin.readline()
"""


def test_finds_who_has_a_users_bytes_also_while_a_worker_uses_them(tmp_path: Path):
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdout.readline()
    path = tmp_path / "state-0" / "slot-0"
    (copy,) = find_copies(tmp_path, b"erased", 100)
    assert (copy.path, copy.has, copy.gone_by) == (path, True, None)
    assert find_copies(tmp_path, b"nobody", 100) == []
    worker.stdin.write("\n")
    worker.stdin.flush()
    worker.stdout.readline()
    (copy,) = find_copies(tmp_path, b"erased", 100)
    assert not copy.has  # deleted, but not scrubbed yet
    assert copy.gone_by is not None
    assert abs(copy.gone_by - time.time() - 2 * module.UPKEEP_SECONDS) < 30
    worker.kill()
    worker.communicate()
    (copy,) = find_copies(tmp_path, b"kept", 100)
    assert copy.has
    assert copy.gone_by == pytest.approx(copy.used + 100 + module.SWEEP_SECONDS)
    assert find_copies(tmp_path / "nowhere", b"kept", 100) == []


def test_looking_does_not_drive_an_owner_out(tmp_path: Path):
    """Who only looks holds the lock for a moment; the owner who comes just then waits for it."""
    store = opened(open_stores(tmp_path), 0)
    store.take({b"a": b"1"}, 1)
    store.close()
    looking = take_slot(tmp_path / "state-0")
    threading.Timer(0.1, looking.release).start()
    again = opened(open_stores(tmp_path), 0)
    assert dict(again) == {b"a": b"1"}
    again.close()
