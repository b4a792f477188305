"""Topics by hand: a short log of one partition with everything that driftline would answer to it, to be spoiled."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ops.chaos.checker import Checker, Findings, Poison
from ops.chaos.states import Rules
from streams.names import Topics

TOPICS = Topics()
WINDOW_MS = 60_000
RULES = Rules(events=4, seen=2, ids=3, actions=("view", "click"))


@dataclass
class FakeRecord:
    """A record as a consumer delivers it."""

    topic: str
    offset: int
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int = 0
    timestamp: int = 0


def hashed(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def entry(item: str, time: int, weight: float = 1.0, action: int = 0) -> bytes:
    return struct.pack("<8sqfB", hashed(item), time, weight, action)


def event(offset: int, user: str, kind: str, time: int, **fields: Any) -> FakeRecord:
    value = {"kind": kind, "user": user, "time": time, "id": f"id{offset}", **fields}
    return FakeRecord("events", offset, user.encode(), json.dumps(value).encode())


def slate(user: str, covers: list[int], cause: int | None = None) -> dict[str, Any]:
    cause = covers[-1] if cause is None else cause
    return {"slate": f"0-{cause}", "user": user, "cause": {"partition": 0, "offset": cause}, "covers": covers}


def outcome(user: str, slate: str, time: int, closed: int, origin: str = "driftline", reason: str = "window") -> Any:
    return {"slate": slate, "user": user, "time": time, "closed": closed, "origin": origin, "reason": reason}


def state(events: int, offset: int, last_time: int, ring: bytes, ids: list[str], slates: list[str]) -> list[Any]:
    opened = [[name, 0, 0, ["i1"], False] for name in slates]
    return [2, events, offset, last_time, ring, b"", b"".join(map(hashed, ids)), opened, None, b""]


def letter(offset: int, key: bytes, value: bytes | None, reason: str) -> tuple[bytes, bytes | None, Any]:
    told = {"reason": reason, "message": "bad", "source-partition": "0", "source-offset": str(offset)}
    return key, value, tuple((f"driftline-{name}", text.encode()) for name, text in told.items())


@dataclass
class Contents:
    """What is on the topics. In order until somebody changes a list.

    Two users come and stay, `u2` is erased, `u1` also tells of another system's slate, and one event is bad.
    """

    events: list[FakeRecord] = field(
        default_factory=lambda: [
            event(0, "u1", "interaction", 1_000, item="i1"),
            event(1, "u2", "request", 2_000),
            event(2, "u1", "interaction", 3_000, item="i2", action="click", weight=2.5),
            FakeRecord("events", 3, b"u1", b"{"),
            event(4, "u1", "impression", 4_000, items=["i9"]),
            event(5, "u2", "erase", 5_000),
            event(6, "u3", "interaction", 70_000, item="i3"),
            event(7, "u1", "request", 100_000),
        ]
    )
    poisons: dict[tuple[int, int], Poison] = field(
        default_factory=lambda: {(0, 3): Poison(b"u1", b"{", "malformed_json")}
    )
    slates: list[Any] = field(
        default_factory=lambda: [
            slate("u1", [0]),
            slate("u2", [1]),
            slate("u1", [2, 4]),
            ("u2", [5]),  # a tombstone
            slate("u3", [6]),
            slate("u1", [7]),
        ]
    )
    decisions: list[str] = field(default_factory=lambda: ["0-0", "0-1", "0-4", "0-6", "0-7"])
    outcomes: list[Any] = field(
        default_factory=lambda: [
            outcome("u1", "0-0", 1_000, 61_000),
            outcome("u1", "0-4", 4_000, 64_000),
            outcome("u1", "0-4", 4_000, 64_000, origin="external"),
        ]
    )
    letters: list[Any] = field(default_factory=lambda: [letter(3, b"u1", b"{", "malformed_json")])
    states: dict[bytes, Any] = field(
        default_factory=lambda: {
            b"u1": state(2, 7, 3_000, entry("i1", 1_000) + entry("i2", 3_000, 2.5, 1), ["id2", "id4", "id7"], ["0-7"]),
            b"u3": state(1, 6, 70_000, entry("i3", 70_000), ["id6"], ["0-6"]),
            b"": [1, 100_000],
        }
    )
    learned: int = 3

    def checker(self) -> Checker:
        """A checker that has read everything."""
        checker = Checker(TOPICS, self.poisons, 1, WINDOW_MS, RULES)
        for record in self.records():
            checker.take(record)
        return checker

    def check(self) -> Findings:
        return self.checker().findings()

    def wrong(self) -> dict[str, int]:
        """How much was found of each kind, without the zeros."""
        return {name: len(found) for name, found in self.check().wrong().items() if found}

    def records(self) -> list[FakeRecord]:
        made = list(self.events)
        for at, one in enumerate(self.slates):
            if isinstance(one, tuple):
                covers = (("driftline-covers", json.dumps(one[1]).encode()),)
                made.append(FakeRecord("recommendations", at, one[0].encode(), None, covers))
            else:
                value = json.dumps(one).encode()
                made.append(FakeRecord("recommendations", at, one["user"].encode(), value, timestamp=1000 * at))
        for at, name in enumerate(self.decisions):
            made.append(FakeRecord("decisions", at, b"", json.dumps({"slate": name}).encode()))
        for at, one in enumerate(self.outcomes):
            made.append(FakeRecord("outcomes", at, b"", json.dumps(one).encode()))
        for at, (key, value, headers) in enumerate(self.letters):
            made.append(FakeRecord("events.dlq", at, key, value, headers))
        for at, (key, value) in enumerate(self.states.items()):
            made.append(FakeRecord("state", at, key, None if value is None else msgspec.msgpack.encode(value)))
        snapshot = {"outcomes": self.learned, "offsets": {"0": 3}}
        return [*made, FakeRecord("models", 0, b"estimator", json.dumps(snapshot).encode())]
