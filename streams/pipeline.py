"""What a batch of events means: fold → evolve → retrieve → blend → adjust → correct and draw → messages.

Deterministic given (events, states, world, clock): random numbers belong to the offset of the causing
event, not to the batch, so that a replay makes the same choices. There is no Kafka in it; the engine calls
it, and so do replay and evaluation. Everything between the fold and the messages is done once for
all users of the batch, in arrays.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from models.blend import total
from policy.arrangement import OFF, Arrangement
from policy.fairness import FairnessConfig, Steering
from policy.slate import PolicyConfig, decide, noise
from streams.adjuster import Adjuster
from streams.adjusting import Adjusts, Scene, without
from streams.blame import way
from streams.contracts import encode
from streams.drift import moves
from streams.fold import Folded, Folder, Touched
from streams.job import Effects, OutputRecord, Record
from streams.measures import Timings
from streams.messages import Messages, Slates
from streams.names import Topics
from streams.recent import Recent
from streams.rules_file import RulesFile
from streams.slate_measures import SlateMeasures
from streams.sources import find, including, terms
from streams.state import StateLimits
from streams.tracing import Headers, Traced, span_id
from streams.uncertainty import HISTORY
from streams.user_cache import UserCache, excluded_pairs
from streams.validation import EventRules
from streams.world import World

log = structlog.get_logger(__name__)

COVERS = "driftline-covers"
"""Header of a tombstone on `recommendations`: JSON list of the event offsets that it answers."""


Popularity = Callable[[World, int, NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
"""World, partition, offsets [B], slots [B, width] → log-popularity [B, width] that the logits are corrected for."""


def estimated(
    world: World, partition: int, offsets: NDArray[np.int64], slots: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The popularity that the world's estimator says."""
    return world.log_popularity[slots] if len(world.log_popularity) else np.zeros(slots.shape)


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    topics: Topics
    rules: EventRules
    policy: PolicyConfig
    limits: StateLimits
    filter_seen: bool = True
    cached_users: int = 20_000
    traced: bool = False  # somebody is told of slates in traces
    arrangement: Arrangement = OFF
    rules_file: Path | None = None


