"""The trainer: follows `events` and `outcomes`, learns them in rounds, publishes the releases that pass the gate.

What a round holds is written to `models` before it is learned, and whoever becomes active repeats the rounds begun
since the last checkpoint: a trainer that was killed comes to the same weights, losses and decisions as one that was
not (as long as no item's text changed in between). How far training has come and the release that came of it are
published in one transaction, fenced against a trainer that only believes to be active. Knows Kafka and files; knows
nothing of how a model learns.
"""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import structlog

from models.continual import Continual, Step
from models.release import Release
from streams.cluster import Cluster
from streams.contracts import RoundEnds, TrainerState
from streams.correction import Correction
from streams.election import pause
from streams.lessons import Items, Lessons
from streams.names import Topics
from streams.releases import Published, TrainerWriter, pointer_to, read_models
from streams.rounds import RoundReader
from streams.spans import Batches, Spans, after
from streams.validation import EventRules

log = structlog.get_logger(__name__)

T = TypeVar("T")

CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints, inside the one of the releases."""

EVENT_IDS = "event_ids.npy"
CORRECTION = "correction.json"
LARGEST_ROUND = 8
"""A backlog is taken in rounds of up to this many times the ordinary size, at the same number of training steps."""
KEEP = 2
"""Checkpoints kept: the last, and the one that a trainer which was just fenced may still be reading."""
RETRY_S = 5.0
_LEFT_BEHIND_S = 3600.0
"""Nobody writes one checkpoint for so long."""

Load = Callable[[Path], Continual]
"""Reads what `Continual.save` wrote; raises OSError or ValueError."""


@dataclass(frozen=True, slots=True)
class TrainerConfig:
    """Where the trainer reads and writes, and how often.

    Attributes:
        round_events, round_seconds: a round begins when so many events have come, or after that time with fewer.
        checkpoint_rounds: rounds that are repeated after a crash, at most.
        cpu_share: of one core, at most: after a round that took t seconds it rests t · (1 / share − 1).
    """

    cluster: Cluster
    app_id: str
    topics: Topics
    rules: EventRules
    releases_dir: Path
    round_events: int = 256
    round_seconds: float = 10.0
    checkpoint_rounds: int = 32
    cpu_share: float = 0.5
    transaction_timeout_ms: int = 30_000

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.releases_dir / CHECKPOINTS


class TrainerTerm:
    """One trainer's time as the active one: from the last checkpoint on, until `leave` is set or something fails."""

    def __init__(self, config: TrainerConfig, load: Load, compute: ThreadPoolExecutor, leave: asyncio.Event) -> None:
        self._config, self._load, self._compute, self._leave = config, load, compute, leave
        topics = config.topics
        self._writer = TrainerWriter(config.cluster, config.app_id, topics.models, config.transaction_timeout_ms)
        self._spans = Spans(config.cluster, topics.events, topics.outcomes)
        self._items = Items(config.cluster, topics.item_vectors)
        self._training: Training | None = None

    async def run(self) -> None:
        """Learn and publish; write a checkpoint when told to leave, so that nobody need learn it again."""
        try:
            await self._writer.open()
            published = await self._begun()
            if published is not None and published.trainer is not None:
                lessons = await _in(self._compute, self._restored, published.trainer)
                self._training = Training(
                    self._config, self._compute, self._leave, self._writer, self._spans, lessons, published
                )
                await self._items.open()
                await self._training.run(self._items)
        finally:
            await self._spans.close()
            await self._items.close()
            await self._writer.close()

    def status(self) -> dict[str, Any]:
        """What the health page says."""
        return {} if self._training is None else self._training.status()

    async def _begun(self) -> Published | None:
        """What `models` says once there is something to go on from; None when told to leave before."""
        while not self._leave.is_set():
            published = await read_models(self._config.cluster, self._config.topics.models)
            if published.trainer is not None:
                return published
            log.info("nothing to train from yet: `driftline train` makes the first release and a checkpoint")
            await pause(self._leave, RETRY_S)
        return None

    def _restored(self, state: TrainerState) -> Lessons:
        directory = self._config.checkpoints / state.checkpoint
        try:
            learning, ids = self._load(directory), np.load(directory / EVENT_IDS)
            kept = directory / CORRECTION  # an older driftline's checkpoint has none
            correction = Correction.unpack(kept.read_bytes()) if kept.exists() else Correction()
        except ValueError as error:
            raise RuntimeError(f"{error}: `driftline train` makes another one") from error
        log.info("training goes on", checkpoint=state.checkpoint, round=state.round, to_repeat=len(state.begun))
        return Lessons(learning, RoundReader(self._config.rules, ids.tolist(), correction), self._items)


