"""The worker: where engine and pipeline meet. Start here to follow one event from topic to topic.

    events ─► engine.py      fetches it and hands it to its partition
           ─► partition.py   takes it, with whatever else has arrived
           ─► pipeline.py    says what the batch means:
                fold.py          event → user state (state.py), outcomes of slates whose window closed
                user_cache.py    state → user vector          (models.serving: ring caches of attention)
                world.py         user vector → candidates     (index: the catalogue as the release sees it)
                policy.slate     candidates → corrected logits → slate, with its probabilities
                messages.py      arrays → recommendation, decision, open slate
           ─► partition.py   writes recommendations, decisions, outcomes, state, dead letters and the input
                             offset in one transaction (transactions.py), then has its store take the new
                             states over (store.py: in memory; store_disk.py: on disk)

`broadcast.py` keeps the world true beside that: it follows `item_vectors` and `models` and hands changes
over between batches. The worker knows these parts; it computes nothing and decides nothing itself.
"""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from models.release import Release
from models.serving import ServingModel
from policy.fairness import FairnessConfig, Steering
from streams.broadcast import Broadcast
from streams.contracts import ReleasePointer
from streams.engine import Engine
from streams.engine_config import EngineConfig
from streams.measures import Committed, Timings
from streams.names import Topics
from streams.pipeline import Pipeline, PipelineConfig
from streams.slate_measures import SlateMeasures
from streams.state import waits
from streams.store import MemoryStores
from streams.stores import DiskConfig, DiskStores
from streams.tracing import Tracer

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    engine: EngineConfig
    pipeline: PipelineConfig
    topics: Topics
    releases_dir: Path
    state: DiskConfig | None = None  # None: in memory


@dataclass(frozen=True, slots=True)
class Measured:
    """Of a worker's work: what was committed, how long stages took, what slates are like, how old, in seconds,
    each thing is that slates are made of (None: not there, or not known), and what fairness does to them, if any."""

    committed: Committed
    timings: Timings
    slates: SlateMeasures
    ages: dict[str, float | None]
    steered: tuple[FairnessConfig, Steering] | None


class Worker:
    """One member of the group of workers. Make it inside a running event loop."""

    def __init__(self, config: WorkerConfig, tracer: Tracer | None = None) -> None:
        self._config = config
        self._broadcast = Broadcast(config.engine.cluster, config.topics, self._load)
        self._pipeline = Pipeline(config.pipeline, self._broadcast.world)
        stores = MemoryStores(waits) if config.state is None else DiskStores(config.state, waits)
        self._engine = Engine(config.engine, self._pipeline, stores, tracer=tracer)
        self._state = "starting"

    async def run(self) -> None:
        """Wait for a release and the whole catalogue, then answer events until `stop`."""
        following = asyncio.create_task(self._broadcast.run(), name="broadcast")
        try:
            await self._wait_until_ready(following)
            # What was loaded lives as long as the process: the collector need not walk it again and again.
            gc.collect()
            gc.freeze()
            self._state = "running"
            serving = asyncio.create_task(self._engine.run(), name="engine")
            await asyncio.wait({following, serving}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                self._engine.stop()
            await serving
        finally:
            self._state = "stopped"
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        if not following.cancelled() and (error := following.exception()):
            raise error

    def stop(self) -> None:
        """Finish the batches in hand, leave the group, end `run`."""
        self._state = "stopping"
        self._engine.stop()
        self._broadcast.ready.set()

    def status(self) -> dict[str, Any]:
        """What the health page says: plain JSON values."""
        partitions = self._engine.status()
        running = [one for one in partitions.values() if one["status"] == "running"]
        lags = [one["lag"] for one in partitions.values()]
        unreadable = sorted(f"{source.topic}-{source.partition}" for source in self._broadcast.unreadable)
        return {
            "state": self._state,
            "ready": self._state == "running"
            and self._engine.joined
            and self._engine.connected
            and len(running) == len(partitions)
            and not unreadable,
            "silence_seconds": round(self._engine.silence_seconds, 3),
            "partitions": partitions,
            "unreadable": unreadable,
            "lag": None if None in lags else sum(lags),
            **self._pipeline.status(self._broadcast.loaded),
        }

    @property
    def measured(self) -> Measured:
        """What was measured of its work, for metrics."""
        pipeline, broadcast = self._pipeline, self._broadcast
        waiting = [one["waiting_seconds"] for one in self._engine.status().values()]
        known = [seconds for seconds in waiting if seconds is not None]
        ages = {
            "state": max(known) if known and len(known) == len(waiting) else None,
            "catalogue": self._since(broadcast.caught_up),
            "index": 0.0 if broadcast.items_wait_since is None else self._since(broadcast.items_wait_since),
            **pipeline.ages(broadcast.loaded),
        }
        return Measured(self._engine.measures, pipeline.timings, pipeline.measures, ages, pipeline.steered)

    def _since(self, moment: float | None) -> float | None:
        """Seconds since a monotonic moment, and at least since the cluster has been silent where it is away."""
        if moment is None:
            return None
        away = 0.0 if self._engine.connected else self._engine.silence_seconds
        return max(time.monotonic() - moment, away)

    async def _wait_until_ready(self, following: asyncio.Task[None]) -> None:
        self._state = "waiting for a release"
        ready = asyncio.create_task(self._broadcast.ready.wait())
        while not ready.done():
            await asyncio.wait({ready, following}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                ready.cancel()
                await following
            if not ready.done():
                log.info("waiting for a release on topic models: `driftline train` makes one")

    def _load(self, pointer: ReleasePointer) -> ServingModel:
        model = ServingModel(Release.load(self._config.releases_dir / pointer.release))
        needed, kept = model.config.history, self._config.pipeline.limits.events
        if needed > kept:
            raise ValueError(f"it needs the last {needed} events of a user, states keep {kept}: raise state_events")
        return model
