"""A short chaos run, from the command to its report: every main kind of fault, and nothing is wrong afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import JAR_CACHE

pytestmark = pytest.mark.broker
ROOT = Path(__file__).parents[3]


def command(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
    environment = clean | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "COLUMNS": "120"}
    environment["DRIFTLINE_DATA_DIR"] = str(JAR_CACHE.parents[1])
    return subprocess.Popen(
        [sys.executable, "-m", "ops.cli", "chaos", *arguments],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.timeout(600)
def test_nothing_is_wrong_after_a_short_chaos(tmp_path: Path) -> None:
    running = command(
        tmp_path, "--kills", "2", "--workers", "2", "--seconds", "30", "--seed", "5", "--report", "r.json"
    )
    said, _ = running.communicate(timeout=590)
    print(said)
    assert running.returncode == 0, said
    found = json.loads((tmp_path / "r.json").read_text())
    done = ("kills", "zombies", "broker_restarts", "terminations", "learner_kills", "releases_published")
    assert [found[name] for name in done] == [2, 1, 1, 1, 1, 1]
    assert (found["rebalances"], found["partitions_cut"]) == (2, 3)
    assert found["dead_letters"] == found["dead_letters_expected"] == 10
    assert found["events"] > 1_000 and found["slates"] > 500 and found["outcomes"] > 500
    assert found["states"] > 100 and found["wall_seconds"] > 30
    assert found["erased"] > 0 and found["coalesced"] > 0 and found["recoveries"] > 0
    assert not list(tmp_path.glob("driftline-chaos-*"))  # all is well: nothing is kept


def test_an_interrupted_run_leaves_no_process_behind(tmp_path: Path) -> None:
    running = command(tmp_path, "--kills", "0", "--workers", "1", "--seconds", "60")
    assert running.stdout is not None
    while "starting the workers" not in (line := running.stdout.readline()):
        assert line, "it ended by itself"
    mine = psutil.Process(running.pid).children(recursive=True)
    assert mine
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    _, alive = psutil.wait_procs(mine, timeout=20)
    assert not alive


def test_faults_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    running = command(tmp_path, "--kills", "50", "--seconds", "20")
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 1 and "too short" in said and "Give --seconds" in said


def test_a_summary_wants_reports_and_reports_want_to_be_summed_up(tmp_path: Path) -> None:
    for arguments in (["--summary"], ["r.json"]):
        running = command(tmp_path, *arguments)
        said, _ = running.communicate(timeout=60)
        assert running.returncode == 1 and "go together" in said
