"""The store on disk: what a kill, a broken file, a full disk and a sleeping process leave of it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from streams import store_disk
from streams.slots import Slot, take_slot
from streams.store import StoreDamaged
from streams.store_disk import DiskStore
from streams.store_memory import Memory

MEMORY = Memory.of(16)
STATES = {b"user-%d" % number: os.urandom(1500) for number in range(400)}


def open_store(folder: Path, memory: Memory = MEMORY) -> DiskStore:
    return DiskStore(take_slot(folder), memory)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    store = open_store(tmp_path)
    store.clear("here")
    yield store
    store.close()


def test_opened_again_it_is_as_it_was_left(store: DiskStore, tmp_path: Path):
    store.take(dict(STATES), 500)
    store.take({b"user-7": None, b"user-8": b"new"}, 510)
    store.close()
    again = open_store(tmp_path)
    assert (again.position, again.origin, len(again)) == (510, "here", 399)
    assert dict(again) == {key: state for key, state in STATES.items() if key != b"user-7"} | {b"user-8": b"new"}
    again.close()


@pytest.mark.parametrize("error", [OSError("no space left on device"), RuntimeError("anything")])
def test_closed_it_is_free_whatever_fails_then(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    """Else the partition's next owner in this process would find the slot held, and begin from the changelog."""

    def fail(slot: Slot, position: int) -> None:
        raise error

    store.take({b"a": b"1"}, 1)
    with monkeypatch.context() as failing:
        failing.setattr(Slot, "note", fail)
        with contextlib.nullcontext() if isinstance(error, OSError) else pytest.raises(RuntimeError):
            store.close()
    again = open_store(tmp_path)
    assert again._slot.path == store._slot.path
    assert dict(again) == {b"a": b"1"}
    again.close()


def test_a_rebuild_that_fails_gives_the_files_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The next attempt is in the same process, whose RocksDB must not hold the folder still."""
    (tmp_path / "slot-0").mkdir()
    (tmp_path / "slot-0" / "CURRENT").write_bytes(b"nonsense")
    slot = take_slot(tmp_path)

    def fail(slot: Slot, position: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as failing:
        failing.setattr(Slot, "note", fail)
        with pytest.raises(OSError, match="no space") as failed:
            DiskStore(slot, MEMORY)
    Rdict(str(slot.path), Options(raw_mode=True)).close()  # fails where they are held
    del failed  # its traceback has the store, as for whoever handles it
    slot.release()


# -- killed ----------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from streams.slots import take_slot
from streams.store_disk import DiskStore
from streams.store_memory import Memory
store = DiskStore(take_slot(Path(sys.argv[1])), Memory.of(16))
number = store.position
print("ready", flush=True)
while True:
    number += 1
    state = number.to_bytes(4, "big") * 5000
    changes = {b"user-%d" % at: state for at in range(10)} | {b"only-%d" % number: b"", b"only-%d" % (number - 1): None}
    store.take(changes, number)
"""


def test_killed_in_the_middle_of_writes_it_is_whole(tmp_path: Path):
    """Every batch changes the same ten states, moves one key, and the position: all of a batch or none of it."""
    dice, reached = random.Random(4), 0
    for _ in range(6):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(dice.uniform(0.05, 0.5))
        writer.kill()
        writer.communicate()
        store = open_store(tmp_path)
        position = store.position
        assert position >= reached
        reached = position
        if position:
            expected = {b"user-%d" % at: position.to_bytes(4, "big") * 5000 for at in range(10)}
            assert dict(store) == expected | {b"only-%d" % position: b""}
            assert len(store) == 11
        store.close()
    assert reached > 50  # some of it had been written out by itself


# -- damaged ---------------------------------------------------------------------------------------


def files(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(f"slot-0/{pattern}"))
    assert found
    return found


