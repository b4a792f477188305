"""A log as workers would have written it, without Kafka: batches of any size, crashes, hand-overs, a changing world."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import msgspec

from evaluation.replay import PartitionLog
from evaluation.replay_world import ItemChange, Worlds
from models.serving import ServingModel
from streams.contracts import Decision, EstimatorSnapshot, ItemVector, Outcome
from streams.estimator_parts import unpack_frequency
from streams.job import Record
from streams.pipeline import COVERS, Pipeline, PipelineConfig
from streams.world import Known, World
from tests import small

decode = msgspec.json.Decoder(Decision).decode
decode_outcome = msgspec.json.Decoder(Outcome).decode


BLENDED = 2
"""In place of a seed: the release that has counts and a blend."""


class Topics:
    """What is on the topics that all workers read, and how far each has come is each one's own affair."""

    def __init__(self) -> None:
        self.changes: list[ItemChange] = []
        self.snapshots: dict[str, EstimatorSnapshot] = {}
        self.models = {seed: ServingModel(small.release(seed)) for seed in (0, 1)}
        self.models[BLENDED] = ServingModel(small.blended())
        for item, vector in small.items().items():
            self.tell(item, vector)

    def tell(self, item: str, vector: ItemVector | None) -> None:
        self.changes.append(ItemChange(0, len(self.changes), item, vector))

    def worlds(self) -> Worlds:
        by_id = {model.release_id: model for model in self.models.values()}

        def load(release: str) -> ServingModel:
            if release not in by_id:
                raise OSError("no such folder")
            return by_id[release]

        return Worlds(self.changes, self.snapshots, load)


class Worker:
    """A worker: its own pipeline and its own way through the changes of the world."""

    def __init__(self, topics: Topics, config: PipelineConfig, seed: int = 0) -> None:
        self._topics = topics
        self._read = 0
        self.world = self._built(seed)
        self.pipeline = Pipeline(config, lambda: self.world, clock=lambda: small.START)

    def _built(self, seed: int) -> World:
        known: dict[str, ItemVector] = {}
        for change in self._topics.changes:
            known.pop(change.item, None)
            if change.vector is not None:
                known[change.item] = change.vector
        self._read = len(self._topics.changes)
        return World(self._topics.models[seed], small.START, Known(known, (self._read,)))

    def release(self, seed: int) -> None:
        self.world = self._built(seed)

    def estimate(self, snapshot: EstimatorSnapshot) -> None:
        self._topics.snapshots[snapshot.estimator] = snapshot
        self.world.estimate(snapshot, unpack_frequency(snapshot.frequency))

    def catch_up(self) -> None:
        new = self._topics.changes[self._read :]
        if new:
            self._read += len(new)
            self.world.apply([(change.item, change.vector) for change in new], (self._read,))


class Log:
    """One partition: what went in, what came out, and the states."""

    def __init__(self, partition: int = 0) -> None:
        self.partition = partition
        self.events: list[Record] = []
        self.decisions: list[Decision] = []
        self.outcomes: list[Outcome] = []
        self.tombstones: list[tuple[bytes, list[int]]] = []
        self.dead: dict[int, str] = {}
        self.states: dict[bytes, bytes] = {}

    def assign(self, worker: Worker) -> None:
        worker.pipeline.assigned(self.partition, self.states)

    def send(self, worker: Worker, *records: Record) -> None:
        """One committed batch."""
        effects = worker.pipeline.apply(self.partition, records, self.states)
        for key, state in effects.states.items():
            if state is None:
                self.states.pop(key, None)
            else:
                self.states[key] = state
        self.events += records
        self.dead |= {letter.record.offset: letter.reason for letter in effects.dead}
        self.decisions += [decode(value) for _, value, _ in effects.outputs.get("decisions", ()) if value]
        self.outcomes += [decode_outcome(value) for _, value, _ in effects.outputs.get("outcomes", ()) if value]
        for key, value, headers in effects.outputs.get("recommendations", ()):
            if value is None:
                self.tombstones.append((key or b"", json.loads(dict(headers)[COVERS])))

    def partition_log(self, **changed: object) -> PartitionLog:
        fields = {
            "partition": self.partition,
            "events": self.events,
            "decisions": self.decisions,
            "tombstones": self.tombstones,
            "dead": self.dead,
        }
        return PartitionLog(**(fields | changed))  # type: ignore[arg-type]


def batched(records: Sequence[Record], size: Callable[[], int]) -> list[list[Record]]:
    """Divide records into batches of sizes that `size` gives."""
    found, at = [], 0
    while at < len(records):
        width = max(1, size())
        found.append(list(records[at : at + width]))
        at += width
    return found
