"""What may be left of an erased user, and until when: judged from records as a reader would find them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ops import verification
from ops.commands.erase import _print
from ops.contract_examples import EXAMPLES
from ops.mentions import Mentions
from ops.proof import Holding, Judge, Proof
from ops.retention import PACE_MS, Retention
from ops.settings import Settings
from ops.traces import CURRENT, Search
from streams.contracts import Cause, Decision, Erase, Interaction, Recommendation, encode
from streams.deadletters import dead_letter_headers
from streams.state import OpenSlate, UserState, encode_state
from streams.store import StoreDamaged
from streams.stores import Copy
from streams.topics import SPECS
from streams.validation import BadMessage, EventRules, decode_event

DAY = 86_400_000
FOLDER = Path("stores")
T = 1_800_000_000_000
(SLATE,) = (example for example in EXAMPLES if isinstance(example, Recommendation))
(DECISION,) = (example for example in EXAMPLES if isinstance(example, Decision))
DEFAULTS = {
    "retention.ms": str(7 * DAY),
    "segment.ms": str(7 * DAY),
    "max.compaction.lag.ms": str(2**63 - 1),
    "delete.retention.ms": str(DAY),
}
RETENTIONS = {spec.name: Retention.of(DEFAULTS | spec.config()) for spec in SPECS}


@dataclass
class Found:
    """A record as the client library delivers it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = T
    headers: Any = ()


class Log:
    """Topics as they are written to, partition 0 unless told otherwise."""

    def __init__(self) -> None:
        self.records: list[tuple[str, Found, bool]] = []
        self._next: dict[tuple[str, int], int] = {}

    def write(
        self, topic: str, key: str | None, value: bytes | None, *, committed: bool = True, **fields: Any
    ) -> Found:
        partition = fields.pop("partition", 0)
        offset = self._next[topic, partition] = self._next.get((topic, partition), -1) + 1
        record = Found(partition, offset, None if key is None else key.encode(), value, **fields)
        self.records.append((topic, record, committed))
        return record

    def saw(self, user: str, **fields: Any) -> Found:
        return self.write("events", user, encode(Interaction(user, "i1", T)), **fields)

    def erased(self, user: str, answered: bool = True, **fields: Any) -> Found:
        """His erasure, and what a worker answers it with."""
        asked = self.write("events", user, encode(Erase(user, T)), **fields)
        if answered:
            covers = [("driftline-covers", encode([asked.offset]))]
            self.write("recommendations", user, None, headers=covers, partition=asked.partition)
            self.write("state", user, None, partition=asked.partition)
        return asked

    def answered(self, user: str, offset: int) -> None:
        """A slate for the event at `offset`, with its decision record and the state after it."""
        slate = msgspec.structs.replace(SLATE, user=user, cause=Cause(0, offset, "interaction"), covers=[offset])
        self.write("recommendations", user, encode(slate))
        self.write("decisions", user, encode(msgspec.structs.replace(DECISION, user=user)))
        self.state(user, offset, [offset])

    def state(self, user: str, offset: int, slates: list[int], **fields: Any) -> None:
        opened = [OpenSlate(f"0-{slate}", T, T, ["i1"]) for slate in slates]
        self.write("state", user, encode_state(UserState(events=1, offset=offset, slates=opened)), **fields)

    def proof(self, user: str, now: int = T, **retentions: Retention) -> Proof:
        search = Search([user])
        for topic, record, _ in self.records:
            search.take(topic, record)
        for topic, record, committed in self.records:
            if committed and topic in CURRENT:
                search.take_committed(topic, record)
        return Judge(user, search.survey, RETENTIONS | retentions, now).judge()


def erased_log() -> Log:
    """anna: an event, its slate, and her erasure."""
    log = Log()
    log.answered("anna", log.saw("anna").offset)
    log.erased("anna")
    return log


def said(proof: Proof) -> dict[tuple[str, str], int]:
    return {(one.where, one.what): one.records for one in proof.holdings}