def flip(path: Path, share: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    at = int(len(data) * share)
    data[at : at + 8] = bytes(byte ^ 0xFF for byte in data[at : at + 8])
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def every(pattern: str, harm: Callable[[Path], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        for path in files(folder, pattern):
            harm(path)

    return apply


DAMAGES: dict[str, Callable[[Path], None]] = {
    "table flipped": every("*.sst", flip),
    "table's footer flipped": every("*.sst", lambda path: flip(path, 0.999)),
    "table cut short": every("*.sst", truncate),
    "table gone": every("*.sst", Path.unlink),
    "manifest flipped": every("MANIFEST-*", flip),
    "manifest cut short": every("MANIFEST-*", truncate),
    "manifest gone": every("MANIFEST-*", Path.unlink),
    "CURRENT flipped": every("CURRENT", flip),
    "CURRENT gone": every("CURRENT", Path.unlink),
    "CURRENT empty": every("CURRENT", lambda path: path.write_bytes(b"")),
    "wrapper's file flipped": every("rocksdict-config.json", flip),
    "all gone": every("*", lambda path: path.unlink()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_noticed_and_never_give_wrong_states(store: DiskStore, tmp_path: Path, damage: str):
    store.take(dict(STATES), 500)
    store.close()
    DAMAGES[damage](tmp_path)
    again = open_store(tmp_path)
    try:
        found = dict(again)
        looked_up = {key: again.get(key) for key in STATES}
    except StoreDamaged:
        again.clear("here")  # what the engine does, and fills it from the changelog
        found, looked_up = dict(again), {}
    else:
        # Noticed when it was opened (nothing is left), or it did no harm (everything is as it was).
        assert {key: state for key, state in looked_up.items() if state is not None} == found
    assert found in ({}, STATES)
    assert (again.position, len(again)) == ((500, 400) if found else (0, 0))
    again.take(dict(STATES), 600)
    assert dict(again) == STATES
    again.close()


def test_a_block_that_breaks_in_the_middle_of_work_is_damage_and_not_a_missing_state(store: DiskStore, tmp_path: Path):
    store.take(dict(STATES), 500)
    store.close()
    again = open_store(tmp_path)
    for path in files(tmp_path, "*.sst"):
        with path.open("r+b") as file:  # in place: the store has it open
            file.seek(0)
            file.write(bytes(path.stat().st_size // 2))
    with pytest.raises(StoreDamaged, match="orruption"):
        for key in STATES:
            assert again.get(key) in (None, STATES[key])
            assert again.get(key) is not None
    with pytest.raises(StoreDamaged):
        dict(again)
    with pytest.raises(StoreDamaged):
        again.take(dict.fromkeys(STATES, b"1"), 501)
    again.clear("here")
    assert (dict(again), again.position, again.origin) == ({}, 0, "here")
    again.close()


def test_another_format_is_rebuilt(store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store.take(dict(STATES), 500)
    store.close()
    monkeypatch.setattr(store_disk, "FORMAT", store_disk.FORMAT + 1)
    again = open_store(tmp_path)
    assert (len(again), again.position) == (0, 0)
    again.close()


FULL_DISK = """
import os, resource, sys
from pathlib import Path
from streams.slots import take_slot
from streams.store import StoreDamaged
from streams.store_disk import DiskStore
from streams.store_memory import Memory
store = DiskStore(take_slot(Path(sys.argv[1])), Memory.of(16))
store.take({b"a": b"1"}, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))  # writes beyond fail, as on a full disk
try:
    for number in range(2, 2000):
        store.take({b"user-%d" % number: os.urandom(50_000)}, number)
except StoreDamaged as error:
    print("damaged:", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.clear()
store.take({b"a": b"2"}, 2)
print("after:", dict(store), store.position)
"""


def test_a_full_disk_is_damage_until_there_is_room_again(tmp_path: Path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=60)
    damaged, after = done.stdout.splitlines()
    assert damaged.startswith("damaged: local store: IO error")
    assert after == "after: {b'a': b'2'} 2"


def test_after_it_was_closed_it_is_no_ones(store: DiskStore):
    store.close()
    with pytest.raises(StoreDamaged, match="closed"):
        store.get(b"a")
    with pytest.raises(StoreDamaged, match="closed"):
        store.take({b"a": b"1"}, 1)
    with pytest.raises(StoreDamaged, match="closed"):
        store.clear()  # or the next owner's files would go


# -- asleep ----------------------------------------------------------------------------------------


def test_contact_is_the_last_read_before_the_commit(store: DiskStore, monkeypatch: pytest.MonkeyPatch):
    """A process that sleeps between its commit and `take` must not say that it was in touch when it woke up."""
    now = 1_000_000.0
    monkeypatch.setattr(store_disk.time, "time", lambda: now)
    store.get(b"a")
    now += 86_400
    store.take({b"a": b"1"}, 1)
    assert store.contact == 1_000_000.0
    store.take({}, 2, contact=999_000.0)  # said by who knows better
    assert store.contact == 999_000.0


HOLDER = """
import sys, time
from pathlib import Path
from streams.slots import take_slot
from streams.store_disk import DiskStore
from streams.store_memory import Memory
store = DiskStore(take_slot(Path(sys.argv[1])), Memory.of(16))
store.take({b"a": b"holder's"}, 5)
store._flush()
print(store._slot.path.name, flush=True)
time.sleep(100)
"""


def test_a_zombie_keeps_its_slot_and_a_killed_process_leaves_it(tmp_path: Path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "slot-0\n"
    holder.send_signal(signal.SIGSTOP)
    mine = open_store(tmp_path)  # the new owner, while the old one sleeps
    assert dict(mine) == {}
    mine.take({b"a": b"mine"}, 9)
    mine.close()
    holder.kill()
    holder.communicate()
    after = open_store(tmp_path)  # of the two that are free now, the one that goes further
    assert (dict(after), after.position) == ({b"a": b"mine"}, 9)
    assert not (tmp_path / "slot-0").exists()
    after.close()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "slot-1\n"
    holder.kill()
    holder.communicate()
    left = open_store(tmp_path)
    assert dict(left) == {b"a": b"holder's"}  # of the killed one, as far as it was written out
    left.close()
