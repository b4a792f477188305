"""The world as it was: catalogue, release and estimator at any position that a decision names.

Made from the changes of `item_vectors` in order, estimator snapshots by id, and releases as they can be loaded. What is
gone (a compacted snapshot, a missing release) is said, never guessed. Knows nothing of Kafka, users or slates.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from models.serving import ServingModel
from policy.frequency import StreamingFrequency
from streams.contracts import EstimatorSnapshot, ExposureState, FrequencyState, ItemVector
from streams.estimator_parts import unpack_frequency
from streams.world import Known, World

Load = Callable[[str], ServingModel]
"""Loads a release by its id; raises OSError or ValueError when it is missing or damaged."""

Position = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ItemChange:
    """One record of `item_vectors`; `vector` is None where the item was forgotten."""

    partition: int
    offset: int
    item: str
    vector: ItemVector | None


class ReleaseMissing(Exception):
    """A release that is to be computed with cannot be loaded."""


class Worlds:
    """Gives the world of a release at a position, quickest where positions ascend.

    `changes`: all there are, in order of offset within each partition. `snapshots` by id.
    """

    def __init__(self, changes: Iterable[ItemChange], snapshots: Mapping[str, EstimatorSnapshot], load: Load) -> None:
        self._changes: defaultdict[int, list[ItemChange]] = defaultdict(list)
        for change in changes:
            self._changes[change.partition].append(change)
        self._offsets = {at: [change.offset for change in log] for at, log in self._changes.items()}
        self._snapshots = snapshots
        self._load = load
        self._models: dict[str, ServingModel] = {}
        self._missing: dict[str, str] = {}
        self._world: World | None = None

    def knows_estimator(self, estimator: str | None) -> bool:
        """Whether the log still has this snapshot."""
        return estimator is None or estimator in self._snapshots

    def at(self, release: str, position: Position, estimator: str | None) -> World:
        """Return the world; the next call may change it. Raises `ReleaseMissing`.

        Where the snapshot is gone the world bears its name, and its popularity means nothing.
        """
        model = self._model(release)
        world = self._world
        if world is None or not self._carries_on(world, model, position, estimator):
            latest = {change.item: change.vector for change in self._between((0,) * len(position), position)}
            known = {item: vector for item, vector in latest.items() if vector is not None}
            world = World(model, 0, Known(known, position))
        elif position != world.position:
            changes = [(change.item, change.vector) for change in self._between(world.position, position)]
            world.apply(changes, position)
        self._world = world
        if estimator is not None and (world.estimator is None or world.estimator.estimator != estimator):
            self._estimate(world, estimator)
        return world

    def changed_later(self, item: str, position: Position) -> bool:
        """Whether the log has a record of the item after `position`, which may have replaced one before it."""
        return any(
            change.item == item
            for partition, log in self._changes.items()
            for change in log[bisect_left(self._offsets[partition], _at(position, partition)) :]
        )

    @staticmethod
    def _carries_on(world: World, model: ServingModel, position: Position, estimator: str | None) -> bool:
        return (
            world.model is model
            and len(world.position) == len(position)
            and all(before <= now for before, now in zip(world.position, position, strict=True))
            and (world.estimator is None or estimator is not None)
        )

    def _model(self, release: str) -> ServingModel:
        if release in self._missing:
            raise ReleaseMissing(self._missing[release])
        if release not in self._models:
            try:
                self._models[release] = self._load(release)
            except (OSError, ValueError) as error:
                self._missing[release] = f"release {release} cannot be loaded: {error}"
                raise ReleaseMissing(self._missing[release]) from error
        return self._models[release]

    def _between(self, before: Position, now: Position) -> list[ItemChange]:
        """Changes from position `before` up to `now`, partition by partition."""
        found: list[ItemChange] = []
        for partition, log in sorted(self._changes.items()):
            start, stop = (bisect_left(self._offsets[partition], _at(at, partition)) for at in (before, now))
            found += log[start:stop]
        return found

    def _estimate(self, world: World, estimator: str) -> None:
        snapshot = self._snapshots.get(estimator)
        if snapshot is None:
            world.estimate(_nameless(estimator), StreamingFrequency())
        else:
            world.estimate(snapshot, unpack_frequency(snapshot.frequency))


def _at(position: Position, partition: int) -> int:
    return position[partition] if partition < len(position) else 0


def _nameless(estimator: str) -> EstimatorSnapshot:
    """A snapshot of which only the id is known."""
    frequency = FrequencyState(1.0, 0, 0, 1, 1, bytes(8), bytes(8), bytes(8))
    exposure = ExposureState(1, b"", b"", b"", b"", 0.0, 0)
    return EstimatorSnapshot(estimator, 0, {}, 0, frequency, exposure, None)