def test_everything_of_a_user_is_named_before_he_is_erased() -> None:
    log = Log()
    log.answered("anna", log.saw("anna").offset)
    log.saw("joanna")
    proof = log.proof("anna")
    assert said(proof) == {
        ("events", "what he did"): 1,
        ("decisions", "decision records"): 1,
        ("state", "current state with 1 open slate(s)"): 1,
        ("recommendations", "current slate"): 1,
    }
    assert {one.where for one in proof.problems} == {"state", "recommendations"}
    assert all("no erasure of him is in the log" in (one.problem or "") for one in proof.problems)


def test_after_an_erasure_what_is_left_lies_in_logs_and_has_a_date() -> None:
    proof = erased_log().proof("anna")
    assert proof.clean and proof.erased == [(0, 1)] and proof.returned == 0
    until = {(one.where, one.what): (one.until, one.on_write) for one in proof.holdings}
    assert until == {
        ("events", "what he did"): (T + 8 * DAY + PACE_MS, False),
        ("events", "the erasure itself"): (T + 8 * DAY + PACE_MS, False),
        ("decisions", "decision records"): (T + 8 * DAY + PACE_MS, False),
        ("state", "replaced states"): (T + DAY + PACE_MS, True),
        ("state", "tombstone: nothing but his id"): (T + 3 * DAY + 2 * PACE_MS, True),
        ("recommendations", "replaced slates"): (T + DAY + PACE_MS, True),
        ("recommendations", "tombstone: nothing but his id"): (T + 3 * DAY + 2 * PACE_MS, True),
    }
    assert proof.until == T + 8 * DAY + PACE_MS


def test_somebody_nobody_knows_leaves_nothing() -> None:
    proof = erased_log().proof("bert")
    assert proof.clean and not proof.holdings and proof.until is None


@pytest.mark.parametrize(
    ("topic", "what"),
    [("recommendations", "current slate"), ("state", "current state with 1 open slate(s)")],
)
def test_what_is_written_behind_an_erasure_is_found(topic: str, what: str) -> None:
    log = erased_log()
    if topic == "state":
        log.state("anna", 0, [0])
    else:
        log.write(topic, "anna", encode(msgspec.structs.replace(SLATE, cause=Cause(0, 0, "interaction"))))
    (problem,) = log.proof("anna").problems
    assert (problem.where, problem.what) == (topic, what)
    assert problem.problem == "live, and of no event after the erasure 0-1"


def test_who_came_back_is_somebody_new_unless_something_of_before_is_in_his_state() -> None:
    log = erased_log()
    log.answered("anna", log.saw("anna").offset)
    proof = log.proof("anna")
    assert proof.clean and proof.returned == 1
    assert ("state", "current state with 1 open slate(s)") in said(proof)
    log.state("anna", 2, [0, 2])  # with an open slate of before
    (problem,) = log.proof("anna").problems
    assert problem.what == "current state with 2 open slate(s)"


def test_an_erasure_that_no_worker_has_answered_is_said_to_be_so() -> None:
    log = Log()
    log.answered("anna", log.saw("anna").offset)
    log.erased("anna", answered=False)
    problems = {one.problem for one in log.proof("anna").problems}
    assert problems == {"live: the erasure 0-1 is not answered yet; does a worker run?"}


def test_an_erasure_that_became_a_dead_letter_is_none() -> None:
    log = Log()
    log.answered("anna", log.saw("anna").offset)
    asked = log.erased("anna", answered=False)
    headers = dead_letter_headers([], "handler_error", "ValueError", "my.events", 0, asked.offset, T)
    log.write("events.dlq", "anna", asked.value, headers=headers)
    proof = log.proof("anna")
    assert proof.erased == [] and len(proof.problems) == 2
    assert said(proof)["events.dlq", "dead letters"] == 1


