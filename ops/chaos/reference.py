"""What one worker that was never interrupted would have made of the same log: driftline's own pipeline, replayed.

The other half of the checker shares no code with what it checks; this half shares all of it but engine and Kafka, so
that also numbers of the model, credits and open slates can be compared. Fed with records; knows nothing of brokers.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from evaluation.replay import PartitionLog, Replay
from evaluation.replay_world import ItemChange, Worlds
from models.release import Release
from models.serving import ServingModel
from ops.chaos import states
from ops.chaos.log import Finding
from ops.chaos.states import PARTITION_KEY, decoded, difference
from streams.contracts import Decision, EstimatorSnapshot, ItemVector
from streams.names import Topics
from streams.pipeline import PipelineConfig

States = Mapping[tuple[int, bytes], bytes]

_decision = msgspec.json.Decoder(Decision).decode
_vector = msgspec.json.Decoder(ItemVector).decode
_snapshot = msgspec.json.Decoder(EstimatorSnapshot).decode


@dataclass
class Comparison:
    """How the log compares with the replay.

    Attributes:
        states: how many final states were compared.
        wrong_states: those that differ.
        slates: decisions that come out otherwise, dead letters that do, answers that nobody gave.
        near_ties: slates that differ because two scores lie closer than the tolerance.
    """

    states: int = 0
    wrong_states: list[Finding] = field(default_factory=list)
    slates: list[Finding] = field(default_factory=list)
    near_ties: int = 0


class Reference:
    """Takes records of driftline's topics, each partition in order; `compare` replays and compares."""

    def __init__(self, topics: Topics, config: PipelineConfig, releases: Path) -> None:
        self._topics = topics
        self._config = config
        self._releases = releases
        self._events: dict[int, list[Any]] = defaultdict(list)
        self._decisions: dict[int, list[Decision]] = defaultdict(list)
        self._tombstones: dict[int, list[tuple[bytes, list[int]]]] = defaultdict(list)
        self._dead: dict[int, dict[int, str]] = defaultdict(dict)
        self._changes: list[ItemChange] = []
        self._snapshots: dict[str, EstimatorSnapshot] = {}

    def take(self, record: Any) -> None:
        topics, partition = self._topics, record.partition
        if record.topic == topics.events:
            self._events[partition].append(record)
        elif record.topic == topics.decisions:
            self._decisions[partition].append(_decision(record.value))
        elif record.topic == topics.recommendations and record.value is None:
            covers = json.loads(dict(record.headers)["driftline-covers"])
            self._tombstones[partition].append((record.key, covers))
        elif record.topic == topics.events_dlq:
            told = dict(record.headers)
            place = int(told["driftline-source-partition"]), int(told["driftline-source-offset"])
            self._dead[place[0]][place[1]] = told["driftline-reason"].decode()
        elif record.topic == topics.item_vectors:
            vector = None if record.value is None else _vector(record.value)
            self._changes.append(ItemChange(partition, record.offset, record.key.decode(), vector))
        elif record.topic == topics.models and record.key == b"estimator":
            snapshot = _snapshot(record.value)
            self._snapshots[snapshot.estimator] = snapshot

    def compare(self, found: States) -> Comparison:
        """Replay every partition, and compare slates and the final states `found` with what comes out."""
        replay = Replay(self._config, Worlds(self._changes, self._snapshots, self._load))
        result = Comparison()
        near: set[str] = set()
        verdicts: Counter[str] = Counter()
        for log in self._logs():
            for one in replay.run(log):
                verdicts[one.verdict] += 1
                place = log.partition, one.recorded.cause.offset, one.recorded.user
                if one.verdict == "near tie":
                    near.add(one.recorded.slate)
                elif one.verdict != "same" or not one.choice:
                    why = one.note or ("" if one.choice else "the policy chooses otherwise")
                    result.slates.append(Finding(f"replayed: {one.verdict}: {why}", *place))
        result.near_ties = len(near)
        result.slates += [Finding("answered by the replay, not in the log", *place) for place in replay.unrecorded]
        result.slates += [Finding("slates of one batch name different worlds", *place) for place in replay.conflicts]
        result.slates += [
            Finding(f"dead letter {logged}, by the replay {made}", partition, offset)
            for partition, offset, logged, made in [*replay.dead_differences, *replay.dead_unchecked]
        ]
        made_states = {(at, key): data for at, held in replay.states.items() for key, data in held.items()}
        result.states = len(made_states)
        result.wrong_states = list(differences(found, made_states, near))
        return result

    def _logs(self) -> Iterator[PartitionLog]:
        for partition, events in sorted(self._events.items()):
            yield PartitionLog(
                partition, events, self._decisions[partition], self._tombstones[partition], self._dead[partition]
            )

    def _load(self, release: str) -> ServingModel:
        return ServingModel(Release.load(self._releases / release))


def differences(found: States, reference: States, near: set[str]) -> Iterator[Finding]:
    """States that differ, in words. Slates named in `near` may hold other items and numbers."""
    for place in sorted(found.keys() | reference.keys()):
        partition, key = place
        user = key.decode() or None
        if place not in found:
            yield Finding("the replay has a state, the topic has none", partition, user=user)
        elif place not in reference:
            yield Finding("the topic has a state, the replay has none", partition, user=user)
        elif text := _difference(decoded(found[place]), decoded(reference[place]), key, near):
            yield Finding(text, partition, user=user)


def _difference(found: list[Any], reference: list[Any], key: bytes, near: set[str]) -> str | None:
    if key != PARTITION_KEY:
        found, reference = _blanked(found, near), _blanked(reference, near)
    return difference(found, reference, "state")


def _blanked(state: list[Any], near: set[str]) -> list[Any]:
    """Of slates that are near ties only the name counts."""
    slates = [[slate[0]] if slate[0] in near and not slate[states.SLATE_EXTERNAL] else slate for slate in state[7]]
    return [*state[:7], slates]
