"""The independent checker: reads what is on the topics and finds what was lost, doubled, invented or mixed up.

It shares no code with engine and pipeline: committed records, plain JSON and MessagePack. The log of events is the
truth; what must be dead-lettered is known from the sender. It needs no broker: whoever has the records can ask it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ops.audit import Account, Ledger
from ops.chaos import states
from ops.chaos.log import Finding, Log, Place
from ops.chaos.outcomes import Opened, OutcomeBook, OutcomeFindings
from ops.chaos.states import Rules
from streams.names import Topics


@dataclass(frozen=True, slots=True)
class Poison:
    """A bad event as it was sent, and the reason with which it must be dead-lettered."""

    key: bytes | None
    value: bytes | None
    reason: str


@dataclass
class Findings:
    """What was found wrong, by kind. Empty lists everywhere: all is well.

    Attributes:
        account: how every event was answered (lost, duplicates and foreign are in it, and repeated here).
        lost: events that nobody answered.
        duplicate_slates: events answered more than once, and slates published more than once.
        invented: answers to what is not in the log, or to another user's event.
        out_of_order: slates of a user that are not in the order of their causes, or interleave.
        decisions: slates without exactly one decision record, and the other way round.
        dead_letters: bad events without their dead letter, dead letters without their bad event.
        outcomes: see `OutcomeBook`.
        wrong_states: final states that are not what the log says.
        estimator: the learner has not learned every outcome once.
    """

    account: Account
    outcome_count: int
    outcomes: OutcomeFindings
    lost: list[Finding] = field(default_factory=list)
    duplicate_slates: list[Finding] = field(default_factory=list)
    invented: list[Finding] = field(default_factory=list)
    out_of_order: list[Finding] = field(default_factory=list)
    decisions: list[Finding] = field(default_factory=list)
    dead_letters: list[Finding] = field(default_factory=list)
    wrong_states: list[Finding] = field(default_factory=list)
    estimator: list[Finding] = field(default_factory=list)

    def wrong(self) -> dict[str, list[Finding]]:
        """Every kind of finding by the name that it has in the report."""
        return {
            "lost": self.lost,
            "duplicate_slates": self.duplicate_slates,
            "invented": self.invented,
            "out_of_order": self.out_of_order,
            "wrong_decisions": self.decisions,
            "wrong_dead_letters": self.dead_letters,
            "duplicate_outcomes": self.outcomes.duplicate,
            "missing_outcomes": self.outcomes.missing,
            "invented_outcomes": self.outcomes.invented,
            "wrong_states": self.wrong_states,
            "wrong_estimator": self.estimator,
        }


class Checker:
    """Takes records topic by topic, each partition in order, `events` first; `findings` says what is wrong.

    Args:
        topics: their names.
        poisons: the bad events that were sent, by where they lie.
        partitions: how many `events` has.
        window_ms: how long a slate waits for its outcome, in event time.
    """

    def __init__(
        self, topics: Topics, poisons: Mapping[Place, Poison], partitions: int, window_ms: int, rules: Rules
    ) -> None:
        self._topics = topics
        self._poisons = poisons
        self._rules = rules
        self.log = Log(poisons.keys())
        self._ledger = Ledger(dict.fromkeys(range(partitions), 0))  # the log has all that was ever in it
        self._book = OutcomeBook(window_ms)
        self._answered: set[Place] = set()
        self._last: dict[str, int] = {}  # by user, the largest offset answered so far
        self._slates: Counter[tuple[int, str]] = Counter()
        self._decisions: Counter[tuple[int, str]] = Counter()
        self._letters: Counter[Place] = Counter()
        self._outcomes_before: dict[int, list[int]] = defaultdict(list)  # offsets of the outcomes, by partition
        self._estimator: dict[str, Any] | None = None
        self.states: dict[tuple[int, bytes], bytes] = {}
        self.appended: dict[int, list[int]] = defaultdict(list)
        """By partition, when each slate was appended: milliseconds since the epoch."""
        self._invented: list[Finding] = []
        self._out_of_order: list[Finding] = []
        self._wrong_letters: list[Finding] = []

    def take(self, record: Any) -> None:
        """Take in a record of any of driftline's topics."""
        topics = self._topics
        if record.topic == topics.events:
            self._ledger.event(record.partition, record.offset)
            self.log.take(record)
        elif record.topic == topics.recommendations:
            self._take_answer(record)
        elif record.topic == topics.decisions:
            self._decisions[record.partition, json.loads(record.value)["slate"]] += 1
        elif record.topic == topics.outcomes:
            self._outcomes_before[record.partition].append(record.offset)
            self._book.outcome(json.loads(record.value))
        elif record.topic == topics.events_dlq:
            self._take_letter(record)
        elif record.topic == topics.state:
            self._take_state(record)
        elif record.topic == topics.models and record.key == b"estimator" and record.value is not None:
            self._estimator = json.loads(record.value)

    # Answers

    def _take_answer(self, record: Any) -> None:
        if record.value is None:
            covers = json.loads(dict(record.headers)["driftline-covers"])
            self._ledger.tombstone(record.partition, covers)
            self._book.erasure(record.key.decode(), covers)
            self._note_answer(record, record.key.decode(), covers)
            return
        message = json.loads(record.value)
        cause, covers, user = message["cause"], message["covers"], message["user"]
        self._ledger.slate(cause["partition"], covers, cause["offset"])
        self._slates[record.partition, message["slate"]] += 1
        self.appended[record.partition].append(record.timestamp)
        self._book.slate(message["slate"], Opened(user, record.partition, cause["offset"]))
        named = message["slate"] == f"{cause['partition']}-{cause['offset']}" and cause["partition"] == record.partition
        if not named or record.key != user.encode() or covers[-1:] != [cause["offset"]]:
            self._invented.append(_at(record, user, f"slate {message['slate']} contradicts its cause or its key"))
        self._note_answer(record, user, covers)

    def _note_answer(self, record: Any, user: str, covers: Sequence[int]) -> None:
        """Offsets of a user must be answered in ascending order, over all his slates and tombstones."""
        fresh = [offset for offset in covers if (record.partition, offset) not in self._answered]
        last = self._last.get(user, -1)
        if fresh != sorted(set(fresh)) or (fresh and fresh[0] <= last):
            text = f"the answer to {_listed(covers)} comes after the answer to {last}"
            self._out_of_order.append(_at(record, user, text))
        for offset in covers:
            event = self.log.events.get((record.partition, offset))
            if event is not None and event.user != user:
                self._invented.append(_at(record, user, f"an answer to event {offset}, which is of user {event.user}"))
        self._answered.update((record.partition, offset) for offset in covers)
        self._last[user] = max([last, *covers])

    # Dead letters

    def _take_letter(self, record: Any) -> None:
        told = {name: value.decode() for name, value in dict(record.headers).items() if name.startswith("driftline-")}
        place = int(told["driftline-source-partition"]), int(told["driftline-source-offset"])
        self._ledger.dead_letter(*place)
        self._letters[place] += 1
        sent = self._poisons.get(place)
        if sent is None:
            text = f"a good event was dead-lettered: {told['driftline-reason']}: {told['driftline-message']}"
            self._wrong_letters.append(Finding(text, *place))
        elif told["driftline-reason"] != sent.reason:
            text = f"dead-lettered as {told['driftline-reason']}, expected {sent.reason}"
            self._wrong_letters.append(Finding(text, *place))
        elif (record.key, record.value) != (sent.key, sent.value):
            self._wrong_letters.append(Finding("the dead letter is not the event as it was sent", *place))

    def _letter_findings(self) -> list[Finding]:
        found = list(self._wrong_letters)
        for place, sent in sorted(self._poisons.items()):
            count = self._letters[place]
            if count != 1:
                found.append(Finding(f"bad event ({sent.reason}) has {count} dead letters", *place))
        return found

    # States

    def _take_state(self, record: Any) -> None:
        place = record.partition, record.key
        if record.value is None:
            self.states.pop(place, None)
        else:
            self.states[place] = record.value

    # The verdict

    def findings(self) -> Findings:
        """What is wrong, after everything was taken in."""
        account = self._ledger.account()
        found = Findings(
            account=account,
            outcome_count=self._book.count,
            outcomes=self._book.check(self.log, states.open_slates(self.states)),
            lost=[Finding("event without an answer", *place, self._user(place)) for place in account.lost],
            duplicate_slates=[
                Finding("event answered more than once", *place, self._user(place)) for place in account.duplicates
            ],
            invented=[Finding("an answer to what is not in the log", *place) for place in account.foreign],
            out_of_order=self._out_of_order,
            dead_letters=self._letter_findings(),
            wrong_states=[_state(wrong) for wrong in states.against_log(self.states, self.log, self._rules)],
            estimator=self._estimator_findings(),
        )
        found.invented += self._invented
        found.invented += [Finding("an event that the sender does not know", *place) for place in self.log.unreadable]
        for slate in sorted(self._slates.keys() | self._decisions.keys()):
            if self._slates[slate] != self._decisions[slate]:
                text = f"slate {slate[1]}: {self._slates[slate]} slates, {self._decisions[slate]} decision records"
                found.decisions.append(Finding(text, slate[0]))
        return found

    def _user(self, place: Place) -> str | None:
        event = self.log.events.get(place)
        return event.user if event else None

    def _estimator_findings(self) -> list[Finding]:
        """The last snapshot says how far it has read, and must have learned as many outcomes as lie before."""
        if self._estimator is None:
            return []
        found = []
        told, offsets = self._estimator["outcomes"], self._estimator["offsets"]
        there = sum(
            sum(offset < offsets.get(str(partition), 0) for offset in listed)
            for partition, listed in self._outcomes_before.items()
        )
        if told != there:
            found.append(
                Finding(f"the learner says it learned {told} outcomes; up to its offsets there are {there}", 0)
            )
        return found


def _at(record: Any, user: str, text: str) -> Finding:
    return Finding(text, record.partition, record.offset, user)


def _state(wrong: states.Wrong) -> Finding:
    return Finding(wrong.text, wrong.partition, user=wrong.key.decode() or None)


def _listed(offsets: Sequence[int]) -> str:
    shown = ", ".join(map(str, offsets[:8]))
    return f"{shown}, … ({len(offsets)} in all)" if len(offsets) > 8 else shown