def test_an_erasure_in_another_partition_than_the_user_is_pointed_out() -> None:
    log = Log()
    log.answered("anna", log.saw("anna").offset)
    log.erased("anna", partition=2)
    assert all("--all-partitions" in (one.problem or "") for one in log.proof("anna").problems)


def test_what_an_aborted_transaction_left_is_named_and_is_not_live() -> None:
    log = erased_log()
    log.state("anna", 0, [0], committed=False)
    proof = log.proof("anna")
    assert proof.clean
    assert said(proof)["state", "states of aborted transactions"] == 1
    assert said(proof)["state", "tombstone: nothing but his id"] == 1


def test_what_is_kept_for_ever_or_for_too_long_must_not_be_there() -> None:
    log = erased_log()
    for_ever = Retention.of(DEFAULTS | {"cleanup.policy": "delete", "retention.ms": "-1"})
    (problem, erasure) = log.proof("anna", events=for_ever).problems
    assert (problem.where, erasure.what) == ("events", "the erasure itself")
    assert problem.problem == "kept for ever: give the topic a retention.ms"
    lazy = Retention.of(DEFAULTS | {"cleanup.policy": "compact"})
    assert {one.what for one in log.proof("anna", state=lazy).problems} == {
        "replaced states",
        "tombstone: nothing but his id",
    }
    late = log.proof("anna", now=T + 9 * DAY)
    assert {one.where for one in late.problems} == {"events", "decisions"}


def test_where_nothing_is_written_nothing_is_compacted_and_where_something_is_it_must_be() -> None:
    log = erased_log()
    assert log.proof("anna", now=T + 6 * DAY).clean
    log.write("state", "bert", b"", timestamp=T + 6 * DAY)
    assert {one.where for one in log.proof("anna", now=T + 6 * DAY).problems} == {"state"}


def test_the_newest_timestamp_before_a_record_bounds_its_segment() -> None:
    log = Log()
    log.saw("bert", timestamp=T)
    log.saw("anna", timestamp=T - 90 * DAY)  # sent late: it lies in a segment that began at T
    (events,) = log.proof("anna").holdings
    assert events.until == T + 8 * DAY + PACE_MS and events.problem is None


def test_dead_letters_are_searched_for_what_they_quote() -> None:
    log = Log()
    wrong_key = encode(Interaction("anna", "i1", T))
    with pytest.raises(BadMessage) as refused:
        decode_event(b"bert", wrong_key, T, EventRules(actions=("view",)))
    headers = dead_letter_headers([], refused.value.reason, str(refused.value), "events", 0, 7, T)
    log.write("events.dlq", "bert", wrong_key, headers=headers)
    log.write("events.dlq", None, b'{"user": "an', headers=[("x-about", b"anna")])
    log.write("events.dlq", "joanna", b'{"usr": "anna"}')
    log.write("events.dlq", "joanna", b"{anna-lena")
    assert said(log.proof("anna")) == {
        ("events.dlq", "dead letters"): 1,
        ("events.dlq", "dead letters that may mention him"): 2,
    }
    assert said(log.proof("bert")) == {("events.dlq", "dead letters"): 1}
    assert said(log.proof("joanna")) == {("events.dlq", "dead letters"): 2}


def test_an_item_of_the_same_id_is_no_trace_of_a_user() -> None:
    log = Log()
    log.write("items", "42", b'{"item": "42", "title": "Heat"}')
    log.write("events", "u", encode(Interaction("u", "42", T, slate="42")))
    log.write("items", "43", b'{"item": "43", "title": "", "user": "42"}')
    assert said(log.proof("42")) == {("items", "records that name him"): 1}
    assert not log.proof("42").clean  # `items` keeps the newest record of a key for ever


