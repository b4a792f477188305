"""What the dashboard remembers of the topics it follows: tails, counts and rates, all of bounded size.

Knows the contracts; knows nothing of Kafka clients or of pages.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec

from ops.deadletters.letters import Letter, letter_of, noted
from streams.contracts import Event, Item, Outcome, Recommendation
from streams.releases import ESTIMATOR_KEY, RELEASE_KEY

EVENTS_KEPT = 200
LETTERS_KEPT = 100
NOTED = 100_000
ITEMS_KEPT = 50_000
TITLE_LENGTH = 200
BINS = 10
POSITIONS = 50
GROUPS = 64
POINTS = 300
MOST_SHOWN = 12

_event = msgspec.json.Decoder(Event)
_item = msgspec.json.Decoder(Item)
_outcome = msgspec.json.Decoder(Outcome)
_slate = msgspec.json.Decoder(Recommendation)


@dataclass(slots=True)
class Known:
    """What is known of an item: from the catalogue, and from slates and outcomes since the dashboard was started."""

    title: str = ""
    categories: tuple[str, ...] = ()
    withdrawn: bool = False
    catalogued: bool = False
    slates: int = 0
    inclusion: float = 0.0  # sum over the slates that say it
    weighed: int = 0
    shown: int = 0  # in outcomes
    clicked: int = 0
    weights: float = 0.0  # inverse propensities of the times shown, clipped
    weighted_clicks: float = 0.0


@dataclass(slots=True)
class Bin:
    """Candidates whose logged inclusion probability falls into a tenth: by how many, and how many were shown."""

    candidates: float = 0.0
    shown: float = 0.0
    probability: float = 0.0


@dataclass(slots=True)
class Position:
    shown: int = 0
    clicked: int = 0


@dataclass(slots=True)
class Topic:
    """How far a topic has been followed. `at`: when something of it came last, or it was found at its end."""

    at: float | None = None
    records: int = 0
    skipped: int = 0
    rates: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=POINTS))
    problem: str = ""


class Seen:
    """Everything remembered. One thread at a time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.topics: dict[str, Topic] = {}
        self.events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self.letters: deque[tuple[str, Letter]] = deque(maxlen=LETTERS_KEPT)
        self.sent_again: set[tuple[str, int, int]] = set()  # of the letters: of which topic, partition, offset
        self.items: OrderedDict[str, Known] = OrderedDict()
        self.most_shown: dict[str, Known] = {}
        self.bins = [Bin() for _ in range(BINS)]
        self.positions: list[Position] = []
        self.exposure: dict[tuple[str, str], list[int]] = {}  # (user group, item group): shown, clicked
        self.weights = deque[float](maxlen=5000)
        self.outcomes = self.hits = 0
        self.outcome_at: float | None = None
        self.releases: deque[tuple[str, int]] = deque(maxlen=50)
        self.estimates: bytes | None = None  # the last snapshot, as it came: large, and read when asked for
        self.unreadable = 0

    def topic(self, name: str) -> Topic:
        return self.topics.setdefault(name, Topic())

    def item(self, item: str) -> Known:
        """What is known of an item; the one longest not asked for makes room."""
        known = self.items.get(item)
        if known is None:
            known = self.items[item] = Known()
            if len(self.items) > ITEMS_KEPT:
                self._forget(next(iter(self.items)))
        else:
            self.items.move_to_end(item)
        return known

    def _forget(self, item: str) -> None:
        self.items.pop(item, None)
        self.most_shown.pop(item, None)

    def title(self, item: str | None) -> str:
        known = self.items.get(item or "")
        return known.title if known else ""

    def take(self, name: str, record: Any) -> None:
        """A record of the topic with this plain name. One that cannot be read is counted, and left."""
        take = getattr(self, f"_take_{name.replace('.', '_')}", None)
        if take is None:
            return
        try:
            take(record)
        except (msgspec.MsgspecError, ValueError, UnicodeDecodeError, RecursionError):
            self.unreadable += 1

    def _take_events(self, record: Any) -> None:
        place = {"partition": record.partition, "offset": record.offset, "time": record.timestamp}
        try:
            event = _event.decode(record.value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError):
            key = (record.key or b"").decode(errors="backslashreplace")
            self.events.appendleft(place | {"kind": "unreadable", "user": key, "item": None, "action": ""})
            return
        kind = str(event.__struct_config__.tag)
        told = {"user": event.user, "item": getattr(event, "item", None), "action": getattr(event, "action", "")}
        self.events.appendleft(place | {"kind": kind} | told)

    def _take_items(self, record: Any) -> None:
        if record.value is None:
            self._forget((record.key or b"").decode())
            return
        item = _item.decode(record.value)
        known = self.item(item.item)
        known.title, known.categories = item.title[:TITLE_LENGTH], tuple(item.categories[:8])
        known.withdrawn, known.catalogued = item.withdrawn, True

    def _take_recommendations(self, record: Any) -> None:
        if record.value is None:
            return
        slate = _slate.decode(record.value)
        for at, item in enumerate(slate.items):
            known = self.item(item)
            known.slates += 1
            if slate.inclusion is not None:
                known.inclusion += slate.inclusion[at]
                known.weighed += 1

    def _take_outcomes(self, record: Any) -> None:
        outcome = _outcome.decode(record.value or b"")
        self.outcome_at = self.clock()
        self.outcomes += 1
        self.hits += any(reward > 0 for reward in outcome.rewards)
        self._by_position(outcome)
        self._reliability(outcome)
        for at, (item, reward) in enumerate(zip(outcome.items, outcome.rewards, strict=True)):
            known, clicked = self.item(item), reward > 0
            known.shown += 1
            known.clicked += clicked
            self._rank(item, known)
            if outcome.inclusion is not None:
                weight = min(100.0, 1 / max(outcome.inclusion[at], 1e-9))
                known.weights += weight
                known.weighted_clicks += weight * clicked
                self.weights.append(weight)
            group = outcome.item_groups[at] if at < len(outcome.item_groups) else None
            self._expose(outcome.group or "—", group or "", clicked)

    def _rank(self, item: str, known: Known) -> None:
        """Counts only grow, so those shown most are known without looking through all."""
        most = self.most_shown
        if item in most or len(most) < MOST_SHOWN:
            most[item] = known
            return
        least = min(most, key=lambda one: most[one].shown)
        if known.shown > most[least].shown:
            del most[least]
            most[item] = known

    def _expose(self, users: str, items: str, clicked: bool) -> None:
        if items and ((users, items) in self.exposure or len(self.exposure) < GROUPS):
            counts = self.exposure.setdefault((users, items), [0, 0])
            counts[0] += 1
            counts[1] += clicked

    def _by_position(self, outcome: Outcome) -> None:
        for at, reward in enumerate(outcome.rewards[:POSITIONS]):
            if at == len(self.positions):
                self.positions.append(Position())
            self.positions[at].shown += 1
            self.positions[at].clicked += reward > 0

    def _reliability(self, outcome: Outcome) -> None:
        """Shown items and the sample of the others, weighed so that it stands for all candidates of the slate."""
        if outcome.inclusion is None or outcome.unshown_inclusion is None or not outcome.unshown:
            return
        rest = (outcome.candidates - len(outcome.items)) / len(outcome.unshown)
        for chances, weight, shown in ((outcome.inclusion, 1.0, 1.0), (outcome.unshown_inclusion, rest, 0.0)):
            for chance in chances:
                tenth = self.bins[min(BINS - 1, int(chance * BINS))]
                tenth.candidates += weight
                tenth.shown += weight * shown
                tenth.probability += weight * chance

    def _take_events_dlq(self, record: Any) -> None:
        self._take_letter("events", record)

    def _take_items_dlq(self, record: Any) -> None:
        self._take_letter("items", record)

    def _take_letter(self, of: str, record: Any) -> None:
        """A letter, or a note on which letters of its partition, before it, were sent again."""
        letter = letter_of(record)
        if letter is not None:
            self.letters.appendleft((of, letter))
            return
        kept = {(kind, one.partition, one.offset) for kind, one in self.letters}
        again = {(of, record.partition, offset) for offset in islice(noted(record), NOTED)}
        self.sent_again = (self.sent_again | again) & kept

    def _take_models(self, record: Any) -> None:
        if record.key == RELEASE_KEY and record.value is not None:
            pointer = msgspec.json.decode(record.value, type=_Pointer)
            self.releases.appendleft((pointer.release, pointer.created))
        elif record.key == ESTIMATOR_KEY and record.value is not None:
            self.estimates = record.value

    @property
    def effective_sample(self) -> float | None:
        """(Σw)² / Σw² of the last weights, as a share of their number."""
        total, squares = sum(self.weights), sum(weight * weight for weight in self.weights)
        return total * total / (len(self.weights) * squares) if squares else None


class _Pointer(msgspec.Struct):
    release: str
    created: int
