"""A release in service, offline: the worker's own pipeline fed with a stream, and its greedy lists.

Events go in as records, states come back as bytes, a slate answers each event, as in a worker: `streams/pipeline.py`
does it all. Here it is asked for what it would put first: its candidates in order of their logits, without the
random choice that follows. Knows nothing of how a release is learned or how lists are judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from evaluation.stream import EventStream
from models.config import Int64
from models.release import Release
from models.serving import ServingModel
from policy.slate import PolicyConfig
from streams.contracts import Interaction, ItemVector, Request, encode
from streams.names import Topics
from streams.pipeline import Pipeline, PipelineConfig
from streams.state import StateLimits
from streams.validation import EventRules
from streams.world import Known, World

_PARTITION = 0
_WARM_UP_BATCH = 512
"""Events of a batch where nobody looks at the slates."""


@dataclass(frozen=True, slots=True)
class _Record:
    """An event as the engine would hand it over; it arrives when it happens."""

    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


def pipeline_config(
    stream: EventStream, history: int, *, k: int, candidates: int, filter_seen: bool, users_at_once: int
) -> PipelineConfig:
    """The worker's configuration, with what plays no part in a greedy list left out (exploration, marginals), and no
    bound on what is remembered as seen. ``history``: events that the model needs of a user."""
    busiest = int(stream.user_events.max(initial=0)) + 1
    return PipelineConfig(
        topics=Topics(),
        rules=EventRules(actions=tuple(stream.action_names), oldest_time=0),
        policy=PolicyConfig(k=k, candidates=max(candidates, k), injected=0, marginals=False, beta=0.0),
        limits=StateLimits(events=history, seen=busiest, open_slates=1),
        filter_seen=filter_seen,
        cached_users=users_at_once,
    )


class Service:
    """One worker with one partition, and a catalogue that grows with the stream.

    `vectors` are the items by row of ``stream.item_ids``, those included that come later.
    """

    def __init__(self, stream: EventStream, vectors: Sequence[ItemVector], config: PipelineConfig, release: Release):
        self._stream, self._vectors = stream, vectors
        self._states: dict[bytes, bytes] = {}
        self._now = 0
        self._known = stream.listed  # items in the catalogue, by row
        self._item: Int64 = np.empty(0, np.int64)  # row by slot
        self._world: World
        self.use(release)
        self._pipeline = Pipeline(config, lambda: self._world, clock=lambda: self._now)
        self._pipeline.assigned(_PARTITION, self._states)

    def use(self, release: Release) -> None:
        """Serve with this release from now on, as a worker does: caches of users are made again from their states."""
        known = {vector.item: vector for vector in self._vectors[: self._known]}
        self._world = World(ServingModel(release), self._now, Known(known, (self._known,)))
        self._place(0)

    def learn_of(self, items: int) -> None:
        """Have the first ``items`` of the stream's items in the catalogue."""
        if items > self._known:
            before, self._known = self._known, items
            self._world.upsert(self._vectors[before:items])
            self._place(before)

    def warm_up(self, end: int) -> None:
        """Fold the events before ``end``, unasked."""
        self.learn_of(self._stream.known_items(end))
        for begin in range(0, end, _WARM_UP_BATCH):
            self._apply([self._interaction(event) for event in range(begin, min(end, begin + _WARM_UP_BATCH))])

    def lists(self, begin: int, end: int, k: int) -> Int64:
        """Fold the events from ``begin`` to before ``end``; the lists [n, k] of item rows, each before its event.

        The catalogue grows with the first event of an item that was not listed; between two of these nothing changes
        for anybody but what he does himself.
        """
        new = self._stream.known_from[self._stream.items[begin:end]] == np.arange(begin, end)
        edges = [begin, *(begin + 1 + np.flatnonzero(new)).tolist(), end]
        found = [np.empty((0, k), np.int64)]
        for since, until in pairwise(edges):
            if since < until:
                self.learn_of(self._stream.known_items(since))
                found.append(self._unchanged(since, until, k))
        return np.concatenate(found)

    def _unchanged(self, begin: int, end: int, k: int) -> Int64:
        """The same for events between which neither release nor catalogue change.

        A user's first event here is preceded by a request, what an app sends when it is opened: his list is that of the
        present release and catalogue. Each later one finds the slate that answered the one before it. Users do not
        concern each other, so that their first events go together, then their second ones, and so on.
        """
        lists = np.full((end - begin, k), -1, np.int64)
        waves = _waves(self._stream.users[begin:end])
        answered = begin + waves[0]
        ranked = self._apply([self._request(event) for event in answered.tolist()])
        for wave in waves:
            events = begin + wave
            of_user = {user: row for row, user in enumerate(self._stream.users[answered].tolist())}
            before = ranked[[of_user[user] for user in self._stream.users[events].tolist()], :k]
            lists[wave, : before.shape[1]] = before
            ranked, answered = self._apply([self._interaction(event) for event in events.tolist()]), events
        return lists

    # -- items --------------------------------------------------------------------------------------

    def _place(self, since: int) -> None:
        """Find the slots of the items from row ``since`` on."""
        slots = self._world.catalogue.slots([vector.item for vector in self._vectors[since : self._known]])
        if (slots < 0).any():
            row = since + int(np.argmin(slots))
            raise ValueError(f"item {self._vectors[row].item!r} does not suit the release's text encoder")
        self._item = np.concatenate([self._item[:since], np.empty(self._known - since, np.int64)])
        self._item[slots] = np.arange(since, self._known)

    # -- the pipeline -------------------------------------------------------------------------------

    def _apply(self, records: list[_Record]) -> NDArray[np.int64]:
        """Run a batch; rows of items [B, width], best first, −1 padded, in the order of the users' last records."""
        self._now = records[-1].timestamp
        effects = self._pipeline.apply(_PARTITION, records, self._states)
        if effects.dead:
            dead = effects.dead[0]
            raise ValueError(f"event {dead.record.offset // 2}: {dead.message}")
        for key, state in effects.states.items():
            if state is None:
                self._states.pop(key, None)
            else:
                self._states[key] = state
        slates = self._pipeline.last
        if slates is None:
            raise RuntimeError(f"{len(records)} events, and the pipeline answered none of them")
        order = np.argsort(-slates.decisions.logits, axis=1, kind="stable")
        slots = np.take_along_axis(slates.slots, order, axis=1)
        return np.where(slots >= 0, self._item[slots], -1)

    def _interaction(self, event: int) -> _Record:
        stream = self._stream
        user, time = stream.user_ids[stream.users[event]], int(stream.times_ms[event])
        message = Interaction(
            user,
            stream.item_ids[stream.items[event]],
            time,
            stream.action_names[stream.actions[event]],
            float(stream.weights[event]),
        )
        return _Record(2 * event + 1, time, user.encode(), encode(message))

    def _request(self, event: int) -> _Record:
        stream = self._stream
        user, time = stream.user_ids[stream.users[event]], int(stream.times_ms[event])
        return _Record(2 * event, time, user.encode(), encode(Request(user, time)))


def _waves(users: Int64) -> list[Int64]:
    """Places of everybody's first event, then of everybody's second one, and so on, each in order."""
    order = np.argsort(users, kind="stable")
    begins = np.flatnonzero(np.diff(users[order], prepend=-1))
    turn = np.empty(len(users), np.int64)
    turn[order] = np.arange(len(users)) - np.repeat(begins, np.diff(begins, append=len(users)))
    return [np.flatnonzero(turn == at) for at in range(int(turn.max(initial=-1)) + 1)]
