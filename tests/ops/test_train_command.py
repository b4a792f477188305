"""`driftline train` as people run it, on a real broker: a release that loads, and problems that say what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.continual import TRAINER
from models.online import OnlineTrainer
from models.release import Release
from streams.contracts import Interaction, encode
from streams.releases import pointer_to, read_models
from streams.topics import Topics
from streams.trainer import CHECKPOINTS
from tests import small
from tests.conftest import Wire

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
Train = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def train(tmp_path: Path, bootstrap: str, topics: Topics) -> Train:
    """Run `driftline train` with the arguments."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
    settings = {"BOOTSTRAP_SERVERS": bootstrap, "TOPIC_PREFIX": topics.prefix, "DATA_DIR": str(tmp_path)}
    variables = {f"DRIFTLINE_{name}": value for name, value in settings.items()} | {
        "DRIFTLINE_EVENTS_ACTIONS": ",".join(small.RULES.actions)
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ops.cli", "train", *arguments],
            env={**clean, **variables, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


def interactions(count: int = 240) -> list[Interaction]:
    random = np.random.default_rng(3)
    return [
        Interaction(f"u{number % 12}", f"i{random.integers(40)}", small.START + number * 1000, "rate", 4.0)
        for number in range(count)
    ]


async def send_items(wire: Wire, topics: Topics) -> None:
    await wire.produce(topics.item_vectors, [(item.item.encode(), encode(item)) for item in small.items().values()])


async def send_events(wire: Wire, topics: Topics, events: list[Interaction]) -> None:
    await wire.produce(topics.events, [(event.user.encode(), encode(event)) for event in events])


async def test_makes_a_release_of_the_topics_and_publishes_it(tmp_path, cluster, topics, wire, train):
    await send_items(wire, topics)
    await send_events(wire, topics, interactions())
    await send_events(wire, topics, [Interaction("u0", "i99", small.START, "rate", 4.0)])  # not encoded yet
    await wire.produce(topics.events, [(b"u0", b"{")])
    done = train("--json")
    assert done.returncode == 0, done.stderr
    assert "warning: 1 of 241 interactions are with items that have no vector" in done.stderr
    said = json.loads(done.stdout)
    path = tmp_path / "releases" / said["release"]
    assert (said["users"], said["bad"]) == (12, 1)
    assert (said["published"], said["path"]) == (True, str(path))
    assert 0 < said["loss"] < 10 and said["seconds"] > 0
    release = Release.load(path)
    assert release.text_encoder == small.ENCODER
    assert set(release.item_ids) == {event.item for event in interactions()}
    published = await read_models(cluster, topics.models)
    pointer = published.release
    assert pointer == pointer_to(path, pointer.created)
    # A learner goes on from here: at the end of what was learned, with weights that make this release.
    assert sum(published.trainer.at.events.values()) in (240, 241)
    checkpoint = tmp_path / "releases" / CHECKPOINTS / published.trainer.checkpoint
    assert OnlineTrainer.load(checkpoint / TRAINER).release(release.facts).id == release.id


async def test_reads_a_file_up_to_a_time_and_publishes_nothing_if_told_so(tmp_path, cluster, topics, wire, train):
    await send_items(wire, topics)
    rows = "".join(f"{e.user},{e.item},{e.time / 1000},rate\n" for e in interactions())
    (tmp_path / "events.csv").write_text("user,item,timestamp,action\n" + rows + "u1,i1,soon,rate\n")
    (tmp_path / "driftline.toml").write_text('learner_recipe = "sessions"\n')
    until = small.START + 200_000
    done = train("--events", "events.csv", "--until", str(until), "--no-publish", "--seed", "5")
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "releases").iterdir()
    assert Release.load(path).facts["events"] == 200
    assert Release.load(path).facts["seed"] == 5
    assert Release.load(path).config.window == 20  # the recipe's
    first, second, third, last = done.stdout.splitlines()
    assert first.startswith(f"release {path.name}: 200 events, 12 users")
    assert second.startswith("trained in ") and str(path) in second
    assert (third, last) == ("1 bad records were left out", "not published")
    assert "row 241: " in done.stderr
    assert (await read_models(cluster, topics.models)).release is None


async def test_problems_say_what_to_do(tmp_path, topics, wire, train):
    def said(*arguments: str) -> str:
        done = train(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr

    assert f"error: topic {topics.item_vectors} holds no items\n" in said()
    await send_items(wire, topics)
    await send_events(wire, topics, interactions(60))
    too_few = said()
    assert (
        "there are 60 interactions with known items (0 with unknown ones, 0 bad records); training needs 100" in too_few
    )
    assert "error: --until is 'noon'" in said("--until", "noon")
    (tmp_path / "events.jsonl").write_text('{"user": "u", "item": "i1", "time": 1600000000}\n')
    assert "row 1: " in said("--events", "events.jsonl")
    other = msgspec.structs.replace(small.item_vector(1), encoder="other")
    await wire.produce(topics.item_vectors, [(b"i1", encode(other))])
    assert "made by 2 encoders: small (39 items), other (1 items)" in said()
    await wire.produce(topics.item_vectors, [(b"i1", b"{")])
    assert "key b'i1'" in said()
