"""Adjustments of a replay: taken from the record where the rules that they followed are not at hand.

Knows the contracts; knows nothing of Kafka, or of how adjustments come about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from policy.slate import PolicyConfig
from streams.adjuster import Adjuster
from streams.adjusting import Adjusted, Grouping, Scene
from streams.contracts import Decision
from streams.world import World

Ints = NDArray[np.int64]


class LoggedOr:
    """Follows arrangement and rules as a worker does; slates that others made are adjusted as the log says.

    `decisions()`: those of the batch in hand, by offset of their cause; `known()`: whether the estimator that they
    name is at hand.
    """

    def __init__(
        self, adjuster: Adjuster, decisions: Callable[[], Mapping[int, Decision]], known: Callable[[], bool]
    ) -> None:
        self._adjuster = adjuster
        self._decisions = decisions
        self._known = known

    def pins(self, world: World, offsets: Ints, users: Sequence[str], k: int) -> Ints | None:
        computed = self._adjuster.pins(world, offsets, users, k)
        if self._computes(offsets):
            return computed
        pins = np.full((len(offsets), k), -1, np.int64)
        for row, offset in enumerate(offsets.tolist()):
            decision = self._decisions().get(offset)
            for place in decision.pinned if decision is not None else []:
                if decision is not None and place < k:
                    pins[row, place] = world.catalogue.slots([decision.candidates[decision.chosen[place]] or ""])[0]
        return pins

    def adjust(self, scene: Scene) -> Adjusted:
        return self._adjuster.adjust(scene) if self._computes(scene.offsets) else recorded(scene, self._decisions())

    def _computes(self, offsets: Ints) -> bool:
        """Whether the rules at hand are those that the batch was made by, and all that they look at is there."""
        digests = {one.rules for one in map(self._decisions().get, offsets.tolist()) if one is not None}
        return digests <= {self._adjuster.digest} and (self._known() or self._adjuster.digest is None)


def recorded(scene: Scene, decisions: Mapping[int, Decision]) -> Adjusted:
    """What the log says of each slate's adjustments, by item; `decisions` by offset of their cause.

    A candidate that was none then gets nothing added. Temperatures are those logged, as far as the scene's policy is
    the one logged; under another, in the same proportion.
    """
    found = [decisions.get(offset) for offset in scene.offsets.tolist()]
    shape, k = scene.slots.shape, scene.policy.k
    names = sorted({name for decision in found if decision is not None for name in decision.adjustments})
    added = {name: np.zeros(shape, np.float32) for name in names}
    slots, pinned = scene.slots.copy(), np.full((len(found), k), -1, np.int64)
    temperature = np.full(len(found), scene.policy.temperature)
    for row, decision in enumerate(found):
        if decision is None:
            continue
        columns = _columns(scene, row)
        for name, column in decision.adjustments.items():
            for item, value in zip(decision.candidates, np.frombuffer(column, "<f4").tolist(), strict=True):
                if item in columns:
                    added[name][row, columns[item]] = value
        slots[row, [columns[item] for item in decision.removed if item in columns]] = -1
        for place in decision.pinned:
            item = decision.candidates[decision.chosen[place]]
            if place < k and item in columns:
                pinned[row, place] = columns[item]
        temperature[row] = _temperature(decision, scene.policy)
    left = scene.slots if np.array_equal(slots, scene.slots) else slots
    rules = next((decision.rules for decision in found if decision is not None), None)
    return Adjusted(left, added, temperature, pinned, rules, _grouping(scene, found))


def _grouping(scene: Scene, found: Sequence[Decision | None]) -> Grouping | None:
    """The groups as logged; None where no decision names any."""
    names = list(dict.fromkeys(name for decision in found if decision is not None for name in decision.groups))
    if not names:
        return None
    groups = np.full(scene.slots.shape, -1, np.int64)
    for row, decision in enumerate(found):
        columns = _columns(scene, row)
        for name, logged in (decision.groups if decision is not None else {}).items():
            items = [decision.candidates[column] for column in logged] if decision is not None else []
            groups[row, [columns[item] for item in items if item in columns]] = names.index(name)
    return Grouping(names, groups, [None if decision is None else decision.steered for decision in found])


def drawn_with(decision: Decision, k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A decision's temperature [1] and pinned columns [1, k], for `policy.slate.redecide`."""
    pinned = np.full((1, k), -1, np.int64)
    for place in decision.pinned:
        pinned[0, place] = decision.chosen[place]
    return np.array([decision.temperature]), pinned


def configured(decision: Decision) -> float:
    """The policy's temperature when the decision was made."""
    return decision.temperature if decision.policy_temperature is None else decision.policy_temperature


def _temperature(decision: Decision, policy: PolicyConfig) -> float:
    logged = configured(decision)
    return decision.temperature if logged == policy.temperature else decision.temperature / logged * policy.temperature


def _columns(scene: Scene, row: int) -> dict[str | None, int]:
    there = np.flatnonzero(scene.slots[row] >= 0)
    return dict(zip(scene.world.catalogue.ids(scene.slots[row, there]), there.tolist(), strict=True))
