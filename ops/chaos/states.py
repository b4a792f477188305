"""Final states: what they must hold by the log alone, and how two versions of a state differ.

A state is MessagePack; its layout is written down here a second time, on purpose. Shares no code with engine and
pipeline.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ops.chaos.log import Event, Log

TOLERANCE = 1e-5
PARTITION_KEY = b""
_FIELDS = ("version", "events", "offset", "last_time", "ring", "seen", "ids", "slates", "group", "exposures")
SLATE_ID, SLATE_EXTERNAL = 0, 4
_ENTRY = struct.Struct("<8sqfB")  # item hash, time, weight, action


@dataclass(frozen=True, slots=True)
class Rules:
    """How much a state remembers: settings `state_…` and `events_actions`."""

    events: int
    seen: int
    ids: int
    actions: Sequence[str]


@dataclass(frozen=True, slots=True)
class Wrong:
    """A state that isn't what it should be."""

    partition: int
    key: bytes
    text: str


def decoded(data: bytes) -> list[Any]:
    """A state as plain lists, numbers, strings and bytes."""
    found: list[Any] = msgspec.msgpack.decode(data)
    return found


def open_slates(states: Mapping[tuple[int, bytes], bytes]) -> set[tuple[str, str]]:
    """Origin and id of every open slate."""
    slates = (slate for (_, key), data in states.items() if key != PARTITION_KEY for slate in decoded(data)[7])
    return {("external" if slate[SLATE_EXTERNAL] else "driftline", slate[SLATE_ID]) for slate in slates}


# By the log alone


def against_log(states: Mapping[tuple[int, bytes], bytes], log: Log, rules: Rules) -> list[Wrong]:
    """Compare counts, offsets, times, remembered events and ids with the log; slates are `OutcomeBook`'s affair."""
    wrong = []
    expected: dict[tuple[int, bytes], dict[str, Any]] = {}
    for user, events in log.by_user.items():
        if events[-1].kind != "erase":
            expected[events[0].partition, user.encode()] = _expected(events, rules)
    for place in sorted(expected.keys() - states.keys()):
        wrong.append(Wrong(*place, "there is no state of this user"))
    for place, data in states.items():
        if place[1] == PARTITION_KEY:
            watermark = decoded(data)[1]
            if watermark != log.watermark(place[0]):
                wrong.append(Wrong(*place, f"watermark is {watermark}, in the log {log.watermark(place[0])}"))
        elif place not in expected:
            wrong.append(Wrong(*place, "a state of a user who is not in the log, or was erased"))
        else:
            found = dict(zip(_FIELDS, decoded(data), strict=True))
            differing = [name for name, value in expected[place].items() if found[name] != value]
            if differing:
                wrong.append(Wrong(*place, _differing(found, expected[place], differing)))
    return wrong


def _differing(found: Mapping[str, Any], expected: Mapping[str, Any], names: Iterable[str]) -> str:
    return "; ".join(f"{name} is {_short(found[name])}, by the log {_short(expected[name])}" for name in names)


def _expected(events: Sequence[Event], rules: Rules) -> dict[str, Any]:
    start = max((at + 1 for at, event in enumerate(events) if event.kind == "erase"), default=0)
    since = events[start:]
    taken = [event for event in since if event.kind == "interaction"]
    entries = [
        _ENTRY.pack(_hash(event.item), event.time, event.weight, rules.actions.index(event.action)) for event in taken
    ]
    ids = [_hash(event.id) for event in since if event.id is not None]
    return {
        "events": len(taken),
        "offset": events[-1].offset,
        "last_time": max((event.time for event in taken), default=0),
        "ring": b"".join(entries[-rules.events :]),
        "seen": b"".join(_seen([entry[:8] for entry in entries[: -rules.events]], rules.seen)),
        "ids": b"".join(ids[-rules.ids :]),
    }


def _seen(dropped: Sequence[bytes], most: int) -> list[bytes]:
    seen: list[bytes] = []
    for item in dropped:
        if item not in seen:
            seen = [*seen, item][-most:]
    return seen


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


# One version against another


def difference(found: Any, reference: Any, where: str = "") -> str | None:
    """The first difference between two decoded states, in words; None where there is none.

    Everything must be equal but floats, which may differ by `TOLERANCE` (of 1, or of themselves if larger).
    """
    if isinstance(found, float) and isinstance(reference, float):
        same = math.isclose(found, reference, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        return None if same else f"{where} is {found!r}, expected {reference!r}"
    if isinstance(found, list) and isinstance(reference, list):
        if len(found) != len(reference):
            return f"{where} has {len(found)} entries, expected {len(reference)}"
        pairs = enumerate(zip(found, reference, strict=True))
        return next((text for at, (one, other) in pairs if (text := difference(one, other, f"{where}[{at}]"))), None)
    if type(found) is not type(reference) or found != reference:
        return f"{where} is {_short(found)}, expected {_short(reference)}"
    return None


def _short(value: Any) -> str:
    text = value.hex() if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 60 else f"{text[:20]}…{text[-20:]}"