class Training:
    """The rounds of a term, from a checkpoint on."""

    def __init__(
        self,
        config: TrainerConfig,
        compute: ThreadPoolExecutor,
        leave: asyncio.Event,
        writer: TrainerWriter,
        spans: Spans,
        lessons: Lessons,
        published: Published,
    ) -> None:
        if published.trainer is None:
            raise ValueError("nothing says where training has come to, expected a trainer's state")
        self._config, self._compute, self._leave = config, compute, leave
        self._writer, self._spans, self._lessons = writer, spans, lessons
        self._state = published.trainer
        self._ends = self._state.at
        self._serving = published.release.release if published.release is not None else None
        self._learned = False

    async def run(self, items: Items) -> None:
        """Repeat what was begun, then learn what comes."""
        await self._spans.open(self._ends)
        await self._repeat(items)
        while not self._leave.is_set():
            await items.follow()
            await self._round()
        if self._learned:
            await self._checkpoint()

    def status(self) -> dict[str, Any]:
        """What the health page says."""
        learning = self._lessons.learning
        return {
            "round": learning.round,
            "loss": self._lessons.loss,
            "release": learning.served.id,
            "refused": learning.refused,
            "taken_back": learning.taken_back,
            "recovered": learning.recovered,
            "drift_alarms": self._lessons.reader.correction.alarms,
            "bad_records": self._lessons.bad,
            "lag": self._spans.lag(self._ends),
        }

    async def _repeat(self, items: Items) -> None:
        for ends in self._state.begun:
            if self._leave.is_set():
                return
            await items.follow()
            await self._learn(*await self._spans.read_until(ends))
            self._ends = ends
        # Whoever died between a decision and its publication left that to his successor.
        if self._serving != self._lessons.learning.served.id:
            await self._serve(self._lessons.learning.served)

    async def _round(self) -> None:
        config = self._config
        most = LARGEST_ROUND * config.round_events
        events, outcomes = await self._spans.collect(config.round_events, most, config.round_seconds, self._leave)
        if not events:
            return
        ends = after(self._ends, events, outcomes)
        self._state = msgspec.structs.replace(self._state, begun=[*self._state.begun, ends])
        await self._writer.publish(self._state)
        started = time.monotonic()
        step = await self._learn(events, outcomes)
        self._ends = ends
        if step.serve is not None:
            await self._serve(step.serve)
        _say(step)
        if len(self._state.begun) >= config.checkpoint_rounds:
            await self._checkpoint()
        await pause(self._leave, (time.monotonic() - started) * (1 / config.cpu_share - 1))

    async def _learn(self, events: Batches, outcomes: Batches) -> Step:
        self._learned = True
        return await _in(self._compute, self._lessons.learn, events, outcomes)

    async def _serve(self, release: Release) -> None:
        """Have the workers take a release."""
        path = await _in(self._compute, release.save, self._config.releases_dir)
        pointer = await _in(self._compute, pointer_to, path, time.time_ns() // 1_000_000)
        await self._writer.publish(self._state, pointer)
        self._serving = release.id

    async def _checkpoint(self) -> None:
        learning, reader, folder = self._lessons.learning, self._lessons.reader, self._config.checkpoints
        name = await _in(
            self._compute, save_checkpoint, folder, self._config.app_id, learning, reader.ids, reader.correction
        )
        self._state = TrainerState(name, time.time_ns() // 1_000_000, learning.round, self._ends, [])
        await self._writer.publish(self._state)
        self._learned = False
        await _in(self._compute, drop_old, folder, self._config.app_id, KEEP)


async def publish_first(config: TrainerConfig, learning: Continual, ends: Mapping[int, int]) -> None:
    """Publish what `learning` serves, and a checkpoint from which training goes on at the offsets `ends` of `events`.

    Fences the trainer that is active, which begins a new term from there. Raises as `TrainerWriter.publish` does.
    """
    created = time.time_ns() // 1_000_000
    path = learning.served.save(config.releases_dir)
    name = save_checkpoint(config.checkpoints, config.app_id, learning, np.empty(0, np.uint64))
    at = RoundEnds({str(partition): end for partition, end in ends.items()}, {})
    writer = TrainerWriter(config.cluster, config.app_id, config.topics.models, config.transaction_timeout_ms)
    try:
        await writer.open()
        await writer.publish(TrainerState(name, created, 0, at, []), pointer_to(path, created))
    finally:
        await writer.close()
    drop_old(config.checkpoints, config.app_id, KEEP)


def save_checkpoint(
    folder: Path, app_id: str, learning: Continual, event_ids: np.ndarray, correction: Correction | None = None
) -> str:
    """Write a checkpoint and return its name. Aside first and then renamed: a reader sees all of it or nothing."""
    name = f"{app_id}-{learning.round}-{uuid.uuid4().hex[:8]}"
    aside = folder / f".aside-{name}"
    aside.mkdir(parents=True)
    try:
        learning.save(aside)
        np.save(aside / EVENT_IDS, event_ids, allow_pickle=False)
        (aside / CORRECTION).write_bytes((correction or Correction()).pack())
        aside.rename(folder / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return name


def drop_old(folder: Path, app_id: str, keep: int) -> None:
    """Delete an app's checkpoints but the `keep` newest, and what writers that died left of theirs an hour ago."""
    for path in folder.glob(f".aside-{app_id}-*-????????"):
        if path.stat().st_mtime < time.time() - _LEFT_BEHIND_S:
            shutil.rmtree(path, ignore_errors=True)
    found = [path for path in folder.glob(f"{app_id}-*-????????") if path.is_dir()]
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)[:-keep]:
        shutil.rmtree(path, ignore_errors=True)


def _say(step: Step) -> None:
    if step.taken_back is not None and step.serve is not None:
        told = {"release": step.taken_back, "serving": step.serve.id} | step.compared
        log.warning("release taken back: the one before it is better on what came since", **told)
    elif step.serve is not None:
        log.info("release published", release=step.serve.id, round=step.round, **step.compared)
    elif step.refused is not None:
        log.warning("release refused: worse than the one that is served", release=step.refused, **step.compared)


async def _in(compute: ThreadPoolExecutor, function: Callable[..., T], *arguments: Any) -> T:
    """In the compute thread, so that heartbeats go on."""
    return await asyncio.get_running_loop().run_in_executor(compute, function, *arguments)
