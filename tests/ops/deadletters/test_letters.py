"""A letter is read whatever it holds, and a note names what it names."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.deadletters.letters import Filter, Letter, Source, letter_of, note, noted
from streams.deadletters import dead_letter_headers


@dataclass
class Record:
    headers: tuple[tuple[str, bytes | None], ...] = ()
    key: bytes | None = b"k"
    value: bytes | None = b"v"
    topic: str = "events.dlq"
    partition: int = 1
    offset: int = 9
    timestamp: int = 5_000


def test_a_letter_as_the_engine_writes_it() -> None:
    own = [("caf\udce9\\", b"1"), ("trace", None)]
    record = Record(tuple(dead_letter_headers(own, "schema", "weight is -1", "events", 3, 41, 7)))  # type: ignore[arg-type]
    letter = letter_of(record)
    assert letter == Letter(
        partition=1,
        offset=9,
        time=5_000,
        reason="schema",
        message="weight is -1",
        source=Source("events", 3, 41, 7),
        key=b"k",
        value=b"v",
        headers=((r"caf\xe9\\", b"1"), ("trace", None)),  # type: ignore[arg-type]
        truncated=None,
        escaped=frozenset({0}),
    )
    assert letter.original_names() == [b"caf\xe9\\", b"trace"]


headers = st.lists(
    st.tuples(
        st.sampled_from(["reason", "message", "source-topic", "source-partition", "source-offset", "escaped", "x"]),
        st.none() | st.binary(max_size=30),
    )
)


@given(headers, st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=20))
def test_whatever_its_headers_hold(found: list[tuple[str, bytes | None]], key: bytes, value: bytes) -> None:
    letter = letter_of(Record(tuple((f"driftline-{name}", text) for name, text in found), key, value))
    assert letter is not None and (letter.key, letter.value, letter.headers) == (key, value, ())
    assert Filter().takes(letter) and letter.size >= 0


@given(st.sets(st.integers(0, 200), min_size=1))
def test_a_note_names_the_letters_and_no_others(offsets: set[int]) -> None:
    key, value, said = note(sorted(offsets))
    record = Record(tuple(said), key, value, offset=201)
    assert letter_of(record) is None
    assert set(noted(record)) == offsets


def test_a_note_names_nothing_behind_it() -> None:
    key, value, said = note([8, 9, 10, 2**60])
    assert list(noted(Record(tuple(said), key, value, offset=9))) == [8, 9]


def test_a_letter_is_no_note() -> None:
    assert list(noted(Record((("driftline-reason", b"schema"),), value=b'{"replayed":[[1,2]]}'))) == []


@pytest.mark.parametrize("value", [None, b"", b"{}", b"[]", b'{"replayed":[[1]]}', b"\xff"])
def test_a_note_that_cannot_be_read_is_an_error(value: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"the note at events.dlq 1 9 cannot be read"):
        list(noted(Record((("driftline-replayed", b"1"),), value=value)))


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (Filter(reason="schema"), True),
        (Filter(reason="envelope"), False),
        (Filter(key=b"k"), True),
        (Filter(key=b"K"), False),
        (Filter(since=5_000, until=5_001), True),
        (Filter(since=5_001), False),
        (Filter(until=5_000), False),
        (Filter(partition=1, offset=9), True),
        (Filter(partition=0), False),
        (Filter(partition=1, offset=8), False),
    ],
)
def test_filters(wanted: Filter, takes: bool) -> None:
    letter = letter_of(Record((("driftline-reason", b"schema"),)))
    assert letter is not None and wanted.takes(letter) is takes
