"""Background processes: recognised by more than their pid, ended in order and by force."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ops.kafka.process import Identity, release, size_bytes, spawn, tie_to_this_process

Start = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a shell script in the background and wait until it has said `ready`."""
    children: list[subprocess.Popen[bytes]] = []

    def start(script: str) -> subprocess.Popen[bytes]:
        child = spawn(["/bin/sh", "-c", f"{script} echo ready; while :; do sleep 0.1; done"], tmp_path / "out")
        children.append(child)
        while "ready" not in (tmp_path / "out").read_text():
            assert child.poll() is None
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()


def test_a_recycled_pid_is_not_taken_for_the_process(start: Start) -> None:
    stranger = start("")
    former = Identity(stranger.pid, psutil.Process(stranger.pid).create_time() - 100)
    assert former.process() is None
    former.end(timeout_s=1)
    former.kill()
    assert stranger.poll() is None


def test_identity_survives_the_file(start: Start, tmp_path: Path) -> None:
    identity = Identity.of(start("").pid)
    identity.write(tmp_path / "pid")
    assert Identity.read(tmp_path / "pid") == identity
    assert identity.process() is not None


@pytest.mark.parametrize("text", ["", "{", "7", '{"pid": 1}', '{"pid": "x", "started": 1}'])
def test_a_torn_file_names_no_process(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    assert Identity.read(tmp_path / "pid") is None
    assert Identity.read(tmp_path / "missing") is None


def test_end_asks_first(start: Start) -> None:
    child = start("trap 'exit 7' TERM;")
    Identity.of(child.pid).end(timeout_s=30)
    assert child.wait() == 7


def test_end_forces_what_does_not_listen(start: Start) -> None:
    child = start("trap '' TERM;")
    Identity.of(child.pid).end(timeout_s=0.2)
    assert child.wait() == -signal.SIGKILL


def test_a_guard_kills_when_its_starter_dies(start: Start) -> None:
    child = start("")
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from ops.kafka.process import tie_to_this_process as tie\n"
            f"guard = tie({child.pid}); print('tied', flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert starter.stdout is not None and starter.stdout.readline() == b"tied\n"
    assert child.poll() is None
    starter.kill()
    starter.communicate()
    assert child.wait(timeout=30) == -signal.SIGKILL


def test_a_released_guard_kills_nothing(start: Start) -> None:
    child = start("")
    guard = tie_to_this_process(child.pid)
    release(guard)
    assert guard.returncode == -signal.SIGKILL
    assert child.poll() is None


def test_sparse_files_count_what_they_take(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10 * 2**20)
    assert size_bytes(tmp_path) < 2**20
