"""The trainer on a real broker: rounds that are repeated, releases and checkpoints that are fenced.

What is trained is a chain of digests: the loss of a round is a number made of everything learned before it, in order,
so that one event more, less or elsewhere changes the loss of every round after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.batches import InteractionLog
from models.config import Bool, Float32, Int64
from models.continual import Cases, Continual, ContinualConfig, History
from models.features import ItemFeatures
from models.gate import Float64, GateConfig
from models.release import Release
from models.shown import SlateLog
from streams.contracts import Erase, Interaction, Outcome, RoundEnds, TrainerState, encode
from streams.releases import Published, TrainerWriter, pointer_to, read_models
from streams.topics import Topics
from streams.trainer import CHECKPOINTS, TrainerConfig, TrainerTerm, save_checkpoint
from streams.transactions import Fenced
from streams.world import features_of
from tests import small
from tests.conftest import Wire
from tests.streams.outcomes import outcomes

pytestmark = pytest.mark.broker

GATE = ContinualConfig(GateConfig(events=20), GateConfig(events=20), rounds=2, cases=16)
EVENTS = 900


class Chain:
    """A trainer whose state is a digest. `told` takes (round, loss) of every round, also those that are repeated."""

    text_encoder = small.ENCODER

    def __init__(
        self, told: list[tuple[int, float]], digest: str = "", round: int = 0, ids: Sequence[str] = ()
    ) -> None:
        self.told, self.digest, self.round = told, digest, round
        self.item_ids = list(ids or small.release().item_ids)
        self.known: dict[int, int] = {}

    @property
    def features(self) -> ItemFeatures:
        return features_of([small.item_vector(int(item[1:])) for item in self.item_ids])

    def mix(self, *parts: object) -> None:
        self.digest = hashlib.sha256(repr((self.digest, *parts)).encode()).hexdigest()

    def learn(self, log: InteractionLog, answers: Bool | None = None) -> float:
        self.mix("learn", log.users.tolist(), log.items.tolist(), log.times_ms.tolist(), log.weights.tolist())
        self.known.update(zip(log.users.tolist(), log.items.tolist(), strict=True))
        self.round += 1
        loss = int(self.digest[:8], 16) / 2**32
        self.told.append((self.round, loss))
        return loss

    def histories(self, users: Int64) -> list[History]:
        items = [np.array([self.known[user]] if user in self.known else [], np.int64) for user in users.tolist()]
        return [(one, one, np.zeros(len(one), np.uint8), np.ones(len(one), np.float32)) for one in items]

    def put_items(self, ids: Sequence[str], features: ItemFeatures) -> None:
        self.mix("items", list(ids), features.years.tolist())
        self.item_ids += [item for item in ids if item not in self.item_ids]

    def forget(self, users: Int64) -> None:
        self.mix("forget", users.tolist())

    def learn_shown(self, slates: SlateLog) -> None:
        self.mix("shown", slates.users.tolist(), slates.items.tolist(), slates.clicks.tolist())

    def weigh(self, users: Int64, items: Int64, weights: Float32) -> None:
        self.mix("weigh", users.tolist(), items.tolist(), weights.tolist())

    def adopt(self, release: Release) -> None:
        self.mix("adopt", release.id)

    def release(self, facts: dict[str, Any]) -> Release:
        return replace(small.release(), facts=facts)

    def save(self, directory: Path) -> None:
        directory.mkdir()
        state = [self.digest, self.round, self.item_ids, sorted(self.known.items())]
        (directory / "chain.json").write_text(json.dumps(state))

    @classmethod
    def load(cls, told: list[tuple[int, float]], directory: Path) -> Chain:
        digest, round_, ids, known = json.loads((directory / "chain.json").read_text())
        chain = cls(told, digest, round_, ids)
        chain.known = dict(known)
        return chain


def judge(release: Release) -> Callable[[Cases], Float64]:
    """Every release is as good as the one before it."""
    return lambda cases: np.ones(len(cases.targets))


class Learning:
    """Terms of one app, begun and killed; what they told."""

    def __init__(self, config: TrainerConfig) -> None:
        self.config = config
        self.told: list[tuple[int, float]] = []
        self.term: TrainerTerm | None = None
        self.task: asyncio.Task[None]
        self.before = 0  # rounds told when the present term began

    def load(self, directory: Path) -> Continual:
        return Continual.load(directory, lambda path: Chain.load(self.told, path), judge, GATE)

    async def first_checkpoint(self) -> None:
        """What `driftline train` leaves: a release, a checkpoint, and the pointers to both."""
        config, release = self.config, small.release()
        path = release.save(config.releases_dir)
        name = save_checkpoint(
            config.releases_dir / CHECKPOINTS,
            config.app_id,
            Continual(Chain(self.told), release, judge, GATE),
            np.empty(0, np.uint64),
        )
        writer = TrainerWriter(config.cluster, config.app_id, config.topics.models)
        await writer.open()
        await writer.publish(TrainerState(name, 1, 0, RoundEnds({}, {}), []), pointer_to(path, 1))
        await writer.close()

    @contextlib.asynccontextmanager
    async def running(self, *, killed: bool = False):
        leave = asyncio.Event()
        with ThreadPoolExecutor(1) as compute:
            self.term, self.before = TrainerTerm(self.config, self.load, compute, leave), len(self.told)
            task = self.task = asyncio.create_task(self.term.run())
            try:
                yield task
            finally:
                if killed:
                    task.cancel()
                leave.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait_for(task, 30)

    async def until_round(self, number: int) -> None:
        async with asyncio.timeout(60):
            while len(self.told) == self.before or self.told[-1][0] < number:
                await self.go_on()

    async def until_learned(self) -> None:
        async with asyncio.timeout(60):
            while not self.told or self.term is None or self.term.status().get("lag") != 0:
                await self.go_on()

    async def go_on(self) -> None:
        """Wait a moment; raise what the trainer raised."""
        await asyncio.wait({self.task}, timeout=0.05)
        if self.task.done():
            self.task.result()


@pytest.fixture(autouse=True)
def small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """All events are there from the start, and are to make several rounds."""
    monkeypatch.setattr("streams.trainer.LARGEST_ROUND", 1)


@pytest.fixture
def config(cluster, topics: Topics, tmp_path: Path) -> TrainerConfig:
    return TrainerConfig(
        cluster,
        f"{topics.prefix}app",
        topics,
        small.RULES,
        tmp_path / "releases",
        round_events=64,
        round_seconds=0.2,
        checkpoint_rounds=5,
        cpu_share=1.0,
    )


async def send(wire: Wire, topics: Topics, users: int = 20, outcomes_too: bool = True) -> None:
    """Interactions, two of an item nobody knows yet, an erasure, a repeated id, nonsense; outcomes and items."""
    random = np.random.default_rng(0)
    events = []
    for number in range(EVENTS):
        user, item = f"u{random.integers(users)}", f"i{random.integers(50)}"
        event = Interaction(user, item, small.START + number, id=f"e{number % 890}")
        events.append((user.encode(), encode(event)))
    events.insert(500, (b"u3", encode(Erase("u3", small.START))))
    events.insert(600, (b"u3", b"{"))
    await wire.produce(topics.item_vectors, [(f"i{n}".encode(), encode(small.item_vector(n))) for n in range(50)])
    if outcomes_too:
        clicked = [replace_rewards(outcome) for outcome in outcomes(60)]
        await wire.produce(topics.outcomes, [(outcome.user.encode(), encode(outcome)) for outcome in clicked])
    await wire.produce(topics.events, events)


def replace_rewards(outcome: Outcome) -> Outcome:
    items = [f"i{at}" for at in range(len(outcome.items))]
    return msgspec.structs.replace(outcome, items=items, rewards=[1.0] + [0.0] * (len(items) - 1))


async def published(config: TrainerConfig) -> Published:
    return await read_models(config.cluster, config.topics.models)


@pytest.mark.parametrize("partitions", [3])
async def test_a_killed_trainer_repeats_its_rounds_and_comes_to_the_same_losses(config, topics, wire):
    learning = Learning(config)
    await learning.first_checkpoint()
    await send(wire, topics)
    for stop in (3, 7, 8):
        async with learning.running(killed=True):
            await learning.until_round(stop)
    async with learning.running():
        await learning.until_learned()
    losses: dict[int, set[float]] = {}
    for number, loss in learning.told:
        losses.setdefault(number, set()).add(loss)
    assert len(learning.told) > len(losses) >= 8, "something was repeated"
    assert all(len(found) == 1 for found in losses.values())
    assert sorted(losses) == list(range(1, len(losses) + 1))


@pytest.mark.parametrize("partitions", [1])
async def test_killed_or_not_the_releases_are_the_same(config, topics, wire, tmp_path):
    # One partition, full rounds and no outcomes: then nothing depends on what arrives when.
    await send(wire, topics, outcomes_too=False)
    found = []
    for app, stops in (("calm", ()), ("killed", (4, 9))):
        own = replace(config, app_id=f"{topics.prefix}{app}", releases_dir=tmp_path / app, round_seconds=3600.0)
        learning = Learning(own)
        await learning.first_checkpoint()
        for stop in stops:
            async with learning.running(killed=True):
                await learning.until_round(stop)
        async with learning.running():
            await learning.until_round((EVENTS + 2) // config.round_events)
        found.append((dict(learning.told), (await published(config)).release.release))
    assert found[0] == found[1]
    assert found[0][1] != small.release().id, "a release was published"


@pytest.mark.parametrize("partitions", [1])
async def test_who_stops_in_order_leaves_nothing_to_repeat(config, topics, wire):
    learning = Learning(config)
    await learning.first_checkpoint()
    await send(wire, topics)
    async with learning.running():
        await learning.until_learned()
    state = (await published(config)).trainer
    assert state.begun == []
    assert state.round == learning.told[-1][0]
    checkpoints = [path.name for path in (config.releases_dir / CHECKPOINTS).iterdir()]
    assert state.checkpoint in checkpoints and len(checkpoints) == 2
    told = list(learning.told)
    async with learning.running():
        await learning.until_learned()
    assert learning.told == told


@pytest.mark.parametrize("partitions", [1])
async def test_another_trainer_fences_this_one(config, topics, wire):
    learning = Learning(config)
    await learning.first_checkpoint()
    await send(wire, topics)
    with pytest.raises(Fenced):
        async with learning.running() as task:
            await learning.until_learned()
            await learning.first_checkpoint()
            await wire.produce(topics.events, [(b"u1", encode(Interaction("u1", "i1", small.START)))])
            await asyncio.wait({task}, timeout=30)
            assert task.done()


@pytest.mark.parametrize("partitions", [1])
async def test_a_decision_that_was_not_published_is_published_by_whoever_comes_after(config, topics, wire, monkeypatch):
    learning = Learning(config)
    await learning.first_checkpoint()
    await send(wire, topics)

    async def die(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr("streams.trainer.Training._serve", die)
        async with learning.running() as task:
            await asyncio.wait({task}, timeout=30)
    decided = learning.told[-1][0]
    assert (await published(config)).release.release == small.release().id
    await asyncio.sleep(0)
    quiet = replace(config, round_seconds=3600.0, round_events=10**6)
    learning.config = quiet
    async with learning.running():
        async with asyncio.timeout(30):
            while (await published(config)).release.release == small.release().id:
                await asyncio.sleep(0.1)
    assert learning.told[-1][0] == decided


async def test_a_checkpoint_that_cannot_be_read_stops_the_trainer_with_the_way_out(config):
    learning = Learning(config)
    await learning.first_checkpoint()
    (state,) = (config.releases_dir / CHECKPOINTS).glob("*/continual.json")
    state.write_text("{}")
    with pytest.raises(RuntimeError, match="driftline train"):
        async with learning.running() as task:
            await asyncio.wait({task}, timeout=30)


async def test_without_a_first_release_it_waits(config):
    learning = Learning(config)
    async with learning.running() as task:
        await asyncio.sleep(1)
        assert not task.done() and learning.term.status() == {}
