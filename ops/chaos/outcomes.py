"""Every outcome once: each slate that is neither open at the end nor erased has exactly one.

A slate opens when its event is folded, and its window counts from the event time that its partition had reached
then. All of that is known from the log alone; only what one batch closes of a user whom it erases may be missing.
Shares no code with engine and pipeline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from ops.chaos.log import Finding, Log

SlateId = tuple[str, str]
"""Origin (`driftline`, `external`) and id: a slate of ours may answer the very event that tells of an external one."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A slate that was opened by the event at (`partition`, `offset`)."""

    user: str
    partition: int
    offset: int


@dataclass
class OutcomeFindings:
    duplicate: list[Finding] = field(default_factory=list)
    missing: list[Finding] = field(default_factory=list)
    invented: list[Finding] = field(default_factory=list)


class OutcomeBook:
    """Takes slates and outcomes in any order; `check` compares. `window_ms`: how long a slate waits, event time."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._opened: dict[SlateId, Opened] = {}
        self._outcomes: Counter[SlateId] = Counter()
        self._told: list[dict[str, Any]] = []
        self._erasures: dict[tuple[str, int], int] = {}

    def slate(self, slate: str, opened: Opened) -> None:
        self._opened["driftline", slate] = opened

    def erasure(self, user: str, covers: Sequence[int]) -> None:
        """An erasure was answered together with these events of the user, its own among them."""
        self._erasures.update({(user, offset): covers[0] for offset in covers})

    def outcome(self, message: dict[str, Any]) -> None:
        self._outcomes[message["origin"], message["slate"]] += 1
        self._told.append({name: message[name] for name in ("origin", "slate", "user", "reason", "closed", "time")})

    @property
    def count(self) -> int:
        return self._outcomes.total()

    def check(self, log: Log, still_open: Set[SlateId]) -> OutcomeFindings:
        """Compare with the log; `still_open`: the slates in the final states."""
        opened = self._opened | {
            ("external", f"{event.partition}-{event.offset}"): Opened(event.user, event.partition, event.offset)
            for event in log.events.values()
            if event.kind == "external"
        }
        found = OutcomeFindings()
        for slate, how in opened.items():
            self._check_count(log, slate, how, slate in still_open, found)
        for message in self._told:
            self._check_told(log, message, opened.get((message["origin"], message["slate"])), found)
        for origin, name in sorted(still_open - opened.keys()):
            found.invented.append(Finding(f"{origin} slate {name} is open and was never published", _partition(name)))
        return found

    def _check_count(self, log: Log, slate: SlateId, how: Opened, is_open: bool, found: OutcomeFindings) -> None:
        count = self._outcomes[slate]
        name, place = f"{slate[0]} slate {slate[1]}", (how.partition, how.offset, how.user)
        if count > 1:
            found.duplicate.append(Finding(f"{name} has {count} outcomes", *place))
        elif count and is_open:
            found.duplicate.append(Finding(f"{name} has an outcome and is still open", *place))
        elif is_open and self._due(log, how) <= log.watermark(how.partition):
            found.missing.append(Finding(f"{name} is still open, its window closed long ago", *place))
        elif not count and not is_open:
            erased = log.erased_after(how.user, how.offset)
            if erased is None:
                found.missing.append(Finding(f"{name} has no outcome", *place))
            elif self._due(log, how) <= log.watermark(how.partition, self._last_before(log, how.user, erased)):
                found.missing.append(Finding(f"{name} was due before its user's erasure, and has no outcome", *place))

    def _last_before(self, log: Log, user: str, erased: int) -> int:
        """The user's last event before the batch of an erasure. Whatever that batch closed of him is forgotten, too."""
        begins = self._erasures.get((user, erased), erased)
        return max((event.offset for event in log.by_user[user] if event.offset < begins), default=-1)

    def _check_told(self, log: Log, message: dict[str, Any], how: Opened | None, found: OutcomeFindings) -> None:
        name = f"outcome of {message['origin']} slate {message['slate']}"
        if how is None:
            found.invented.append(
                Finding(f"{name}: no such slate was published", _partition(message["slate"]), user=message["user"])
            )
            return
        place = how.partition, how.offset, how.user
        event = log.events.get((how.partition, how.offset))
        due = self._due(log, how)
        if message["user"] != how.user or event is None or message["time"] != event.time:
            found.invented.append(Finding(f"{name} has another user or time than its slate", *place))
        if message["reason"] == "window":
            erased = log.erased_after(how.user, how.offset)
            if message["closed"] != due:
                found.invented.append(Finding(f"{name} closed at {message['closed']}, its window at {due}", *place))
            elif erased is not None and due > log.watermark(how.partition, erased):
                found.invented.append(Finding(f"{name}: the user was erased before its window closed", *place))

    def _due(self, log: Log, how: Opened) -> int:
        return log.watermark(how.partition, how.offset) + self._window_ms


def _partition(slate: str) -> int:
    return int(slate.split("-")[0])
