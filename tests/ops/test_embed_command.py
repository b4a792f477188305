"""`driftline embed` as people run it: the real encoder, the real broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.text import TextEncoder
from streams.contracts import Item, ItemVector, encode, item_text
from streams.names import Topics
from tests.conftest import Wire

ROOT = Path(__file__).parents[2]
ITEMS = [
    Item(item="1", title="Toy Story", categories=["Animation", "Comedy"], year=1995),
    Item(item="2", title="A Bug's Life", categories=["Animation", "Comedy"], year=1998),
    Item(item="3", title="Alien", text="In space no one can hear you scream.", categories=["Horror"], year=1979),
]


def embed(folder: Path, bootstrap: str, prefix: str) -> subprocess.Popen[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
    settings = {"BOOTSTRAP_SERVERS": bootstrap, "TOPIC_PREFIX": prefix, "DATA_DIR": str(folder)}
    variables = {f"DRIFTLINE_{name}": value for name, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, "-m", "ops.cli", "embed"],
        env={**clean, **variables, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.broker
async def test_it_embeds_with_the_installed_encoder_and_stops_when_told(
    tmp_path: Path, bootstrap: str, topics: Topics, wire: Wire
) -> None:
    await wire.produce(topics.items, [(item.item.encode(), encode(item)) for item in ITEMS])
    process = embed(tmp_path, bootstrap, topics.prefix)
    try:
        while len(records := await wire.read(topics.item_vectors)) < len(ITEMS):
            assert process.poll() is None, process.communicate()[1].decode()
            await asyncio.sleep(0.2)
        assert process.stderr is not None
        async with asyncio.timeout(60):
            while b"caught up" not in (line := await asyncio.to_thread(process.stderr.readline)):
                assert line, "it ended without a word"
        assert json.loads(line)["records"] == len(ITEMS)
    finally:
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()
    assert output == b""
    found = {made.item: made for made in (msgspec.json.decode(r.value, type=ItemVector) for r in records)}
    encoder = TextEncoder()
    vectors = np.stack([np.frombuffer(found[item.item].vector_f32, "<f4") for item in ITEMS])
    np.testing.assert_allclose(vectors, encoder.encode([item_text(item) for item in ITEMS]), atol=1e-5)
    assert {made.encoder for made in found.values()} == {encoder.fingerprint}
    toys, bugs, alien = vectors
    assert toys @ bugs > toys @ alien


@pytest.mark.broker
def test_missing_topics_are_named(tmp_path: Path, bootstrap: str) -> None:
    process = embed(tmp_path, bootstrap, "nowhere.")
    errors = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 1
    assert "nowhere.items is missing" in errors and "driftline topics create" in errors


def test_no_broker_is_said_in_one_line(tmp_path: Path) -> None:
    process = embed(tmp_path, "127.0.0.1:1", "")
    errors = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 1
    assert errors.splitlines()[0] == "error: no Kafka answers at 127.0.0.1:1"