class Pipeline:
    """Turns batches of events into effects. One thread at a time.

    `world()` gives the current world and is asked once per batch; `clock()` milliseconds since the epoch;
    `popularity` and `adjuster` are others in replays, where estimator or rules may be gone and only what they said is
    known.
    """

    def __init__(
        self,
        config: PipelineConfig,
        world: Callable[[], World],
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        popularity: Popularity = estimated,
        adjuster: Adjusts | None = None,
    ) -> None:
        self._config = config
        self._popularity = popularity
        self._rules_file = RulesFile(config.rules_file)
        self._adjuster = adjuster or Adjuster(config.arrangement, self._rules_file)
        self._current = world
        self._clock = clock
        self._world: World | None = None
        self._users: UserCache | None = None
        self._folders: dict[int, Folder] = {}
        self.timings = Timings()
        self.measures = SlateMeasures(config.policy.k)
        self.last: Slates | None = None  # of the last batch, for those who look closer

    # -- what the engine calls ---------------------------------------------------------------------

    def assigned(self, partition: int, states: Mapping[bytes, bytes]) -> None:
        self._folders[partition] = folder = Folder(partition, self._config.limits, self._config.rules)
        folder.restored(states)

    def revoked(self, partition: int) -> None:
        self._folders.pop(partition, None)
        if self._users is not None:
            self._users.drop(partition)

    def apply(self, partition: int, records: Sequence[Record], states: Mapping[bytes, bytes]) -> Effects:
        """Return what `records` of one partition do. Shapes and order as in `streams.job.Handler`."""
        world, users = self._latest_world()
        started = self.timings.begin()
        folder = self._folders[partition]
        decoded = folder.decode(records)
        started = self.timings.add("decode", started)
        folded = folder.fold(records, states, decoded)
        started = self.timings.add("fold", started)
        answered = [touched for touched in folded.users.values() if touched.covers]
        effects = Effects(dead=folded.dead)
        self.last = None
        if answered:
            slates = self.last = self._slates(partition, world, users, answered)
            self._measure(world, slates)
            started = self.timings.clock()
            self._publish(effects, slates, world, folder, folded)
        folder.close_absent(folded, states)
        self._close(partition, effects, folded, states)
        self.timings.add("encode", started)
        self.timings.end(len(records))
        return effects

    def status(self, loaded: World | None = None) -> dict[str, Any]:
        """What the pipeline works with, and the seconds spent per stage since the start.

        `loaded`: the world that the first batch will be answered with, for the time before it.
        """
        world, users = self._world or loaded, self._users
        return {
            "release": world.model.release_id if world else None,
            "estimator": world.estimator.estimator if world and world.estimator else None,
            "items": len(world.index) if world else 0,
            "catalogue": list(world.position) if world else [],
            "batches": self.timings.batches,
            "stage_seconds": {stage: round(seconds, 6) for stage, seconds in dict(self.timings.seconds).items()},
            "rules": {"digest": self._rules_file.digest, "problem": self._rules_file.problem},
            "cache": {"hits": users.hits, "rebuilds": users.rebuilds} if users else {},
        }

    def ages(self, loaded: World | None = None) -> dict[str, float | None]:
        """Seconds since release and estimator in use were made; None where there is none. `loaded` as in `status`."""
        world, now = self._world or loaded, self._clock()
        estimator = world.estimator if world else None
        return {
            "release": (now - world.created) / 1000 if world else None,
            "estimator": (now - estimator.created) / 1000 if estimator else None,
        }

    @property
    def steered(self) -> tuple[FairnessConfig, Steering] | None:
        """What fairness did to the last slates, and by which configuration; None where nothing is steered."""
        return self._world.steered if self._world is not None else None

    # -- stages ------------------------------------------------------------------------------------

    def _latest_world(self) -> tuple[World, UserCache]:
        world = self._current()
        if self._users is None or world is not self._world:
            limits = self._config.limits
            self._users = None  # first, so that two caches need never fit into memory
            self._world, self._users = world, UserCache(world, self._config.cached_users, limits.events + limits.seen)
        return world, self._users

    def _slates(self, partition: int, world: World, cache: UserCache, answered: list[Touched]) -> Slates:
        """Evolve, retrieve, blend, adjust, correct and draw, for all answered users at once."""
        # The Philox stream is drawn in order of offset.
        answered.sort(key=_offset)
        policy, states = self._config.policy, [touched.state for touched in answered]
        started = self.timings.clock()
        vectors, seen = cache.evolve(partition, answered)
        started = self.timings.add("evolve", started)
        offsets = np.array([_offset(touched) for touched in answered], np.int64)
        random = noise(policy, partition, offsets)
        excluded = excluded_pairs(seen if self._config.filter_seen else [seen[0][:0]] * len(seen))
        length = world.counts.length if world.counts is not None else 0
        recent = Recent.of(states, world.catalogue, max(length, HISTORY))
        candidates = find(world, policy, vectors, recent, excluded, random)
        users = [touched.user for touched in answered]
        pins = self._adjuster.pins(world, offsets, users, policy.k)
        if pins is not None:
            candidates = including(world, candidates, vectors, pins, excluded)
        started = self.timings.add("retrieve", started)
        parts = terms(world, candidates.model, recent, candidates.slots)
        base = total(parts)
        started = self.timings.add("blend", started)
        slots = found = candidates.slots
        popularity = self._popularity(world, partition, offsets, slots)
        times = np.array([touched.time for touched in answered], np.int64)
        moved = moves(world, recent)
        scene = Scene(
            world, policy, partition, offsets, users, times, vectors, recent, moved.degrees, states, slots, base,
            popularity, pins,
        )  # fmt: skip
        adjusted = self._adjuster.adjust(scene)
        if adjusted.slots is not slots:
            candidates, parts = replace(candidates, slots=adjusted.slots), without(parts, adjusted.slots)
            slots, base = adjusted.slots, total(parts)
        started = self.timings.add("adjust", started)
        hashes = world.catalogue.hashes
        items = hashes[slots] if len(hashes) else np.zeros(slots.shape, np.uint64)
        decisions = decide(
            policy,
            slots,
            items,
            base,
            popularity,
            random,
            adjustments=adjusted.adjustments,
            temperature=adjusted.temperature,
            pinned=adjusted.pinned,
        )
        self.timings.add("correct", started)
        made = Slates(answered, vectors, recent, moved, candidates, parts, base, decisions, found)
        return replace(made, rules=adjusted.rules, grouping=adjusted.grouping)

    def _measure(self, world: World, slates: Slates) -> None:
        """Look at the slates; what goes wrong in looking is no fault of the events."""
        chosen = slates.decisions.chosen
        shown = np.where(chosen >= 0, np.take_along_axis(slates.slots, np.maximum(chosen, 0), axis=1), -1)
        covered = sum(len(touched.covers) for touched in slates.users)
        try:
            self.measures.add(world, slates.vectors, shown, slates.decisions.uniform_arm, covered)
            self.measures.moved(slates.moves.degrees)
        except Exception as error:
            log.error("slates were not measured", way=way(error))

    # -- messages ----------------------------------------------------------------------------------

    def _publish(self, effects: Effects, slates: Slates, world: World, folder: Folder, folded: Folded) -> None:
        """Say each slate on its topics, and remember it with its user until its outcome is known."""
        messages = Messages(slates, world, self._config.policy, self._clock())
        recommendations: list[OutputRecord] = []
        decisions: list[OutputRecord] = []
        for at, touched in enumerate(slates.users):
            key = touched.user.encode()
            row = messages.row(at)
            headers = self._traced(effects, touched)
            recommendations.append((key, encode(messages.recommendation(at, row)), headers))
            decisions.append((key, encode(messages.decision(at, row)), headers))
            folder.open(folded, key, messages.open_slate(at, row))
        effects.outputs[self._config.topics.recommendations] = recommendations
        effects.outputs[self._config.topics.decisions] = decisions

    def _traced(self, effects: Effects, touched: Touched) -> Headers:
        """The headers that put a slate into its event's trace; with a tracer, it hears of the slate once it is out."""
        parent = touched.caused_in
        if parent is None or touched.cause is None:
            return ()
        if not self._config.traced or not parent.sampled:
            return parent.headers()
        partition, offset = touched.cause.partition, touched.cause.offset
        span = span_id(parent, partition, offset)
        links = tuple(one for one in touched.traces if one is not parent)
        effects.traced.append(Traced(partition, offset, parent, span, links, len(touched.covers)))
        return parent._replace(span=span).headers()

    def _close(self, partition: int, effects: Effects, folded: Folded, states: Mapping[bytes, bytes]) -> None:
        """Write outcomes, tombstones of erased users, and the new states."""
        topics = self._config.topics
        for key, touched in folded.users.items():
            if touched.erased:
                headers = [(COVERS, json.dumps(touched.erased).encode())]
                effects.outputs.setdefault(topics.recommendations, []).insert(0, (key, None, headers))
                if self._users is not None:
                    self._users.forget(partition, key)
        effects.outputs[topics.outcomes] = [(outcome.user.encode(), encode(outcome), ()) for outcome in folded.outcomes]
        effects.states = folded.changes(states)


def _offset(touched: Touched) -> int:
    return touched.covers[-1]