def test_what_is_printed_names_problems_first_and_says_until_when(capsys: pytest.CaptureFixture[str]) -> None:
    log = erased_log()
    log.answered("bert", log.saw("bert").offset)
    _print([log.proof("anna"), log.proof("bert"), log.proof("carl")])
    said = capsys.readouterr().out
    assert "anna: erased by 0-1. Nothing of before is live; 7 record(s) with the id are within their retention" in said
    assert "the next write after 2027-01-16" in said and "the last is gone by 2027-01-23" in said
    assert "MUST NOT BE THERE: state 0-2, current state with 1 open slate(s): live: no erasure of him is in" in said
    assert "bert: no erasure in the log. NOT CLEAN: 2 record(s) must not be there." in said
    assert "carl: no erasure in the log. Nothing holds this id." in said
    assert said.endswith("3 users: 1 with something that must not be there\n")


@pytest.mark.parametrize(
    ("copy", "lives", "deleted", "until", "wrong"),
    [
        (Copy(FOLDER, 0, True, None), True, None, None, False),  # of somebody who is there
        (Copy(FOLDER, 0, True, None), False, T - 60_000, T + 300_000, False),  # on its way
        (Copy(FOLDER, 0, True, None), False, T - 600_000, T - 240_000, True),
        (Copy(FOLDER, 0, True, None), False, None, None, True),
        (Copy(FOLDER, 0, True, T / 1000 + 60), False, T - 600_000, T + 60_000, False),  # nobody uses it
        (Copy(FOLDER, 0, False, T / 1000 - 60), False, T - 600_000, T - 60_000, True),
    ],
)
def test_a_store_on_this_machine_may_hold_a_state_no_longer_than_it_takes_to_delete_it(
    copy: Copy, lives: bool, deleted: int | None, until: int | None, wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(verification, "find_copies", lambda *arguments: asked.append(arguments) or [copy])
    settings = Settings(state_dir=FOLDER, app_id="mine")
    (held,) = verification.local_holdings(settings, Proof("anna", lives=lives, deleted=deleted), T)
    assert (held.where, held.until, held.problem is not None) == (str(FOLDER), until, wrong)
    assert asked == [(FOLDER / "mine", b"anna", settings.state_keep_s)]


@pytest.mark.parametrize("problem", [None, "live: no erasure of him is in the log; run `driftline erase` for him"])
def test_a_store_may_hold_a_state_as_long_as_the_changelog_may(
    problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who was never erased did not come back either."""
    monkeypatch.setattr(verification, "find_copies", lambda *_: [Copy(FOLDER, 0, True, None)])
    replaced = Holding("state", "replaced states", 1, (0, 1), T, problem="too long")
    proof = Proof(
        "anna", lives=True, holdings=[replaced, Holding("state", "current state", 1, (0, 3), None, problem=problem)]
    )
    (held,) = verification.local_holdings(Settings(state_dir=FOLDER), proof, T)
    assert (held.until, held.problem) == (None, problem)


def test_a_store_that_cannot_be_read_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object) -> list[Copy]:
        raise StoreDamaged("no such file")

    monkeypatch.setattr(verification, "find_copies", damaged)
    (held,) = verification.local_holdings(Settings(state_dir=FOLDER), Proof("anna"), T)
    assert "no such file" in (held.problem or "")


@pytest.mark.parametrize(
    ("user", "text", "found"),
    [
        ("anna", b"to anna.", True),
        ("anna", b"joanna annab anna-b anna_1", False),
        ("é", '{"user": "é"'.encode(), True),
        ("é", b'{"user": "\\u00e9"', True),
        ("a.b@c d", b"from a.b@c d!", True),
        ("a.b@c d", b"from xa.b@c d!", False),
        ('say "hi"', b'{"user": "say \\"hi\\""', True),
    ],
)
def test_an_id_is_found_as_a_whole_word_however_it_is_written(user: str, text: bytes, found: bool) -> None:
    assert Mentions([user, "other"]).somewhere([text]) == ({user: "maybe"} if found else {})


def test_an_escaped_id_in_a_message_is_the_id() -> None:
    assert Mentions(["é"]).named(b'{"user": "\\u00e9"}', expected=True) == {"é": "user"}
    assert Mentions(["é"]).named(b'{"user": "e", "item": "\\u00e9"}', expected=True) == {}
