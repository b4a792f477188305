"""What is remembered of a user, and what makes room for what."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.state import (
    SCHEMA_VERSION,
    OpenSlate,
    PartitionState,
    StateLimits,
    UnknownStateVersion,
    UserState,
    decode_partition,
    decode_user,
    encode_state,
    id_hash,
    item_groups,
    waits,
)

LIMITS = StateLimits(events=4, seen=3, event_ids=2, open_slates=2, outcome_window_ms=100)


def filled(*items: str) -> UserState:
    state = UserState()
    for time, item in enumerate(items):
        state.push(id_hash(item), time, 1.5, 3, LIMITS)
    return state


def hashes(*items: str) -> list[int]:
    return [int.from_bytes(id_hash(item), "little") for item in items]


def test_the_ring_keeps_the_last_events_in_order() -> None:
    state = filled("a", "b", "c")
    history = state.history()
    assert history["item"].tolist() == hashes("a", "b", "c")
    assert history["time"].tolist() == [0, 1, 2]
    assert set(history["weight"].tolist()) == {1.5} and set(history["action"].tolist()) == {3}


def test_what_falls_off_the_ring_is_remembered_as_seen_and_then_forgotten_oldest_first() -> None:
    state = filled(*"abcdefghi")
    assert state.history()["item"].tolist() == hashes(*"fghi")
    assert state.seen_before().tolist() == hashes(*"cde")
    assert state.events == 9


def test_an_item_seen_twice_is_remembered_once() -> None:
    assert filled(*"aabcdaef").seen_before().tolist() == hashes("a", "b", "c")


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40))
def test_ring_and_seen_agree_with_a_plain_list(items: list[str]) -> None:
    state = filled(*items)
    assert state.history()["item"].tolist() == hashes(*items[-4:])
    dropped = dict.fromkeys(items[:-4]) if len(items) > 4 else {}
    assert set(state.seen_before().tolist()) <= set(hashes(*dropped))
    assert len(state.seen_before()) <= 3


def test_event_ids_are_remembered_up_to_the_limit() -> None:
    state = UserState()
    assert [state.remember_id(name, LIMITS) for name in ("e1", "e2", "e2", "e3", "e1")] == [
        True,
        True,
        False,
        True,
        True,  # e1 was forgotten: two are kept
    ]


def test_a_hash_is_found_only_where_one_begins() -> None:
    state = UserState()
    assert state.remember_id("x", LIMITS)
    shifted = b"\0" * 4 + id_hash("y") + b"\0" * 4
    state.ids = shifted
    assert state.remember_id("y", LIMITS)


def slate(name: str, time: int, *items: str) -> OpenSlate:
    return OpenSlate(name, time, time, list(items))


def test_an_interaction_goes_to_the_newest_slate_that_holds_the_item_or_to_the_named_one() -> None:
    state = UserState(slates=[slate("s1", 0, "a", "b"), slate("s2", 1, "b", "c")])
    state.credit("b", 1.0, None)
    state.credit("a", 2.0, None)
    state.credit("b", 4.0, "s1")
    state.credit("z", 8.0, None)
    state.credit("c", 8.0, "s1")
    assert [one.rewards for one in state.slates] == [[2.0, 4.0], [1.0, 0.0]]


def test_slates_close_when_their_window_is_over_and_make_room_when_there_are_too_many() -> None:
    state = UserState()
    assert state.open(slate("s1", 0, "a"), LIMITS) == []
    assert state.open(slate("s2", 50, "a"), LIMITS) == []
    assert [one.slate for one in state.open(slate("s3", 60, "a"), LIMITS)] == ["s1"]
    assert [one.slate for one in state.close_due(149, LIMITS)] == []
    assert [one.slate for one in state.close_due(150, LIMITS)] == ["s2"]
    assert [one.slate for one in state.slates] == ["s3"]


def test_encoding_gives_the_state_back() -> None:
    state = filled(*"abcdef")
    state.remember_id("e", LIMITS)
    state.open(slate("s", 3, "a", "b"), LIMITS)
    state.slates[0].credit("b", 2.5)
    assert decode_user(encode_state(state)) == state
    assert decode_user(None) == UserState()
    assert decode_partition(None).watermark == 0


def test_decoding_makes_a_copy() -> None:
    data = encode_state(filled("a"))
    decode_user(data).push(id_hash("b"), 1, 1.0, 0, LIMITS)
    assert decode_user(data).events == 1


def test_a_state_of_a_newer_version_is_refused() -> None:
    newer = msgspec.msgpack.encode([SCHEMA_VERSION + 1, 1, 1])
    with pytest.raises(UnknownStateVersion, match="upgrade"):
        decode_user(newer)


def test_a_state_of_version_1_is_read_and_written_as_the_present_one() -> None:
    opened = ["0-7", 5, 5, ["a", "b"], False, True, [0.5, 0.5], None, None, [], None, 20, 3, "r", None, [0.0, 1.0]]
    old = msgspec.msgpack.encode([1, 3, 7, 99, filled("a").ring, b"", b"", [opened]])
    state = decode_user(old)
    assert (state.events, state.group) == (3, None)
    assert (state.slates[0].rewards, state.slates[0].uniform) == ([0.0, 1.0], None)
    assert waits(old) == waits(encode_state(state))
    assert msgspec.msgpack.decode(encode_state(state))[0] == SCHEMA_VERSION


def test_chosen_columns_have_the_group_that_names_them() -> None:
    assert item_groups({"g": [2, 5], "h": [0]}, [5, 1, 0]) == ["g", None, "h"]
    assert item_groups({}, [5, 1]) == []


def test_history_can_be_read_by_numpy_without_a_copy() -> None:
    history = filled(*"abcd").history()
    assert history.dtype.itemsize == 21
    assert not history.flags.owndata


def test_a_limit_of_none_remembers_nothing() -> None:
    limits = StateLimits(events=2, seen=0, event_ids=0)
    state = UserState()
    for time, item in enumerate("abcde"):
        state.push(id_hash(item), time, 1.0, 0, limits)
        state.remember_id(item, limits)
    assert (state.seen, state.ids) == (b"", b"")


open_slates = st.builds(
    OpenSlate,
    slate=st.text(max_size=5),
    time=st.integers(0, 2**40),
    opened=st.integers(0, 2**40),
    items=st.lists(st.text(max_size=5), max_size=3),
    rewards=st.lists(st.floats(0, 1), max_size=3),
)


@given(st.binary(max_size=300), st.lists(open_slates, max_size=4))
def test_open_windows_are_known_without_reading_the_rest(ring: bytes, slates: list[OpenSlate]) -> None:
    state = encode_state(UserState(events=7, ring=ring, seen=b"\x90" * 8, slates=slates))
    opened = waits(state)
    first = None if opened is None else int.from_bytes(opened, "big", signed=True)
    assert first == min((one.opened for one in slates), default=None)


def test_a_partition_waits_for_nothing_and_a_newer_state_is_not_guessed_at() -> None:
    assert waits(encode_state(PartitionState(watermark=7))) is None
    with pytest.raises(UnknownStateVersion):
        waits(encode_state(UserState(version=SCHEMA_VERSION + 1)))
