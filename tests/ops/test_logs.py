"""What is said over and over is said once in a while."""

from __future__ import annotations

import logging

from ops.logs import Repeats


def test_a_message_is_let_through_once_in_a_while_and_says_how_often_it_was_not() -> None:
    now = [0.0]
    repeats = Repeats(10, lambda: now[0])

    def said(name: str, text: str, *arguments: object) -> str | None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, text, arguments, None)
        return record.getMessage() if repeats.filter(record) else None

    assert said("a", "cannot connect to %s", "one") == "cannot connect to one"
    assert [said("a", "cannot connect to %s", number) for number in range(3)] == [None] * 3
    assert said("a", "something else") == "something else"
    assert said("b", "cannot connect to %s", "two") == "cannot connect to two"
    now[0] = 10.0
    assert said("a", "cannot connect to %s", "three") == "cannot connect to three (and 3 more since the last time)"
    now[0] = 20.0
    assert said("a", "cannot connect to %s", "four") == "cannot connect to four"
