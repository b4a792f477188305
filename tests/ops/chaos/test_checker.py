"""The checker: topics in order pass, and everything that is planted is found, under its own name and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streams.state import PartitionState, UserState, encode_state
from tests.ops.chaos.topic_contents import Contents, FakeRecord, entry, event, letter, outcome, slate


def test_topics_in_order_pass() -> None:
    found = Contents().check()
    assert not any(found.wrong().values()), found.wrong()
    account = found.account
    assert (account.events, account.slates, account.coalesced, account.erased, account.dead_letters) == (8, 5, 1, 1, 1)
    assert found.outcome_count == 3


def test_what_a_batch_closes_of_a_user_whom_it_erases_may_be_missing() -> None:
    contents = Contents()
    erase_later(contents)
    contents.learned = 3
    assert contents.wrong() == {}
    contents.slates[3:4] = []
    contents.slates[-1] = ("u2", [5, 8])
    contents.decisions.remove("0-5")
    assert contents.wrong() == {}
    del contents.outcomes[3]
    assert contents.wrong() == {}


def lose_a_slate(on: Contents) -> None:
    del on.slates[4], on.decisions[3], on.states[b"u3"]
    on.states[b"u3"] = [1, 1, 6, 70_000, entry("i3", 70_000), b"", Contents().states[b"u3"][6], [], None, b""]


def lose_a_coalesced_event(on: Contents) -> None:
    on.slates[2]["covers"] = [4]


def lose_an_erasure(on: Contents) -> None:
    del on.slates[3]


def double_a_slate(on: Contents) -> None:
    on.slates.append(slate("u3", [6]))
    on.decisions.append("0-6")


def answer_an_event_twice(on: Contents) -> None:
    on.slates[5] = slate("u1", [4, 7])


def lose_a_decision(on: Contents) -> None:
    on.decisions.pop()


def swap_two_slates(on: Contents) -> None:
    on.slates[0], on.slates[2] = on.slates[2], on.slates[0]


def interleave(on: Contents) -> None:
    on.slates[0], on.slates[2] = slate("u1", [0, 4]), slate("u1", [2])
    on.decisions[0:3:2] = ["0-4", "0-2"]
    on.outcomes[0:2] = [outcome("u1", "0-4", 4_000, 64_000), outcome("u1", "0-2", 3_000, 63_000)]


def unsorted_covers(on: Contents) -> None:
    on.slates[2] = slate("u1", [4, 2], cause=4)


def answer_what_is_not_there(on: Contents) -> None:
    on.slates[5] = slate("u1", [7, 99], cause=7)


def answer_another_users_event(on: Contents) -> None:
    on.slates[4], on.slates[2] = slate("u3", [2, 6]), slate("u1", [4])


def double_an_outcome(on: Contents) -> None:
    on.outcomes.append(on.outcomes[0])
    on.learned = 3


def outcome_of_an_open_slate(on: Contents) -> None:
    on.outcomes.append(outcome("u3", "0-6", 70_000, 130_000))


def lose_an_outcome(on: Contents) -> None:
    del on.outcomes[1]
    on.learned = 2


def lose_an_external_outcome(on: Contents) -> None:
    del on.outcomes[2]
    on.learned = 2


def leave_a_window_open(on: Contents) -> None:
    on.states[b"u1"][7] = [["0-4", 0, 0, [], False], *on.states[b"u1"][7]]
    del on.outcomes[1]
    on.learned = 2


def lose_the_outcome_before_an_erasure(on: Contents) -> None:
    erase_later(on)
    del on.outcomes[3]
    on.learned = 3


def erase_later(on: Contents) -> None:
    """Of u2: the slate 0-1 is closed by his event 5, at 65,000; his erasure is event 8."""
    on.events[5] = event(5, "u2", "request", 65_000)
    on.events.append(event(8, "u2", "erase", 101_000))
    on.slates[3] = slate("u2", [5])
    on.slates.append(("u2", [8]))
    on.decisions.append("0-5")
    on.outcomes.append(outcome("u2", "0-1", 2_000, 62_000))
    on.states[b""] = [1, 101_000]


def outcome_after_the_erasure(on: Contents) -> None:
    on.outcomes.append(outcome("u2", "0-1", 2_000, 62_000))


def outcome_of_no_slate(on: Contents) -> None:
    on.outcomes.append(outcome("u1", "0-2", 3_000, 63_000))


def outcome_at_the_wrong_time(on: Contents) -> None:
    on.outcomes[0]["closed"] = 61_001


def lose_a_dead_letter(on: Contents) -> None:
    on.letters.clear()


def dead_letter_a_good_event(on: Contents) -> None:
    on.letters.append(letter(7, b"u1", b"{}", "handler_error"))
    del on.slates[5], on.decisions[4]
    on.states[b"u1"][7] = []


def dead_letter_for_another_reason(on: Contents) -> None:
    on.letters[0] = letter(3, b"u1", b"{", "schema")


def dead_letter_other_bytes(on: Contents) -> None:
    on.letters[0] = letter(3, b"u1", b"{ ", "malformed_json")


def learn_an_outcome_twice(on: Contents) -> None:
    on.learned = 4


def count_an_event_twice(on: Contents) -> None:
    on.states[b"u3"][1] = 2


def wrong_offset(on: Contents) -> None:
    on.states[b"u3"][2] = 5


def forget_an_event(on: Contents) -> None:
    on.states[b"u1"][4] = entry("i2", 3_000, 2.5, 1)


def another_weight(on: Contents) -> None:
    on.states[b"u3"][4] = entry("i3", 70_000, 1.5)


def forget_an_id(on: Contents) -> None:
    on.states[b"u1"][6] = on.states[b"u1"][6][8:]


def no_state(on: Contents) -> None:
    on.states[b"u3"] = None
    on.slates[4]["user"] = "u3"


def bring_back_the_erased(on: Contents) -> None:
    on.states[b"u2"] = [1, 0, 1, 0, b"", b"", b"", [], None, b""]


def wrong_watermark(on: Contents) -> None:
    on.states[b""] = [1, 70_000]


PLANTED: list[tuple[Callable[[Contents], None], dict[str, int]]] = [
    (lose_a_slate, {"lost": 1}),
    (lose_a_coalesced_event, {"lost": 1}),
    (lose_an_erasure, {"lost": 1}),
    (double_a_slate, {"duplicate_slates": 1}),
    (answer_an_event_twice, {"duplicate_slates": 1}),
    (lose_a_decision, {"wrong_decisions": 1}),
    (swap_two_slates, {"out_of_order": 1}),
    (interleave, {"out_of_order": 1}),
    (unsorted_covers, {"out_of_order": 1, "invented": 1}),
    (answer_what_is_not_there, {"invented": 2}),
    (answer_another_users_event, {"invented": 1}),
    (double_an_outcome, {"duplicate_outcomes": 1}),
    (outcome_of_an_open_slate, {"duplicate_outcomes": 1}),
    (lose_an_outcome, {"missing_outcomes": 1}),
    (lose_an_external_outcome, {"missing_outcomes": 1}),
    (leave_a_window_open, {"missing_outcomes": 1}),
    (lose_the_outcome_before_an_erasure, {"missing_outcomes": 1}),
    (outcome_after_the_erasure, {"invented_outcomes": 1}),
    (outcome_of_no_slate, {"invented_outcomes": 1}),
    (outcome_at_the_wrong_time, {"invented_outcomes": 1}),
    (lose_a_dead_letter, {"lost": 1, "wrong_dead_letters": 1}),
    (dead_letter_a_good_event, {"wrong_dead_letters": 1}),
    (dead_letter_for_another_reason, {"wrong_dead_letters": 1}),
    (dead_letter_other_bytes, {"wrong_dead_letters": 1}),
    (learn_an_outcome_twice, {"wrong_estimator": 1}),
    (count_an_event_twice, {"wrong_states": 1}),
    (wrong_offset, {"wrong_states": 1}),
    (forget_an_event, {"wrong_states": 1}),
    (another_weight, {"wrong_states": 1}),
    (forget_an_id, {"wrong_states": 1}),
    (no_state, {"wrong_states": 1, "missing_outcomes": 1}),
    (bring_back_the_erased, {"wrong_states": 1}),
    (wrong_watermark, {"wrong_states": 1}),
]


@pytest.mark.parametrize(("plant", "wrong"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_what_is_planted_is_found(plant: Callable[[Contents], None], wrong: dict[str, int]) -> None:
    contents = Contents()
    plant(contents)
    assert contents.wrong() == wrong


def test_a_finding_says_where_and_whose() -> None:
    contents = Contents()
    lose_a_coalesced_event(contents)
    (finding,) = contents.check().lost
    assert str(finding) == "partition 0, offset 2, user u1: event without an answer"


def test_an_event_that_the_sender_does_not_know_is_named() -> None:
    contents = Contents()
    contents.events.append(FakeRecord("events", 8, b"u1", b"[]"))
    contents.letters.append(letter(8, b"u1", b"[]", "schema"))
    assert contents.wrong() == {"wrong_dead_letters": 1, "invented": 1}


def test_the_layout_of_a_state_is_the_workers() -> None:
    """It is written down twice on purpose; here the two meet."""
    contents = Contents()
    ring, ids = contents.states[b"u3"][4], contents.states[b"u3"][6]
    checker = contents.checker()
    checker.states[0, b"u3"] = encode_state(UserState(events=1, offset=6, last_time=70_000, ring=ring, ids=ids))
    checker.states[0, b""] = encode_state(PartitionState(watermark=100_000))
    assert not checker.findings().wrong_states
