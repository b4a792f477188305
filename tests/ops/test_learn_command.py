"""`driftline learn` as people run it: hosted by Faust, on a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from streams.cluster import Cluster
from streams.contracts import encode
from streams.releases import read_models
from streams.topics import Topics
from tests.conftest import Wire
from tests.streams.outcomes import outcomes

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def status(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
        return dict(json.load(answer))


def learn(folder: Path, bootstrap: str, prefix: str, port: int) -> subprocess.Popen[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
    settings = {
        "BOOTSTRAP_SERVERS": bootstrap,
        "TOPIC_PREFIX": prefix,
        "DATA_DIR": str(folder),
        "APP_ID": f"{prefix}app",
        "LEARNER_PUBLISH_EVERY_S": "0.5",
    }
    variables = {f"DRIFTLINE_{name}": value for name, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, "-m", "ops.cli", "learn", "--web-port", str(port)],
        env={**clean, **variables, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def test_it_learns_shows_how_it_is_and_publishes_when_told_to_stop(
    tmp_path: Path, cluster: Cluster, topics: Topics, wire: Wire
) -> None:
    await wire.produce(topics.outcomes, [(one.user.encode(), encode(one)) for one in outcomes(50)])
    port = free_port()
    process = learn(tmp_path, str(cluster), topics.prefix, port)
    try:
        async with asyncio.timeout(60):
            while (published := await read_models(cluster, topics.models)).estimator is None:
                assert process.poll() is None, process.communicate()[1].decode()
                await asyncio.sleep(0.2)
        shown = await asyncio.to_thread(status, port)
        await wire.produce(topics.outcomes, [(one.user.encode(), encode(one)) for one in outcomes(10)])
    finally:
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()
    assert output == b""
    assert published.estimator.outcomes == 50
    assert (shown["state"], shown["ready"], shown["outcomes"]) == ("learning", True, 50)
    assert shown["estimator"] == published.estimator.estimator
    assert shown["calibration_error"] == published.estimator.calibration_error
