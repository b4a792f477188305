"""What the trainer learns at a time: a span of offsets of each partition, and what is in it.

The same spans give the same interactions in the same order, whoever reads them and whenever, so a trainer that died
repeats its rounds and comes to the same weights. Knows the contracts; knows nothing of Kafka clients or of models.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from index.hashing import hash64, item_hash
from models.shown import SlateLog
from streams.contracts import Erase, Interaction, Outcome
from streams.correction import Correction, Slate
from streams.validation import BadMessage, EventRules, decode_event

REMEMBERED_IDS = 65_536
"""Event ids that are known again; as in the workers, whose states remember a user's last ones."""

_outcome_decoder = msgspec.json.Decoder(Outcome)


class Arrived(Protocol):
    """A record of Kafka."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


@dataclass(slots=True)
class Round:
    """n interactions in order, and who is to be forgotten before them.

    Attributes:
        users: [n] codes: 64-bit hashes of the users' ids, as int64.
        items: n ids.
        times_ms, actions, weights: [n].
        erased: codes of the users who asked to be forgotten, wherever in the span; of their interactions only those
            after the erasure are left.
        shown: (user code, item id, weight) of interactions that answered a slate; weight: see streams/correction.py.
        drifted: signals of clicks that have left what was expected.
        bad: records that a worker dead-letters.
        answers: [n] which interactions say that they answer a slate.
        slates: (user code, slate) of the outcomes.
    """

    users: NDArray[np.int64]
    items: list[str]
    times_ms: NDArray[np.int64]
    actions: NDArray[np.uint8]
    weights: NDArray[np.float32]
    erased: list[int] = field(default_factory=list)
    shown: list[tuple[int, str, float]] = field(default_factory=list)
    drifted: list[str] = field(default_factory=list)
    bad: int = 0
    answers: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    slates: list[tuple[int, Slate]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.users)


class RoundReader:
    """Turns spans of records into rounds. `ids` are hashes of event ids seen before, oldest first; `correction` is what
    was learned from outcomes before."""

    def __init__(self, rules: EventRules, ids: Iterable[int] = (), correction: Correction | None = None) -> None:
        self._rules, self.correction = rules, correction or Correction()
        self._codes = {action: code for code, action in enumerate(rules.actions)}
        self._order = deque(ids)
        self._known = set(self._order)

    @property
    def ids(self) -> NDArray[np.uint64]:
        """Hashes of the event ids that would be known again, oldest first."""
        return np.fromiter(self._order, np.uint64, len(self._order))

    def read(
        self, events: Mapping[int, Sequence[Arrived]], outcomes: Mapping[int, Sequence[Arrived]] | None = None
    ) -> Round:
        """The round made of these records, by partition in order of offset."""
        kept: list[tuple[int, Interaction]] = []
        erased: dict[int, None] = {}
        bad = 0
        for record in _merged(events):
            try:
                event = decode_event(record.key, record.value, record.timestamp, self._rules)
            except BadMessage:
                bad += 1
                continue
            if isinstance(event, Erase):
                gone = user_code(event.user)
                erased[gone] = None
                kept = [(user, other) for user, other in kept if user != gone]
            elif isinstance(event, Interaction) and not self._repeated(event):
                kept.append((user_code(event.user), event))
        shown, slates, drifted, unreadable = self._shown(outcomes or {})
        return Round(
            np.array([user for user, _ in kept], np.int64),
            [event.item for _, event in kept],
            np.array([event.time for _, event in kept], np.int64),
            np.array([self._codes[event.action] for _, event in kept], np.uint8),
            np.array([event.weight for _, event in kept], np.float32),
            list(erased),
            shown,
            drifted,
            bad + unreadable,
            np.array([event.slate is not None for _, event in kept], np.bool_),
            slates,
        )

    def _shown(
        self, outcomes: Mapping[int, Sequence[Arrived]]
    ) -> tuple[list[tuple[int, str, float]], list[tuple[int, Slate]], list[str], int]:
        found: list[tuple[int, str, float]] = []
        slates: list[tuple[int, Slate]] = []
        drifted: list[str] = []
        bad = 0
        for number in sorted(outcomes):
            for record in outcomes[number]:
                try:
                    outcome = _outcome_decoder.decode(record.value or b"")
                    slate = self.correction.slate(outcome)
                    worth, signals = self.correction.learn(outcome)
                except ValueError:  # of msgspec, too
                    bad += 1
                    continue
                user = user_code(outcome.user)
                found += [(user, item, weight) for item, weight in worth]
                drifted += signals
                if slate is not None:
                    slates.append((user, slate))
        return found, slates, drifted, bad

    def _repeated(self, event: Interaction) -> bool:
        if event.id is None:
            return False
        key = hash64(f"{event.user}\0{event.id}".encode())
        if key in self._known:
            return True
        self._known.add(key)
        self._order.append(key)
        if len(self._order) > REMEMBERED_IDS:
            self._known.discard(self._order.popleft())
        return False


def slate_log(slates: Sequence[tuple[int, Slate]], rows: Mapping[str, int]) -> SlateLog:
    """Slates with their users' codes as training takes them; `rows` of items, others are unknown."""
    k = max((len(slate.items) for _, slate in slates), default=0)
    shape = (len(slates), k)
    items, clicks = np.full(shape, -1, np.int64), np.zeros(shape, np.bool_)
    examination = np.ones(shape, np.float32)
    for at, (_, slate) in enumerate(slates):
        n = len(slate.items)
        items[at, :n] = [rows.get(item, -1) for item in slate.items]
        clicks[at, :n], examination[at, :n] = slate.clicks, slate.examination
    users = np.array([user for user, _ in slates], np.int64)
    return SlateLog(users, np.array([slate.time for _, slate in slates], np.int64), items, clicks, examination)


def user_code(user: str) -> int:
    """By which number training knows a user: the id itself is in no checkpoint."""
    return int(np.uint64(item_hash(user)).astype(np.int64))


def _merged(events: Mapping[int, Sequence[Arrived]]) -> Iterable[Arrived]:
    """Records by timestamp and partition; within a partition always by offset."""
    return heapq.merge(*(events[number] for number in sorted(events)), key=lambda record: record.timestamp)
