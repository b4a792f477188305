"""What users do in a chaos run, event by event, and the bad events between.

A pure function of the seed and of what the users were shown. Event time is not the wall clock: it advances `SPEED`
times as fast, so that the windows of slates close while the run lasts. Knows nothing of Kafka.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ops.chaos.world import ITEMS, PER_CLUSTER

START_MS = 1_700_000_000_000
SPEED = 10
WINDOW_S = 60.0
"""How long a slate waits for its outcome, in event time: 6 s of a run."""

ACTIONS = ("view", "click", "like")
_ZIPF = 0.9
_LATEST_MS = 20_000  # an event may come so much after later ones
_KINDS = ("interaction", "impression", "request", "external", "erase")
_SHARES = (0.70, 0.15, 0.10, 0.04, 0.01)

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Event:
    """One record for the topic of events. `poison`: the reason for which it is bad; empty: it is good."""

    key: bytes
    value: bytes | None
    headers: Headers = ()
    poison: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """The slate that a user saw last."""

    slate: str
    items: Sequence[str]


class Traffic:
    """Makes one event after the other, `rate` of them for a second of the run."""

    def __init__(self, seed: int, users: int, rate: float) -> None:
        self._random = np.random.default_rng((seed, 3))
        self._users = users
        weights = np.arange(1, users + 1) ** -_ZIPF
        self._chances = np.cumsum(weights / weights.sum())
        self._step_ms = 1000 * SPEED / rate
        self._number = 0
        self._last: Event | None = None  # with an id that its user's state remembers

    def good(self, shown: Mapping[str, Shown]) -> Event:
        """The next event; `shown`: what users saw last, as far as it is known."""
        number = self._next_number()
        user = int(np.searchsorted(self._chances, self._random.random()))
        late = int(self._random.integers(0, _LATEST_MS)) if self._random.random() < 0.05 else 0
        kind = _KINDS[int(np.searchsorted(np.cumsum(_SHARES), self._random.random() * sum(_SHARES)))]
        fields = self._fields(kind, user, shown.get(_name(user)))
        event = _event(_name(user), {**fields, "time": self._time() - late, "id": f"e{number}"})
        self._last = None if kind == "erase" else event
        return event

    def last(self, partition_users: Sequence[str], seconds_later: float) -> list[Event]:
        """A request of each of these users, so much later in event time: it closes what windows are open."""
        self._number += round(seconds_later * 1000 / self._step_ms)
        return [
            _event(user, {"kind": "request", "time": self._time(), "id": f"e{self._next_number()}"})
            for user in partition_users
        ]

    def bad(self, poison: str) -> Event | None:
        """An event that must be dead-lettered for the reason `poison`; None where it takes an earlier event first."""
        user = _name(int(self._random.integers(0, self._users)))
        item = f"i{int(self._random.integers(0, ITEMS))}"
        fields: dict[str, Any] = {"kind": "interaction", "item": item, "time": self._time()}
        fields["id"] = f"bad{self._next_number()}"
        if poison == "malformed_json":
            return Event(user.encode(), b'{"kind": "interaction", "user": "', (), poison)
        if poison == "null_value":
            return Event(user.encode(), None, (), poison)
        if poison == "duplicate_id":
            return None if self._last is None else Event(self._last.key, self._last.value, (), poison)
        if poison == "wrong_key":
            return Event(b"somebody else", _event(user, fields).value, (), poison)
        if poison == "envelope":
            headers = (("ce_specversion", b"0.3"), ("ce_id", b"1"))
            return Event(user.encode(), _event(user, fields).value, headers, poison)
        wrong: dict[str, dict[str, Any]] = {
            "unknown_action": {"action": "lick"},
            "time_past": {"time": START_MS // 1000},
            "time_future": {"time": 4_000_000_000_000},
            "schema": {"item": 7},
            "unknown_kind": {"kind": "dance"},
        }
        return Event(user.encode(), _event(user, fields | wrong[poison]).value, (), poison)

    def _fields(self, kind: str, user: int, seen: Shown | None) -> dict[str, Any]:
        random = self._random
        if kind == "interaction":
            fields: dict[str, Any] = {"kind": kind, "action": ACTIONS[int(random.integers(0, len(ACTIONS)))]}
            fields["weight"] = round(float(random.random()) + 0.5, 3)
            if seen is not None and seen.items and random.random() < 0.5:
                fields["item"] = seen.items[int(random.integers(0, len(seen.items)))]
                return fields | ({"slate": seen.slate} if random.random() < 0.5 else {})
            return fields | {"item": self._liked(user)}
        if kind == "impression":
            if seen is None or not seen.items:
                return {"kind": "request"}
            return {"kind": kind, "items": list(seen.items), "slate": seen.slate}
        if kind == "external":
            return {"kind": "impression", "items": [self._liked(user) for _ in range(3)]}
        return {"kind": kind}

    def _liked(self, user: int) -> str:
        """An item of the user's own cluster, or any; now and then one that nobody knows."""
        draw = float(self._random.random())
        if draw < 0.02:
            return f"unheard-of-{int(self._random.integers(0, 50))}"
        if draw < 0.3:
            return f"i{int(self._random.integers(0, ITEMS))}"
        first = user * PER_CLUSTER % ITEMS
        return f"i{first + int(self._random.integers(0, PER_CLUSTER))}"

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _time(self) -> int:
        return START_MS + round(self._number * self._step_ms)


def _name(user: int) -> str:
    return f"u{user}"


def _event(user: str, fields: Mapping[str, Any]) -> Event:
    return Event(user.encode(), json.dumps({"user": user, **fields}).encode())
