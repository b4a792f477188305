"""Folders that processes of one machine share, each held by one at a time: where a partition's store may be.

A folder is held by a lock that the kernel releases when its holder dies, however it dies, so that the next
owner finds what he left; a process that was stopped keeps its own, and the next owner takes another. Knows
nothing about what is in the folders.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path

_HELD_FOR_A_MOMENT_S = (0.0, 0.05, 0.15)  # by somebody who only looks whether anybody holds it


class Slot:
    """A folder that this process holds; `path` may not exist yet. Its lock file lies beside it and is never removed."""

    def __init__(self, lock: Path, handle: int) -> None:
        self._lock = lock
        self._handle = handle
        self.path = lock.with_suffix("")

    def __str__(self) -> str:
        return str(self.path)

    @staticmethod
    def hold(lock: Path) -> Slot | None:
        """Take hold of the folder that goes with a lock file; None where another process has it. Raises OSError."""
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        return Slot(lock, handle)

    def note(self, position: int) -> None:
        """Write down how far the folder's contents go; the lock file's age says since when."""
        os.pwrite(self._handle, b"%020d" % position, 0)

    @property
    def noted(self) -> int:
        """What `note` wrote last, by whoever, of contents that are still there; -1 for nothing."""
        written = os.pread(self._handle, 20, 0) if self.path.exists() else b""
        return int(written) if written.isdigit() else -1

    def empty(self) -> None:
        """Remove what is in the folder, and the note of it, first: it would outlive a death in between."""
        os.ftruncate(self._handle, 0)
        shutil.rmtree(self.path, ignore_errors=True)

    def release(self) -> None:
        """Let others have it; a second time does nothing."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


def take_slot(folder: Path) -> Slot:
    """Hold the free slot in `folder` whose contents go furthest, or a new one. The other free ones are emptied.

    Raises OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for seconds in _HELD_FOR_A_MOMENT_S:
        time.sleep(seconds)
        locks = locks_in(folder)
        if (furthest := _furthest(locks)) is not None:
            return furthest
        if not locks:
            break
    return _new_slot(folder)


def _furthest(locks: list[Path]) -> Slot | None:
    """Hold the free slot whose contents go furthest and empty the other free ones; None where none is free."""
    with contextlib.ExitStack() as held:  # nothing stays held where anything fails
        free = []
        for lock in locks:
            if (slot := Slot.hold(lock)) is not None:
                held.callback(slot.release)
                free.append(slot)
        free.sort(key=lambda slot: slot.noted)
        for superfluous in free[:-1]:  # left by an owner who slept while another went on
            superfluous.empty()
            superfluous.release()
        held.pop_all()
    return free[-1] if free else None


def _new_slot(folder: Path) -> Slot:
    number = 0
    while (slot := Slot.hold(folder / f"slot-{number}.lock")) is None:
        number += 1
    return slot


def locks_in(folder: Path) -> list[Path]:
    """The lock files of a folder's slots."""
    return sorted(folder.glob("slot-*.lock"))


def sweep(folder: Path, seconds: float) -> list[Path]:
    """Empty the slots below `folder` that nobody holds and whose holder last wrote longer ago; returns their paths."""
    swept = []
    for lock in sorted(folder.glob("*/slot-*.lock")):
        if not lock.with_suffix("").exists() or time.time() - lock.stat().st_mtime <= seconds:
            continue
        if (slot := Slot.hold(lock)) is not None:
            slot.empty()
            slot.release()
            swept.append(slot.path)
    return swept
