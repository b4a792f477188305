"""What is let in, what is turned away, and in which words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.contracts import Erase, Impression, Interaction, Item, Request, encode, item_text
from streams.validation import BadMessage, EventRules, cloud_event, decode_event, decode_item

RULES = EventRules(actions=("view", "rate"))
NOW = 1_700_000_000_000


@pytest.mark.parametrize(
    "event",
    [
        Interaction("u", "i", NOW, "rate", 4.5, "e1", "0-7"),
        Impression("u", NOW, ["a", "b"], "0-7"),
        Request("u", NOW, "e2"),
        Erase("u", NOW),
    ],
)
def test_every_kind_comes_through(event: Interaction) -> None:
    assert decode_event(b"u", encode(event), NOW, RULES) == event


def test_defaults_are_a_view_of_weight_one() -> None:
    event = decode_event(b"u", b'{"kind":"interaction","user":"u","item":"i","time":1700000000000}', NOW, RULES)
    assert event == Interaction("u", "i", NOW, "view", 1.0, None, None)


def test_fields_that_nobody_knows_are_ignored() -> None:
    value = b'{"kind":"request","user":"u","time":1700000000000,"colour":"red"}'
    assert decode_event(b"u", value, NOW, RULES) == Request("u", NOW)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user": 7}, "user"),
        ({"item": "x" * 300}, "item"),
        ({"item": "é" * 200}, "item has 400 bytes; expected 1 to 256"),
        ({"time": 1.5}, "time"),
        ({"time": NOW + 600_001}, "600001 ms after it arrived"),
        ({"time": 1_700_000_000}, "milliseconds"),
        ({"action": "lick"}, "expected one of view, rate"),
        ({"weight": -1}, "weight"),
        ({"weight": 1e300}, "weight"),
        ({"kind": "dance"}, "expected one of interaction, impression, request, erase"),
        ({"id": ""}, "id"),
        ({"group": ""}, "group"),
        ({"group": "x" * 65}, "group"),
    ],
)
def test_a_bad_event_is_turned_away_by_name_value_and_expectation(change: dict[str, object], words: str) -> None:
    good = {"kind": "interaction", "user": "u", "item": "i", "time": NOW}
    with pytest.raises(BadMessage, match=words.replace("(", "\\(")):
        decode_event(b"u", json.dumps(good | change).encode(), NOW, RULES)


@pytest.mark.parametrize("key", [None, b"", b"v"])
def test_the_key_must_be_the_user_since_it_decides_the_order(key: bytes | None) -> None:
    with pytest.raises(BadMessage) as error:
        decode_event(key, encode(Request("u", NOW)), NOW, RULES)
    assert error.value.reason == "wrong_key"


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(value: bytes) -> None:
    with pytest.raises(BadMessage):
        decode_event(b"u", value, NOW, RULES)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["kind", "user", "item", "time", "x"]), inner),
        max_leaves=10,
    )
)
def test_no_json_raises_anything_else(value: object) -> None:
    try:
        decode_event(b"u", json.dumps(value).encode(), NOW, RULES)
    except BadMessage as error:
        assert error.reason


def test_a_deep_nesting_is_malformed() -> None:
    with pytest.raises(BadMessage):
        decode_event(b"u", b'{"x":' + b"[" * 100_000, NOW, RULES)


def test_cloud_events_envelopes_are_accepted_and_never_required() -> None:
    assert cloud_event([("traceparent", b"00-1")]) is None
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"7"), ("ce_source", b"/shop"), ("ce_type", b"click")]
    envelope = cloud_event(headers)
    assert envelope is not None and (envelope.id, envelope.source, envelope.type) == ("7", "/shop", "click")
    with pytest.raises(BadMessage, match="expected 1"):
        cloud_event([("ce_specversion", b"2.0")])
    with pytest.raises(BadMessage, match="UTF-8"):
        cloud_event([("ce_id", b"\xff")])


def test_items_are_checked_like_events() -> None:
    item = Item("i1", "A title", categories=["war"], year=1990)
    assert decode_item(b"i1", encode(item)) == item
    with pytest.raises(BadMessage, match="year"):
        decode_item(b"i1", b'{"item":"i1","title":"t","year":-4}')
    with pytest.raises(BadMessage, match="key"):
        decode_item(b"i2", encode(item))


def test_the_text_of_an_item() -> None:
    assert item_text(Item("i", "Alien", "A crew.", ["horror", "scifi"], 1979)) == "Alien (1979). horror, scifi. A crew."
    assert item_text(Item("i", "Alien (1979)", year=1979)) == "Alien (1979)"
