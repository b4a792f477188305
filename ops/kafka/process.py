"""A background process remembered in a file: is it still that process, how to end it, what it uses.

A pid alone is not an identity, since the system hands it out again: the start time is kept with it.
Knows nothing about Kafka.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

_SAME_START_S = 1.0  # resolution of a process's start time, with room for rounding


@dataclass(frozen=True)
class Identity:
    """Which process: its pid and its start time (seconds since the epoch)."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Identity:
        return cls(pid, psutil.Process(pid).create_time())

    @classmethod
    def read(cls, path: Path) -> Identity | None:
        """The process named in `path`; None when there is no such file or it is torn."""
        try:
            found = json.loads(path.read_text())
            return cls(int(found["pid"]), float(found["started"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    def process(self) -> psutil.Process | None:
        """The living process, or None when it ended or its pid belongs to another one now."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _SAME_START_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def wait(self, timeout_s: float) -> bool:
        """Wait until the process is gone; False when it is still there after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while self.process() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def end(self, timeout_s: float) -> None:
        """SIGTERM, then SIGKILL when it is still there after `timeout_s`."""
        self._signal("terminate")
        if not self.wait(timeout_s):
            self.kill()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._signal("kill")
        self.wait(10)

    def _signal(self, verb: str) -> None:
        process = self.process()
        if process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                getattr(process, verb)()


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold the lock file `lock`: one process at a time passes, the others wait."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def spawn(command: list[str], output: Path) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one: own session, no input, output to a file."""
    with output.open("wb") as file:
        return subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )


def tie_to_this_process(pid: int) -> subprocess.Popen[bytes]:
    """Start a guard that kills `pid` when this process ends, however it ends.

    The guard waits for the end of its input, whose other end only this process holds. Terminate the guard
    before ending `pid` in order.
    """
    return subprocess.Popen(  # noqa: S603
        ["/bin/sh", "-c", 'read _; kill -9 "$1"', "guard", str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def release(guard: subprocess.Popen[bytes]) -> None:
    """End a guard without letting it kill."""
    guard.kill()
    guard.wait()
    if guard.stdin is not None:
        guard.stdin.close()


def free_space_bytes(folder: Path) -> int:
    """Bytes that an ordinary user can still write on the disk of `folder`."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def size_bytes(folder: Path) -> int:
    """Bytes that a folder takes on the disk (Kafka's index files are sparse: their length says nothing)."""
    total = 0
    for parent, folders, files in os.walk(folder):  # steps over folders that are gone, unlike rglob
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):  # the broker deletes segments meanwhile
                total += Path(parent, name).lstat().st_blocks * 512
    return total
