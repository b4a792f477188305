"""Folding a batch of events into user states: what each event does to what is remembered of its user.

Events go in in offset order, states come out changed, with the outcomes that closed on the way. Pure:
the same batches of events and the same states give the same result. Knows nothing of Kafka clients, models
or policies.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from streams.contracts import Cause, Erase, Event, Impression, Interaction, Outcome
from streams.job import DeadLetter, Record
from streams.state import (
    PARTITION_KEY,
    OpenSlate,
    PartitionState,
    StateLimits,
    UserState,
    decode_partition,
    decode_user,
    encode_state,
    id_hash,
    waits,
)
from streams.store import marked
from streams.tracing import Context, context
from streams.validation import BadMessage, EventRules, cloud_event, decode_event

MAX_CLOSED_PER_BATCH = 256
"""Windows of absent users closed in one batch; the rest wait for the next, so that a batch stays short."""

NewEvent = tuple[str, int, float, int]
"""Item id, event time in ms, weight, index of the action."""


@dataclass(slots=True)
class Touched:
    """One user whom the batch concerns.

    `stamp` identifies the state before the batch, (events, offset): what was derived from that state may
    be carried on with `new`. After an erasure there is nothing to carry on from: `stamp` is None.
    """

    user: str
    state: UserState
    stamp: tuple[int, int] | None
    new: list[NewEvent] = field(default_factory=list)
    covers: list[int] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)
    cause: Cause | None = None
    time: int = 0
    arrived: int = 0
    watermark: int = 0
    changed: bool = False
    traces: list[Context] = field(default_factory=list)  # of covered events; the causing event's is the last
    caused_in: Context | None = None  # the causing event's, if it has one


@dataclass(slots=True)
class Folded:
    """The result of folding one batch of one partition."""

    users: dict[bytes, Touched] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    watermark: int = 0

    def changes(self, before: Mapping[bytes, bytes]) -> dict[bytes, bytes | None]:
        """The states that are not as they were, encoded, by key; None for a user who was erased and did not return."""
        found: dict[bytes, bytes | None] = {}
        for key, touched in self.users.items():
            if touched.erased and not touched.covers:
                found[key] = None
            elif touched.changed:
                found[key] = encode_state(touched.state)
        partition = encode_state(PartitionState(watermark=self.watermark))
        if partition != before.get(PARTITION_KEY):
            found[PARTITION_KEY] = partition
        return found


class Folder:
    """Folds the batches of one partition.

    Beside the states it keeps one derived thing: when the next window of which user closes, so that the
    outcomes of those who never come back are closed too.
    """

    def __init__(self, partition: int, limits: StateLimits, rules: EventRules) -> None:
        self._partition = partition
        self._limits = limits
        self._actions = {action: index for index, action in enumerate(rules.actions)}
        self._rules = rules
        self._deadlines: list[tuple[int, bytes]] = []
        self._waiting: set[bytes] = set()
        self._taken: list[bytes] = []

    def restored(self, states: Mapping[bytes, bytes]) -> None:
        """Learn the open windows from restored states."""
        self._deadlines, self._waiting, self._taken = [], set(), []
        for key, opened in marked(states, waits):
            self._wait_for(key, int.from_bytes(opened, "big", signed=True))

    def decode(self, records: Sequence[Record]) -> list[Event | BadMessage]:
        """What each record says, or what is wrong with it."""
        return [self._decode(record) for record in records]

    def _decode(self, record: Record) -> Event | BadMessage:
        try:
            if record.headers:
                cloud_event(record.headers)
            return decode_event(record.key, record.value, record.timestamp, self._rules)
        except BadMessage as error:
            return error

    def fold(
        self,
        records: Sequence[Record],
        states: Mapping[bytes, bytes],
        decoded: Sequence[Event | BadMessage] | None = None,
    ) -> Folded:
        """Fold `records` (in offset order) into copies of the states that they touch; `decoded`: what they say.

        To be followed by `open` for each new slate, then by `close_absent`.
        """
        self._put_back(states)
        folded = Folded(watermark=decode_partition(states.get(PARTITION_KEY)).watermark)
        for record, event in zip(records, self.decode(records) if decoded is None else decoded, strict=True):
            try:
                if isinstance(event, BadMessage):
                    raise event
                self._fold_one(folded, event, record, states)
            except BadMessage as error:
                folded.dead.append(DeadLetter(record, error.reason, str(error)))
        if erased := {key: touched.state for key, touched in folded.users.items() if touched.erased}:
            self._wait_no_more(erased)
        return folded

    def open(self, folded: Folded, key: bytes, slate: OpenSlate) -> None:
        """Add a slate to a user's state; those that make room for it become outcomes."""
        touched = folded.users[key]
        for evicted in touched.state.open(slate, self._limits):
            folded.outcomes.append(_outcome(touched, evicted, touched.time, "evicted"))
        self._watch(key, touched.state)

    def close_absent(self, folded: Folded, states: Mapping[bytes, bytes]) -> None:
        """Close the windows that are due by now, whosever they are; those of who had an event closed with it.

        After the batch's slates were opened: what a slate makes room among must not depend on how far later
        events, of others, carried the time.
        """
        for _ in range(MAX_CLOSED_PER_BATCH):
            if not self._deadlines or self._deadlines[0][0] > folded.watermark:
                return
            _, key = heapq.heappop(self._deadlines)
            self._waiting.discard(key)
            self._taken.append(key)
            if key in states or key in folded.users:
                touched = self._touch(folded, key.decode(), states)
                self._close(folded, touched)
                self._watch(key, touched.state)

    def _watch(self, key: bytes, state: UserState) -> None:
        """See to it that the user's oldest open window is waited for."""
        if state.slates:
            self._wait_for(key, min(slate.opened for slate in state.slates))

    def _wait_for(self, key: bytes, opened: int) -> None:
        if key not in self._waiting:
            self._waiting.add(key)
            heapq.heappush(self._deadlines, (opened + self._limits.outcome_window_ms, key))

    def _put_back(self, states: Mapping[bytes, bytes]) -> None:
        """Wait again for the users whose windows the last batch closed or erased, as far as it was not committed."""
        for key in self._taken:
            if key in states:
                self._watch(key, decode_user(states[key]))
        self._taken.clear()

    def _wait_no_more(self, erased: Mapping[bytes, UserState]) -> None:
        """Wait for no window from before an erasure: nothing here may go on knowing who does not come back."""
        self._waiting -= erased.keys()
        self._taken += erased
        self._deadlines = [one for one in self._deadlines if one[1] not in erased]
        heapq.heapify(self._deadlines)
        for key, state in erased.items():
            self._watch(key, state)

    def _close(self, folded: Folded, touched: Touched) -> None:
        for slate in touched.state.close_due(folded.watermark, self._limits):
            touched.changed = True
            closed = slate.opened + self._limits.outcome_window_ms
            folded.outcomes.append(_outcome(touched, slate, closed, "window"))

    def _fold_one(self, folded: Folded, event: Event, record: Record, states: Mapping[bytes, bytes]) -> None:
        touched = self._touch(folded, event.user, states)
        state = touched.state
        if record.offset <= state.offset:
            raise BadMessage(
                "already_folded", f"offset {record.offset} is not after {state.offset}, the last folded of this user"
            )
        if isinstance(event, Erase):
            self._erase(folded, touched, event, record.offset)
            return
        if event.id is not None and not state.remember_id(event.id, self._limits):
            raise BadMessage("duplicate_id", f"id {event.id!r} was seen before; expected a new one for a new event")
        folded.watermark = max(folded.watermark, event.time)
        self._close(folded, touched)
        touched.changed = True
        touched.covers.append(record.offset)
        touched.time, touched.arrived = event.time, record.timestamp
        touched.watermark = folded.watermark
        touched.caused_in = context(record.headers) if record.headers else None
        if touched.caused_in is not None:
            touched.traces.append(touched.caused_in)
        item = None
        state.group = event.group or state.group
        if isinstance(event, Interaction):
            item = event.item
            self._interact(touched, event)
        elif isinstance(event, Impression):
            self._show(folded, touched, event, record.offset)
        state.offset = record.offset
        touched.cause = Cause(self._partition, record.offset, _kind(event), item)

    def _erase(self, folded: Folded, touched: Touched, event: Erase, offset: int) -> None:
        """Forget a user: what was remembered, what waits for its outcome, and outcomes not yet written.

        Never refused for its id: it may be one that the user's events have used, and to erase twice does no harm.
        """
        folded.watermark = max(folded.watermark, event.time)
        folded.outcomes = [outcome for outcome in folded.outcomes if outcome.user != event.user]
        touched.traces, touched.caused_in = [], None
        touched.erased, touched.covers = [*touched.erased, *touched.covers, offset], []
        touched.state, touched.stamp, touched.new = UserState(offset=offset), None, []

    def _touch(self, folded: Folded, user: str, states: Mapping[bytes, bytes]) -> Touched:
        key = user.encode()
        touched = folded.users.get(key)
        if touched is None:
            state = decode_user(states.get(key))
            touched = folded.users[key] = Touched(user, state, (state.events, state.offset))
        return touched

    def _interact(self, touched: Touched, event: Interaction) -> None:
        action = self._actions[event.action]
        touched.state.credit(event.item, event.weight, event.slate)
        digest = id_hash(event.item)
        touched.state.react(digest)
        touched.state.push(digest, event.time, event.weight, action, self._limits)
        touched.new.append((event.item, event.time, event.weight, action))

    def _show(self, folded: Folded, touched: Touched, event: Impression, offset: int) -> None:
        """An impression confirms a slate of ours, or opens one of another system's."""
        named = [slate for slate in touched.state.slates if slate.slate == event.slate]
        if not any(slate.shown for slate in named):
            touched.state.expose(event.items, event.time)
        if event.slate is not None:
            for slate in named:
                slate.shown = True
            return
        external = OpenSlate(
            f"{self._partition}-{offset}",
            event.time,
            folded.watermark,
            event.items,
            external=True,
            shown=True,
            history=touched.state.events,
        )
        self.open(folded, event.user.encode(), external)


def _outcome(touched: Touched, slate: OpenSlate, closed: int, reason: Literal["window", "evicted"]) -> Outcome:
    """Return the labelled record of a slate whose window has closed."""
    return Outcome(
        user=touched.user,
        slate=slate.slate,
        time=slate.time,
        closed=closed,
        reason=reason,
        origin="external" if slate.external else "driftline",
        shown=slate.shown,
        items=slate.items,
        rewards=slate.rewards or [0.0] * len(slate.items),
        conditional=slate.conditional,
        propensity=slate.propensity,
        inclusion=slate.inclusion,
        unshown=slate.unshown,
        unshown_inclusion=slate.unshown_inclusion,
        candidates=slate.candidates,
        history=slate.history,
        release=slate.release,
        estimator=slate.estimator,
        group=touched.state.group,
        uniform=slate.uniform,
        swapped=slate.swapped,
        steered=slate.steered,
        item_groups=slate.item_groups,
        group_candidates=slate.group_candidates,
        pinned=slate.pinned,
    )


def _kind(event: Event) -> Literal["interaction", "impression", "request", "erase"]:
    kind: Literal["interaction", "impression", "request", "erase"] = event.__struct_config__.tag  # type: ignore[assignment]
    return kind
