"""What a letter holds was written by somebody unknown, and a terminal obeys what it is shown."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.deadletters.letters import Letter
from ops.deadletters.overview import Entry, Overview, Tally
from ops.deadletters.printing import described, hexdump, plain, print_overview, safe, value_lines, when, whole


def letter(value: bytes | None, **fields: object) -> Letter:
    usual: dict[str, object] = {"reason": "schema", "message": "m", "source": None, "key": b"k", "headers": ()}
    place = {"partition": 0, "offset": 7, "time": 0, "truncated": None, "escaped": frozenset()}
    return Letter(value=value, **(place | usual | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        (b"caf\xe9\x00", r"caf\xe9\x00"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),  # written backwards from there on
        ("café 💥 日本", "café 💥 日本"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\ud800", r"\ud800"),
        (None, "-"),
    ],
)
def test_text_is_shown_and_not_obeyed(text: str | bytes | None, shown: str) -> None:
    assert safe(text) == shown


@given(st.text() | st.binary(), st.integers(1, 40))
def test_whatever_it_is_it_fits_and_is_printable(text: str | bytes, width: int) -> None:
    assert safe(text, width).isprintable() and len(safe(text, width)) <= width


@given(st.binary(max_size=200), st.binary(max_size=50), st.text(max_size=50))
def test_no_line_about_a_letter_holds_a_control_character(value: bytes, key: bytes, text: str) -> None:
    hostile = letter(value, key=key, message=text, reason=text, headers=((text, key),))
    assert all(line.isprintable() for line in described("events.dlq", Entry(hostile, 1)))


@given(st.binary(max_size=200), st.binary(max_size=50), st.text(max_size=50))
def test_programs_get_every_byte_back(value: bytes, key: bytes, text: str) -> None:
    hostile = letter(value, key=key, message=text, headers=(("h", key), ("null", None)))
    told = json.loads(json.dumps(whole("events.dlq", Entry(hostile, 1))))
    assert base64.b64decode(told["value_base64"]) == value and base64.b64decode(told["key_base64"]) == key
    assert [one["name"] for one in told["headers"]] == ["h", "null"]
    assert base64.b64decode(told["headers"][0]["value_base64"]) == key and told["headers"][1]["value_base64"] is None


def test_json_is_indented_and_nothing_of_it_lost() -> None:
    lines = list(value_lines(letter(b'{"user":"\\u001b[2J","user":"b","n":1.50,"big":1e999,"x":"\xc3\xa9"}')))
    assert lines[0] == "{" and lines[-1] == "}"
    assert [line.strip() for line in lines[1:-1]] == [
        r'"user": "\u001b[2J",',
        '"user": "b",',
        '"n": 1.50,',
        '"big": 1e999,',
        '"x": "é"',
    ]


def test_a_value_that_is_no_json_is_shown_as_bytes_with_offsets() -> None:
    assert list(value_lines(letter(b"\x00\x1b[2J not JSON, longer"))) == [
        "00000000  00 1b 5b 32 4a 20 6e 6f  74 20 4a 53 4f 4e 2c 20  |..[2J not JSON, |",
        "00000010  6c 6f 6e 67 65 72                                 |longer|",
    ]
    assert list(value_lines(letter(None))) == ["(null)"]
    assert list(value_lines(letter(b""))) == ["(empty)"]
    assert next(iter(value_lines(letter(b"[" * 100_000)))).startswith("00000000  5b 5b")
    assert list(hexdump(bytes(100), limit=16))[-1] == "… 84 of 100 bytes more: --raw writes all of them"


@pytest.mark.parametrize(
    ("millis", "text"),
    [(0, "1970-01-01 00:00:00"), (-1, "1969-12-31 23:59:59"), (2**62, f"{2**62} ms"), (None, "-")],
)
def test_times(millis: int | None, text: str) -> None:
    assert when(millis) == text


def test_as_json_a_key_that_is_no_text_is_there_whole() -> None:
    found = plain("events.dlq", Entry(letter(None, key=b"\xff\x1b"), 12, replayed=True))
    assert (found["key"], found["key_base64"], found["bytes"], found["replayed"]) == ("\\xff\x1b", "/xs=", 12, True)


@pytest.mark.parametrize("columns", [80, 200])
def test_a_message_has_room_however_wide_the_terminal_is(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    one = letter(b"", key=b"k" * 60, reason="unknown_action", message="action is 'steal'; expected one of view, click")
    print_overview("events.dlq", Overview({"unknown_action": Tally(1)}, [Entry(one, 1)]))
    printed = capsys.readouterr().out
    assert "action is 'steal'; expected one of view, click" in printed
    assert "0 7" in printed and "k" * 19 + "…" in printed
