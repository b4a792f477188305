"""A user's interest at a later time, from his state: which topics and items gain, which lose, and how he drifts.

What is said of now and of later comes from one state, the one after his last event. Topics now are those of his recent
events, later the release's forecast; items now are what his ordinary vector speaks for, later what the vector of the
later time does, among the items that can be recommended to him. Knows nothing of Kafka or of how anything is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.drift import DAY_MS, Drift, drift, topic_axes
from models.horizon import own_shares, shares
from streams.contracts import ItemVector
from streams.state import UserState
from streams.world import World, features_of

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Change:
    """A topic's share, or an item's chance to be the next one, now and later; the parts of all sum to 1."""

    name: str
    now: float
    later: float


@dataclass(frozen=True, slots=True, eq=False)
class Interest:
    """What is expected.

    Attributes:
        since: time of the user's last event, ms: "now" is then.
        at: the time asked for.
        topics, items: those with any part, by how much they gain: the greatest gain first, the greatest loss last.
        drift: of the last day before the last event; None where he had one event only.
        topic_names: what the columns of ``drift.topics`` are.
    """

    since: int
    at: int
    topics: Sequence[Change]
    items: Sequence[Change]
    drift: Drift | None
    topic_names: Sequence[str]


def forecast(
    world: World, items: Mapping[str, ItemVector], state: UserState, at: int, *, filter_seen: bool
) -> Interest:
    """Ask for a user's interest at the time ``at``, ms.

    Args:
        world: made of a release with a head for later times, and of ``items``.
        filter_seen: what he had interactions with cannot be recommended to him.

    Raises:
        ValueError: he had no event, or not one before ``at``; or the release has no head for later times.
    """
    history = state.history()
    if not len(history):
        raise ValueError("the user had no event yet")
    since = int(history["time"][-1])
    if at <= since:
        raise ValueError(f"the time is {at}, expected one after the user's last event, {since}")
    head = world.model.horizon
    if head is None:
        raise ValueError(f"release {world.model.release_id} has no head for later times")
    now, ahead = np.array([since]), np.array([at - since])
    hidden = _hidden(world, history)
    vectors = np.concatenate([world.model.user_vectors(hidden), world.model.future_vectors(hidden, now, ahead)])
    slots = _recommendable(world, state, filter_seen)
    ids = world.catalogue.ids(slots)
    found = world.model.project(ids, features_of([items[one] for one in ids]))
    chances = _softmax(vectors @ found.search.T)
    names, of_items = _topics(world, items)
    own = own_shares(
        _of_events(of_items, world.catalogue.slots_of_hashes(history["item"]))[None],
        np.ones((1, len(history)), bool),
        head.everybody,
    )
    later = head.topics((chances[1] @ of_items[slots])[None], own, ahead)[0]
    moved = _drift(world, history, found.search[:, :-1], of_items[slots])
    return Interest(since, at, _changes(names, own[0], later), _changes(ids, *chances), moved, names)


def _hidden(world: World, history: NDArray[np.void]) -> Float32:
    """[1, d] the state after these events."""
    slots = world.catalogue.slots_of_hashes(history["item"])
    inputs = np.where((slots >= 0)[:, None], world.inputs[slots], np.float32(0))
    columns = [[history[name]] for name in ("time", "action", "weight")]
    return world.model.rebuild(world.model.new_cache(1), np.array([0]), [inputs], *columns)


def _recommendable(world: World, state: UserState, filter_seen: bool) -> NDArray[np.int64]:
    slots = world.catalogue.alive_slots()
    if not filter_seen:
        return slots
    seen = world.catalogue.slots_of_hashes(np.concatenate([state.seen_before(), state.history()["item"]]))
    return np.setdiff1d(slots, seen)


def _topics(world: World, items: Mapping[str, ItemVector]) -> tuple[Sequence[str], Float32]:
    """The release's topics, and [slots, t] the shares of every slot's item."""
    names = world.model.topics
    column = {name: at for at, name in enumerate(names)}
    members = np.zeros((len(world.catalogue), len(names)), np.float32)
    for slot, item in enumerate(world.catalogue.ids(range(len(world.catalogue)))):
        if item in items:
            members[slot, [column[name] for name in items[item].categories if name in column]] = 1
    return names, shares(members)


def _of_events(of_items: Float32, slots: NDArray[np.int64]) -> Float32:
    """[n, t] topics of events; zeros for an item that is not known."""
    return np.where((slots >= 0)[:, None], of_items[slots], np.float32(0))


def _drift(world: World, history: NDArray[np.void], vectors: Float32, of_items: Float32) -> Drift | None:
    """From what he was a day before his last event, or at his first one if that is later."""
    if len(history) < 2:
        return None
    times = history["time"]
    end = max(1, int(np.searchsorted(np.maximum.accumulate(times), times[-1] - DAY_MS, side="right")))
    end = min(end, len(history) - 1)
    before, after = (world.model.user_vectors(_hidden(world, part)) for part in (history[:end], history))
    elapsed = np.array([max(0, int(times[-1] - times[end - 1]))])
    return drift(before, after, elapsed, topic_axes(vectors, of_items))


def _changes(names: Sequence[str], now: Float32, later: Float32) -> list[Change]:
    order = np.argsort(now - later, kind="stable")
    return [Change(names[at], float(now[at]), float(later[at])) for at in order.tolist() if now[at] or later[at]]


def _softmax(logits: Float32) -> Float32:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances: Float32 = raised / raised.sum(axis=1, keepdims=True)
    return chances
