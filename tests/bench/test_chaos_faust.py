"""The checker of the Faust job: an account in order passes; losses, doubled answers and wrong counts are found."""

from __future__ import annotations

import json
from typing import Any

from bench.chaos_faust import Book
from tests.ops.chaos.topic_contents import FakeRecord

KEYS = [b"u1", b"u2", b"u1"]


def figures(answers: list[int], counts: dict[str, int], committed: int = 3) -> dict[str, Any]:
    book = Book()
    for offset, key in enumerate(KEYS):
        book.event(FakeRecord("events", offset, key, b"{}"))
    for at, offset in enumerate(answers):
        value = json.dumps({"covers": [offset]}).encode().ljust(100)
        key = KEYS[offset] if offset < len(KEYS) else b"?"
        book.answer(FakeRecord("recommendations", at, key, value, timestamp=at))
    for at, (key, count) in enumerate(counts.items()):
        book.count(FakeRecord("changelog", at, json.dumps(key).encode(), str(count).encode()))
    return book.figures({0: committed})


def test_an_account_in_order() -> None:
    found = figures([0, 1, 2], {"u1": 2, "u2": 1})
    wrong = ("lost", "duplicate_slates", "invented", "out_of_order", "wrong_states")
    assert (found["events"], found["slates"]) == (3, 3)
    assert [found[name] for name in wrong] == [0, 0, 0, 0, 0]


def test_what_is_wrong_is_found() -> None:
    found = figures([2, 0, 2, 7], {"u1": 3})
    assert (found["lost"], found["duplicate_slates"], found["invented"], found["out_of_order"]) == (1, 1, 1, 1)
    assert (found["over_counted_keys"], found["under_counted_keys"], found["wrong_states"]) == (1, 1, 2)
    assert found["counted_too_often"] == 1
    assert found["findings"]["lost"] == ["partition 0, offset 1"]


def test_what_nobody_has_committed_is_not_lost_yet() -> None:
    found = figures([0], {"u1": 1}, committed=2)
    assert (found["lost"], found["unanswered"]) == (1, 1)
